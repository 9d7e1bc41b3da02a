"""Settings of django-post_office."""

import os
import tempfile

from benchmarks.shop.settings import *  # noqa: F403
from benchmarks.shop.settings import INSTALLED_APPS, TEMPLATES

INSTALLED_APPS = ["django.contrib.contenttypes", *INSTALLED_APPS, "post_office"]
TEMPLATES = [{**TEMPLATES[0], "NAME": "django"}]
POST_OFFICE = {
    # At most a tenth of the mails, because it renders a batch before it sends its first mail: the
    # clock starts at the first tenth.
    "BATCH_SIZE": int(os.environ.get("BENCH_BATCH", "500")),
    "THREADS_PER_PROCESS": int(os.environ.get("BENCH_THREADS", "5")),
    "LOG_LEVEL": 0,
    "LOCK_FILE_NAME": f"{tempfile.gettempdir()}/benchmark-post-office",
}
LOGGING = {"version": 1, "loggers": {"post_office": {"level": "WARNING"}}}

"""Django settings that all Django systems share. Each adds its own apps in a module of its own.

The harness says where its servers listen: BENCH_REDIS, BENCH_POSTGRES and BENCH_SMTP are ports on
127.0.0.1, BENCH_DATABASE is the name of a database.
"""

import os

SECRET_KEY = "only-for-benchmarks"
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["benchmarks.shop"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["BENCH_POSTGRES"],
        "NAME": os.environ["BENCH_DATABASE"],
        "USER": "postgres",
        "CONN_MAX_AGE": None,  # Django's default of 0 would connect anew for each job
    }
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
    }
]
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ["BENCH_SMTP"])
EMAIL_TIMEOUT = 30
DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"

REDIS_PORT = int(os.environ["BENCH_REDIS"])

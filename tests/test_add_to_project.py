"""The page "Add it to your project" is followed to the letter, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from notifications.testing.smtp_server import SmtpServer
from tests.servers import RedisServer

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/add-to-your-project.md").read_text()

# What every Django project has already, or what differs on the machine of a test.
BEFORE = """
import os
SECRET_KEY = "a-key-for-one-test-only-0123456789abcdef"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3",
                         "OPTIONS": {"transaction_mode": "IMMEDIATE"}}}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
AFTER = """
INSTALLED_APPS += ["django.contrib.auth", "django.contrib.contenttypes", "shop"]
for queue in RQ_QUEUES.values():
    queue["URL"] = os.environ["REDIS_URL"]
EMAIL_HOST, EMAIL_PORT = "127.0.0.1", int(os.environ["SMTP_PORT"])
NOTIFICATIONS["ENVIRONMENT"] = "test"
"""
MODELS = """
from django.conf import settings
from django.db import models

class Order(models.Model):
    number = models.CharField(max_length=20)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
"""
APPS = """
from django.apps import AppConfig

class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        import shop.signals
"""
USE = """
from django.contrib.auth.models import User
from django.db import transaction
from shop.models import Order
ann = User.objects.create_user("ann", email="ann@example.com")
with transaction.atomic():
    Order.objects.create(number="A-1001", customer=ann)
"""


def block(heading: str, number: int = 0) -> str:
    """A code block of the page, by the heading it stands under."""
    part = PAGE.split(f"## {heading}")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)[number]


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.sqlite_only
def test_who_follows_the_page_gets_a_mail(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    write(tmp_path, "settings.py", BEFORE + block("1. Settings") + AFTER)
    write(tmp_path, "shop/__init__.py", "")
    write(tmp_path, "shop/apps.py", APPS)
    write(tmp_path, "shop/models.py", MODELS)
    write(tmp_path, "shop/notifications.py", block("2. A kind of message"))
    write(tmp_path, "shop/signals.py", block("3. The fact"))
    templates = "shop/templates/notifications/order_confirmation"
    write(tmp_path, f"{templates}/email.subject.txt", "Your order {{ number }}")
    write(tmp_path, f"{templates}/email.txt", "Thank you for your order {{ number }}.")
    write(tmp_path, f"{templates}/email.html", "<p>Thank you for your order {{ number }}.</p>")
    with SmtpServer() as inbox:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "REDIS_URL": redis_server.url,
            "SMTP_PORT": str(inbox.port),
        }

        def run(*words: str) -> None:
            done = subprocess.run(
                [sys.executable, "-m", "django", *words],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr

        run("check")
        run("makemigrations", "shop", "-v0")
        run("migrate", "-v0")
        run("shell", "-v0", "-c", USE)
        run("rqworker", "--burst")
        [mail] = inbox.wait_for(1)
    assert mail.message["Subject"] == "Your order A-1001"
    assert mail.message["To"] == "ann@example.com"

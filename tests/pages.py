"""A page of the docs, followed to the letter in a project made for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent

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
EMAIL_HOST, EMAIL_PORT = "127.0.0.1", int(os.environ.get("SMTP_PORT", "1"))
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


def block(page: str, heading: str, number: int = 0) -> str:
    """A Python block of `docs/<page>`, by the heading it stands under."""
    part = (ROOT / "docs" / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)[number]


def build_wheel(folder: Path) -> Path:
    """The wheel of the package, made in `folder`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(folder: Path) -> Path:
    """A folder for PYTHONPATH into which the wheel is installed; what it needs is here already."""
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-index", "--no-deps", "--target", site, build_wheel(folder)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return site


class Project:
    """An empty folder that became a shop by following "Add it to your project".

    `site` is where the package is installed.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, site: Path, settings: str = ""
    ) -> None:
        page = "add-to-your-project.md"
        self.folder = folder
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": f"{folder}{os.pathsep}{site}",
            **environment,
        }
        self.write("settings.py", BEFORE + block(page, "1. Settings") + settings + AFTER)
        self.write("shop/__init__.py", "")
        self.write("shop/apps.py", APPS)
        self.write("shop/models.py", MODELS)
        self.write("shop/notifications.py", block(page, "2. A kind of message"))
        self.write("shop/signals.py", block(page, "3. The fact"))
        self.template("email.subject.txt", "Your order {{ number }}")
        self.template("email.txt", "Thank you for your order {{ number }}.")
        self.template("email.html", "<p>Thank you for your order {{ number }}.</p>")

    def write(self, name: str, text: str) -> None:
        """A file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def template(self, name: str, text: str, kind: str = "order_confirmation") -> None:
        """A template of a kind."""
        self.write(f"shop/templates/notifications/{kind}/{name}", text)

    def migrate(self) -> None:
        """The tables."""
        self.run("makemigrations", "shop", "-v0")
        self.run("migrate", "-v0")

    def run(self, *words: str) -> str:
        """`manage.py words`; what it printed."""
        return self.python("-m", "django", *words)

    def python(self, *words: str) -> str:
        """Python in the project; what it printed."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

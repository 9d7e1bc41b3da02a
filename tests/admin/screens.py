"""People who look at the admin, rows to look at, and addresses of pages."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth.models import Permission
from django.db import transaction
from django.test import Client
from django.urls import reverse

from notifications import jobs
from notifications.dispatch import notify
from notifications.models import DeadLetter, Notification, State
from notifications.muting import muted
from orders.models import User
from tests.scripted import ACCEPTED, REFUSED, Note, Script

BOB = "bob@example.com"


def staff(*permissions: str) -> Client:
    with muted():
        user = User.objects.create_user("staff", "staff@example.com", is_staff=True)
    grant(user, *permissions)
    return log_in(user)


def grant(user: User, *permissions: str) -> None:
    for permission in permissions:
        app, _dot, code = permission.rpartition(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app or "notifications", codename=code)
        )


def boss() -> Client:
    with muted():
        return log_in(User.objects.create_superuser("boss"))


def log_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def ask(to: str = BOB, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(Note, to=to, context={"order_id": 7}, **options)[0]


def letter(script: Script, to: str = BOB) -> DeadLetter:
    script.answer(to, REFUSED)
    row = ask(to)
    jobs.serve("note")
    script.answer(to, ACCEPTED)
    return DeadLetter.objects.get(notification=row)


def serve(row: Notification) -> Notification:
    """Serve the queue until `row` has ended."""
    until = time.monotonic() + 10
    while row.state == State.PENDING or row.state is None:
        assert time.monotonic() < until
        jobs.serve("note")
        row.refresh_from_db()
    return row


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:notifications_{model}_{page}", args=args)


def list_of(model: str) -> str:
    return url(model, "changelist")


def page_of(row: Any) -> str:
    return url(row._meta.model_name, "change", row.pk)


def text_of(client: Client, address: str, **query: str) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return answer.content.decode()

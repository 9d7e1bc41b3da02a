"""Who did what: lines of Django's LogEntry, on the row that it was done to.

Its module cannot be imported where the admin is not installed; what people do there, on the command
line, leaves no line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.contenttypes.models import ContentType
from django.db import models

from notifications.models import Hold, Notification

ADDITION, CHANGE, DELETION = 1, 2, 3  # flags of LogEntry

Person: TypeAlias = AbstractBaseUser | AnonymousUser | None  # nobody: a program did it


def audit(by: Person, subject: models.Model | None, flag: int, text: str) -> None:
    """Write down that `by` did something to `subject`; `flag` is one of LogEntry's."""
    if subject is not None:
        audit_all(by, [subject], flag, text)


def audit_all(by: Person, subjects: Sequence[models.Model], flag: int, text: str) -> None:
    """The same of many rows of one model, in one statement."""
    if subjects:
        names = [(str(subject.pk), str(subject)) for subject in subjects]
        _log(by, type(subjects[0]), names, flag, text)


def audit_queue(by: Person, queue: str, text: str) -> None:
    """The same of a queue, which is no row."""
    _log(by, Hold, [("", queue)], CHANGE, text)


def audit_person(by: Person, whom: str, text: str) -> None:
    """The same of the messages to somebody. `whom` is a key or a number, never an address: the line
    stays."""
    _log(by, Notification, [("", whom)], CHANGE, text)


def _log(
    by: Person, model: type[models.Model], names: Iterable[tuple[str, str]], flag: int, text: str
) -> None:
    if by is None or by.pk is None or not apps.is_installed("django.contrib.admin"):
        return
    entry = apps.get_model("admin", "LogEntry")
    content_type = ContentType.objects.get_for_model(model)
    entry._default_manager.bulk_create(
        entry(
            user_id=by.pk,
            content_type=content_type,
            object_id=object_id,
            object_repr=name[:200],
            action_flag=flag,
            change_message=text,
        )
        for object_id, name in names
    )

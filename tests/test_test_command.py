"""`notifications_test`: a real message, and what became of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connections

from notifications import inbox, jobs, operations
from notifications.kinds import SAMPLE, Kind, prepare
from notifications.models import DeadLetter, Notification, State
from notifications.muting import muted
from notifications.testing.smtp_server import Rule, SmtpServer
from orders.models import User
from tests.scripted import LOCKED, REFUSED, THEIRS, scripted
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mail(settings: Any) -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RECIPIENTS": ["*@example.com"]}
        yield server


def make_user(name: str = "ann", **fields: Any) -> User:
    with muted():
        return User.objects.create_user(name, f"{name}@example.com", **fields)


def run(*words: str, here: bool = True) -> str:
    out = StringIO()
    call_command("notifications_test", *words, *(["--here"] if here else []), stdout=out)
    return out.getvalue()


def run_json(*words: str, fails: str = "") -> dict[str, Any]:
    """What it prints for programs; with `fails`, also that it ends with 1 and says so."""
    out = StringIO()
    words = (*words, "--here", "--json")
    if not fails:
        call_command("notifications_test", *words, stdout=out)
    else:
        with pytest.raises(CommandError, match=fails) as failure:
            call_command("notifications_test", *words, stdout=out)
        assert failure.value.returncode == 1
    facts: dict[str, Any] = json.loads(out.getvalue())
    return facts


def test_a_mail_goes_out_and_its_way_is_told(mail: SmtpServer) -> None:
    printed = run("--channel", "email", "--to", "ann@example.com")
    [received] = mail.messages
    assert received.to == "ann@example.com"
    assert received.message["Subject"] == "Test message from localhost:8000"
    assert "If you can read it" in received.message.get_body(("plain",)).get_content()
    first, second = printed.splitlines()
    assert first.startswith("email to ann@example.com: sent after ")
    assert second.startswith("  attempt 1 by smtp: accepted, 250 ")


def test_programs_read_json(mail: SmtpServer) -> None:
    facts = run_json("--channel", "email", "--to", "ann@example.com", "--priority", "low")
    row = Notification.objects.get()
    assert row.priority == 3
    [attempt] = facts.pop("attempts")
    assert (attempt["number"], attempt["provider"], attempt["outcome"]) == (1, "smtp", "accepted")
    assert facts.pop("seconds") < 20
    assert facts == {
        "id": row.pk, "channel": "email", "kind": "notifications_test", "to": "ann@example.com",
        "state": "sent", "reason": "",
    }  # fmt: skip


@pytest.mark.parametrize(("language", "words"), [("de", "Ihre Bestellung"), ("en", "your order")])
def test_any_kind_can_be_sent_with_its_sample(mail: SmtpServer, language: str, words: str) -> None:
    run(
        *("--channel", "email", "--to", "ann@example.com"),
        *("--kind", "order_confirmation", "--language", language),
    )
    subject = str(mail.messages[0].message["Subject"])
    assert words in subject
    assert "7K2M-Q9XA" in subject


def test_a_kind_with_a_secret_sends_its_sample(mail: SmtpServer) -> None:
    run("--channel", "email", "--to", "ann@example.com", "--kind", "verification_code")
    assert "123456" in mail.messages[0].message.get_body(("plain",)).get_content()


def test_a_sample_among_real_messages_changes_neither() -> None:
    class Parcel(Kind):
        @classmethod
        def prepare(cls, batch: Any) -> Any:
            return [{"number": row.pk} for row in batch]

        @classmethod
        def sample(cls) -> Any:
            return {"number": "sample"}

    rows = [Notification(pk=number) for number in range(4)]
    rows[1].context = rows[3].context = dict(SAMPLE)
    assert [each["number"] for each in prepare(Parcel, rows)] == [0, "sample", 2, "sample"]
    assert prepare(Parcel, []) == []


def test_users_are_found_by_name_or_key(mail: SmtpServer) -> None:
    user = make_user()
    for name in ("ann", str(user.pk), "user:ann"):
        facts = run_json("--channel", "in_app", "--to", name)
        assert (facts["state"], facts["attempts"]) == ("delivered", [])
    assert inbox.unread_count(user) == 3
    run("--channel", "email", "--to", "user:ann")
    assert mail.messages[0].to == "ann@example.com"


def test_what_is_refused_is_told_and_is_dead_at_once(mail: SmtpServer) -> None:
    mail.rules[:] = [Rule("RCPT", "550 5.1.1 no such user here")]
    facts = run_json(
        "--channel", "email", "--to", "ann@example.com", fails="It did not go out: 550"
    )
    assert facts["state"] == "dead"
    assert facts["attempts"][0]["code"] == "550"
    assert DeadLetter.objects.count() == 1


def test_who_must_not_be_written_to_is_not(mail: SmtpServer) -> None:
    facts = run_json("--channel", "email", "--to", "ann@example.net", fails="does not allow")
    assert facts["state"] == "suppressed"
    assert mail.messages == []


def test_it_tries_again_if_told_to() -> None:
    with scripted() as script:
        script.answer("ann@example.com", THEIRS, THEIRS, REFUSED)
        facts = run_json(
            *("--channel", "note", "--to", "ann@example.com", "--retries", "3"),
            fails="no such user",
        )
    assert [each["code"] for each in facts["attempts"]] == ["503", "503", "550"]
    with scripted() as script:
        script.answer("ann@example.com", THEIRS)
        facts = run_json("--channel", "note", "--to", "ann@example.com", fails="down")
    assert len(facts["attempts"]) == 1


def test_a_held_provider_is_told_at_once() -> None:
    with scripted() as script:
        script.answer("ann@example.com", LOCKED)
        facts = run_json("--channel", "note", "--to", "ann@example.com", fails="bad password")
    assert (facts["state"], facts["attempts"][0]["outcome"]) == ("pending", "hold")
    assert facts["seconds"] < 10


def test_without_a_worker_it_says_what_is_missing() -> None:
    with scripted(), pytest.raises(CommandError, match="Does a worker serve") as failure:
        run("--channel", "note", "--to", "ann@example.com", "--seconds", "0.3", here=False)
    assert failure.value.returncode == 1
    assert Notification.objects.get().state == State.PENDING


def test_workers_deliver_it() -> None:
    def work() -> None:
        try:
            wait_until(Notification.objects.exists)
            jobs.serve("note")
        finally:
            connections.close_all()

    with scripted() as script:
        worker = threading.Thread(target=work)
        worker.start()
        printed = run("--channel", "note", "--to", "ann@example.com", here=False)
        worker.join()
    assert "attempt 1 by first: accepted, 250" in printed
    assert len(script.sent) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--channel", "pigeon", "--to", "x"], "invalid choice: 'pigeon'"),
        (["--channel", "email", "--to", "nowhere"], "it has no @"),
        (["--channel", "email", "--to", "a@example.com", "--kind", "nope"], "No kind named 'nope'"),
        (["--channel", "email", "--to", "a@example.com", "--language", "xx"], "invalid choice"),
        (["--channel", "email", "--to", "a@example.com", "--priority", "now"], "invalid choice"),
        (["--channel", "email", "--to", "a@example.com", "--retries", "-1"], "not be negative"),
        (["--channel", "email", "--to", "user:bob"], "There is no user 'bob'"),
        (["--channel", "in_app", "--to", "bob"], "There is no user 'bob'"),
        (["--channel", "email"], "--to"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    words: list[str], says: str
) -> None:
    with pytest.raises(CommandError, match=says) as failure:
        run(*words)
    assert failure.value.returncode == 2 or "Error" in str(failure.value)
    assert not Notification.objects.exists()


def test_who_sent_a_test_is_written_down() -> None:
    boss = make_user("boss")
    with scripted():
        row = operations.send_test("note", to="ann@example.com", by=boss)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (boss, str(row.pk))

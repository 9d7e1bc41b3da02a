"""What the app does by itself: copies of providers' lists, and tidying up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.test import override_settings

from notifications import jobs, kinds, operations, retention, suppressions, synchronising
from notifications.channels import whatsapp_registry
from notifications.channels.whatsapp import WhatsAppTemplate
from notifications.checks import check_templates
from notifications.kinds import Kind
from notifications.models import Attempt, Notification, RegisteredTemplate, State, Suppression, Task
from notifications.notifications import synchronise, synchronise_provider, tidy
from notifications.tasks import TaskFunction
from notifications.testing.sendgrid_server import Answer, SendGridServer
from notifications.testing.whatsapp_server import Template, WhatsAppServer

pytestmark = pytest.mark.django_db(transaction=True)

HELLO = Template("hello", language="en", body="Hello {{1}}.")
HALLO = Template("hello", language="de", body="Hallo {{1}}.")


@pytest.fixture
def whatsapp() -> Iterator[WhatsAppServer]:
    with WhatsAppServer(templates=[HELLO, HALLO]) as server:
        yield server
    whatsapp_registry.forget()


@pytest.fixture
def sendgrid() -> Iterator[SendGridServer]:
    with SendGridServer() as server:
        yield server


@pytest.fixture(autouse=True)
def configured(whatsapp: WhatsAppServer, sendgrid: SendGridServer) -> Iterator[None]:
    def provider(name: str, options: dict[str, str]) -> dict[str, Any]:
        return {"BACKEND": f"notifications.providers.{name}", "OPTIONS": options}

    with override_settings(
        NOTIFICATIONS={
            "ENVIRONMENT": "test",
            "CHANNELS": {
                "email": {"PROVIDERS": ["sendgrid", "smtp"], "TIMEOUT": 1.0},
                "whatsapp": {},
            },
            "PROVIDERS": {
                "sendgrid": provider(
                    "sendgrid.SendGrid", {"api_key": sendgrid.api_key, "api_url": sendgrid.url}
                ),
                "whatsapp_cloud": provider("whatsapp_cloud.WhatsAppCloud", whatsapp.options),
            },
            "RETRY": {"RETRIES": 0},
        },
    ):
        yield


def run(function: TaskFunction, **payload: Any) -> list[Task]:
    """Call `function` and run what waits; all tasks."""
    with transaction.atomic():
        function.enqueue(**payload)
    jobs.serve("default")
    return list(Task.objects.order_by("pk"))


def test_each_provider_with_lists_gets_a_task_of_its_own() -> None:
    first, *others = run(synchronise)
    assert first.state == State.DONE
    assert [(each.payload, each.state) for each in others] == [
        ({"provider": "sendgrid"}, State.DONE),
        ({"provider": "whatsapp_cloud"}, State.DONE),
    ]
    assert others[1].result == {"templates": 2, "suppressions": 0}


def test_templates_are_copied_changed_and_removed(whatsapp: WhatsAppServer) -> None:
    run(synchronise_provider, provider="whatsapp_cloud")
    assert {str(each) for each in RegisteredTemplate.objects.all()} == {"hello (en)", "hello (de)"}
    whatsapp.templates[:] = [Template("hello", language="en", body="Hi.", status="PAUSED")]
    run(synchronise_provider, provider="whatsapp_cloud")
    [row] = RegisteredTemplate.objects.all()
    assert (row.status, row.components) == ("PAUSED", [{"type": "BODY", "text": "Hi."}])


def test_addresses_on_sendgrids_lists_are_suppressed(sendgrid: SendGridServer) -> None:
    many = [f"no{number}@example.com" for number in range(1203)]
    sendgrid.suppressed = {
        "bounces": many,
        "spam_reports": ["eve@example.com"],
        "unsubscribes": ["Ann@Example.com"],
        "invalid_emails": ["x@nowhere.example"],
    }
    [task] = run(synchronise_provider, provider="sendgrid")
    assert task.result == {"templates": 0, "suppressions": 1206}
    found = {
        address: [each.reason for each in suppressions.find("email", address)]
        for address in (many[0], many[-1], "eve@example.com", "ann@example.com", "bob@example.com")
    }
    assert found == {
        many[0]: ["bounce"],
        many[-1]: ["bounce"],
        "eve@example.com": ["complaint"],
        "ann@example.com": ["opt_out"],
        "bob@example.com": [],
    }
    assert {each.source for each in Suppression.objects.all()} == {"list of sendgrid"}
    run(synchronise_provider, provider="sendgrid")
    assert Suppression.objects.count() == 1206
    assert not Suppression.objects.filter(masked__contains="no7@").exists()


@pytest.mark.parametrize("trouble", ["wrong key", "hangs", "no list"])
def test_trouble_with_a_list_is_the_tasks_and_tells_no_key(
    sendgrid: SendGridServer, trouble: str
) -> None:
    key = sendgrid.api_key
    if trouble == "wrong key":
        sendgrid.api_key = "another"
    else:
        body = '{"errors": []}' if trouble == "no list" else None
        sendgrid.answers.append(
            Answer(status=200, body=body, then="hang" if trouble == "hangs" else "")
        )
    [task] = run(synchronise_provider, provider="sendgrid")
    assert task.state == State.DEAD
    assert task.reason
    told = [task.reason, *(str(each) for each in Attempt.objects.values())]
    assert key not in " ".join(told)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_list_that_is_said_to_be_elsewhere_is_not_fetched_there(
    sendgrid: SendGridServer, status: int
) -> None:
    with SendGridServer(api_key=sendgrid.api_key) as stranger:
        sendgrid.answers.append(Answer(status=status, headers={"Location": stranger.url}))
        [task] = run(synchronise_provider, provider="sendgrid")
        assert stranger.requests == []  # where the key would have gone along
    assert (task.state, len(sendgrid.requests)) == (State.DEAD, 1)


def test_an_account_without_a_business_id_has_no_templates(whatsapp: WhatsAppServer) -> None:
    [_sendgrid, cloud] = synchronising.providers()
    cloud.options = {**cloud.options, "BUSINESS_ID": ""}
    assert synchronising.synchronise(cloud) == {"templates": 0, "suppressions": 0}
    assert whatsapp.requests == []


def old(days: int, state: State, **fields: Any) -> Notification:
    row = Notification.objects.create(
        kind="k", channel="email", queue="email", to="a@example.com", state=state, **fields
    )
    at = Now() - timedelta(days=days)
    Notification.objects.filter(pk=row.pk).update(created_at=at, wanted_at=at, settled_at=at)
    return row


def test_tidying_ends_the_unknown_and_removes_the_old() -> None:
    gone = [old(91, State.DEAD)]
    kept = [old(60, State.PENDING)]
    gone += [old(31, State.SENT)]
    kept += [old(31, State.DEAD), old(29, State.SENT)]
    unknown = old(2, State.UNKNOWN)
    [task] = run(tidy)
    assert task.state == State.DONE, task.reason
    assert task.result == {"given_up": 1, "rows": len(gone), "receipts": 0, "tallies": 0}
    left = Notification.objects.order_by("pk").values_list("pk", flat=True)
    assert list(left) == [*(each.pk for each in kept), unknown.pk]
    unknown.refresh_from_db()
    assert unknown.state == State.DEAD


def test_what_is_retried_while_the_old_is_removed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    retried, gone = old(91, State.DEAD), old(91, State.DEAD)
    choose = retention.batches

    def batches(rows: Any) -> Iterator[list[int]]:
        for ids in choose(rows):
            operations.retry(Notification.objects.get(pk=retried.pk))
            yield ids
            monkeypatch.undo()

    monkeypatch.setattr(retention, "batches", batches)
    assert retention.remove(states=["dead"]) == 1
    assert Notification.objects.get() == retried
    assert not Notification.objects.filter(pk=gone.pk).exists()


@pytest.mark.postgres_only
def test_what_somebody_has_in_hand_is_removed_the_next_time() -> None:
    held, gone = old(91, State.DEAD), old(91, State.DEAD)
    locked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Notification.objects.select_for_update().get(pk=held.pk)
            locked.set()
            assert go_on.wait(10)
        connections.close_all()

    somebody = threading.Thread(target=hold)
    somebody.start()
    assert locked.wait(10)
    assert retention.remove(states=["dead"]) == 1
    go_on.set()
    somebody.join(10)
    assert Notification.objects.get() == held
    assert retention.remove(states=["dead"]) == 1
    assert not Notification.objects.filter(pk=gone.pk).exists()


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_of_each_state_the_newest_are_kept_and_none_that_is_too_old(
    settings: Any, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(retention, "WINDOW", window)
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "RETENTION": {
            "sent": {"AGE": "30d", "COUNT": 3}, "dead": {"COUNT": 1}, "read": None,
            "expired": {"AGE": "30d", "COUNT": 3},
        },
    }  # fmt: skip
    states = [State.SENT, State.DEAD, State.PENDING, State.READ]
    for state in (State.SENT, State.EXPIRED, State.READ):
        old(31, state)
    rows = [old(1, state) for state in [*states, *states]]
    Notification.objects.filter(pk__in=[old(0, State.READ).pk for _each in range(7)]).delete()
    rows += [old(0, state) for state in [*states, *states]]
    Task.objects.create(name="shop.load", queue="default", state=State.DEAD, settled_at=Now())

    def left(state: State) -> list[int]:
        found = set(Notification.objects.filter(state=state))
        return [place for place, row in enumerate(rows) if row in found]

    assert retention.remove(dry_run=True) == 6
    assert retention.remove() == 6
    assert left(State.SENT) == [4, 8, 12]
    assert left(State.DEAD) == [13]
    assert left(State.PENDING) == [2, 6, 10, 14]
    assert left(State.READ) == [3, 7, 11, 15]
    assert not Notification.objects.filter(state=State.EXPIRED).exists()
    assert Task.objects.count() == 1
    assert retention.remove() == 0


def test_what_is_more_than_shall_be_kept_is_looked_for_in_bounds(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "WINDOW", 2)
    monkeypatch.setattr(retention, "WINDOWS", 2)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETENTION": {"sent": {"COUNT": 1}}}
    rows = [old(0, State.SENT) for _each in range(6)]
    assert retention.remove() == 3
    assert set(Notification.objects.all()) == {*rows[:2], rows[-1]}


def test_by_count_is_for_clean_ups_that_say_no_age(settings: Any) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETENTION": {"sent": {"COUNT": 1}}}
    for state in (State.SENT, State.DEAD):
        for _each in range(2):
            old(1, state)
    assert retention.remove(states=["sent"], older_than=timedelta(days=2)) == 0
    assert retention.remove(states=["dead"]) == 0
    assert retention.remove(queue="sms") == 0
    assert retention.remove(states=["sent"], queue="email") == 1


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("aged", [0, 1, 2, 7])
def test_the_walk_over_old_rows_ends_where_the_young_ones_begin(count: int, aged: int) -> None:
    rows = [old(40 if place < aged else 0, State.PENDING) for place in range(count)]
    Notification.objects.filter(pk__in=[each.pk for each in rows[1::3]]).delete()  # gaps
    left = list(Notification.objects.order_by("pk").values_list("pk", "created_at"))
    bound = retention.made_before(Notification, Now() - timedelta(days=30))
    expected = [each.pk for place, each in enumerate(rows) if place < aged]
    older = [pk for pk, _made in left if pk in expected]
    assert [pk for pk, _made in left if pk <= bound] == older


@pytest.fixture
def greeting() -> Iterator[type[Kind]]:
    """A kind whose first template fits, whose second does not."""

    class Greeting(Kind):
        name = "test_upkeep_greeting"
        channels = ("whatsapp",)
        whatsapp = (
            WhatsAppTemplate("hello", languages=("en", "de"), body=("name",)),
            WhatsAppTemplate("hello", languages=("en",), body=("name", "number")),
        )

    yield Greeting
    kinds._registry.pop(Greeting.name)


def told(*databases: str) -> list[tuple[str, str]]:
    """What the check says of the kind above, or of everything."""
    whatsapp_registry.forget()
    shop = [name for name in kinds.all_kinds() if name != "test_upkeep_greeting"]
    return [
        (str(each.id).removeprefix("notifications."), each.msg)
        for each in check_templates(None, databases=databases)
        if not any(f" of {name} " in each.msg for name in shop)
    ]


def test_the_check_names_what_differs_from_the_approved_template(
    whatsapp: WhatsAppServer, greeting: type[Kind]
) -> None:
    run(synchronise_provider, provider="whatsapp_cloud")
    assert told() == []
    assert told("default") == [
        (
            "E064",
            "The WhatsApp template hello (en) of test_upkeep_greeting is not as it was "
            "approved: body {{2}} (number) is not in the approved template.",
        ),
    ]


def test_the_check_names_each_translation_that_cannot_be_sent(
    whatsapp: WhatsAppServer, greeting: type[Kind]
) -> None:
    greeting.whatsapp = WhatsAppTemplate("hello", languages=("en", "de", "fr"), body=("name",))
    whatsapp.templates[:] = [
        HELLO,
        Template("hello", language="de", body="Hallo {{1}}.", status="REJECTED"),
    ]
    run(synchronise_provider, provider="whatsapp_cloud")
    assert told("default") == [
        (
            "E066",
            "The WhatsApp template hello (de) of test_upkeep_greeting cannot be sent: "
            "whatsapp_cloud has it as REJECTED.",
        ),
        (
            "E063",
            "The WhatsApp template hello (fr) of test_upkeep_greeting is not registered at "
            "whatsapp_cloud.",
        ),
    ]


def test_of_templates_that_were_never_copied_nothing_is_said_but_that(
    whatsapp: WhatsAppServer, greeting: type[Kind]
) -> None:
    [(number, text)] = told("default")
    assert (number, "never copied" in text) == ("W061", True)
    with override_settings(NOTIFICATIONS={"CHANNELS": {"email": {}}}):
        assert told("default") == [], "there is no WhatsApp"
    with override_settings(NOTIFICATIONS={"CHANNELS": {"fax": {}}}):
        assert told("default") == [], "another check says what is wrong"

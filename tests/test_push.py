"""Web push all the way: a browser subscribes, a row, a worker, a push service over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from notifications import holds, jobs, subscribing
from notifications.dispatch import notify
from notifications.errors import InvalidAddress, UnknownChannel
from notifications.kinds import Fallback, Kind
from notifications.management.commands.notifications_vapid import make_keys
from notifications.models import (
    Attempt,
    DeadLetter,
    Hold,
    Notification,
    Priority,
    PushSubscription,
    State,
    Suppression,
)
from notifications.muting import muted
from notifications.providers.webpush import WebPush, WebPushSession
from notifications.testing.push_server import Answer, PushServer
from orders.models import User
from tests.mail_templates import use_templates

pytestmark = pytest.mark.django_db(transaction=True)

PUBLIC, PRIVATE = make_keys()
FORMER_PUBLIC, FORMER_PRIVATE = make_keys()


class Parcel(Kind):
    """A short message."""

    name = "test_push_parcel"
    channels = ("push",)
    priority = Priority.HIGH

    @classmethod
    def link(cls, row: Notification, context: Any) -> str:
        return f"/orders/{context['number']}/"

    @classmethod
    def sample(cls) -> dict[str, Any]:
        return {"number": 7}


class ParcelAnyhow(Parcel):
    """The same, by text message to those without a browser."""

    name = "test_push_anyhow"
    channels = (Fallback("push", "in_app"),)


TEMPLATES = {
    "notifications/test_push_parcel/push.txt": "Parcel {{ number }}\nis on its way.\n",
    "notifications/test_push_anyhow/in_app.txt": "Parcel {{ number }}\nis on its way.\n",
}


@contextmanager
def running(*answers: Answer, **changed: Any) -> Iterator[PushServer]:
    options = {
        "PUBLIC_KEY": PUBLIC,
        "PRIVATE_KEY": PRIVATE,
        "CONTACT": "mailto:shop@example.com",
        "HOSTS": ["127.0.0.1"],
        **changed,
    }
    with PushServer(public_key=PUBLIC, answers=answers) as server, use_templates(TEMPLATES), (
        override_settings(
            NOTIFICATIONS={
                "ENVIRONMENT": "test",
                "RECIPIENTS": "*",
                "FRONTEND_URL": "https://shop.example.com",
                "CHANNELS": {"push": {"TIMEOUT": 1.0}, "in_app": {}},
                "PROVIDERS": {
                    "webpush": {
                        "BACKEND": "notifications.providers.webpush.WebPush",
                        "OPTIONS": options,
                    }
                },
                "RETRY": {"RETRIES": 3, "BASE": 2.0, "JITTER": 0.0},
            },
            RQ_QUEUES={name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "push")},
        )
    ):  # fmt: skip
        holds.forget()
        yield server
    holds.forget()


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running() as server:
        yield server


@pytest.fixture
def ann() -> User:
    with muted():
        return User.objects.create_user("ann@example.com", language="en")


def send(to: Any, kind: type[Kind] = Parcel, **options: Any) -> list[Notification]:
    with transaction.atomic():
        rows = notify(kind, to=to, context={"number": 7}, **options)
    jobs.deliver_push()
    for row in rows:
        row.refresh_from_db()
    return rows


def test_each_browser_of_a_user_shows_the_message(server: PushServer, ann: User) -> None:
    for _ in range(2):
        subscribing.subscribe(ann, server.subscribe())
    rows = send(ann)
    assert [row.state for row in rows] == [State.SENT] * 2
    messages = server.wait_for(2)
    assert {message.browser for message in messages} == set(server._browsers)
    for message in messages:
        assert message.content == {
            "id": message.content["id"],
            "title": "Parcel 7",
            "text": "is on its way.",
            "link": "https://shop.example.com/orders/7/",
            "type": "test_push_parcel",
        }
        assert (message.urgency, message.ttl) == ("high", 86_400)
    assert {row.pk for row in rows} == {message.content["id"] for message in messages}
    assert all(len(attempt.message_id) == 32 for attempt in Attempt.objects.all())


def test_a_key_makes_one_message_for_each_browser(server: PushServer, ann: User) -> None:
    for _ in range(2):
        subscribing.subscribe(ann, server.subscribe())
    first = send(ann, key="k")
    assert {row.pk for row in send(ann, key="k")} == {row.pk for row in first}
    assert len(server.accepted) == 2


@pytest.mark.parametrize("status", [404, 410])
def test_a_browser_that_is_gone_is_forgotten(ann: User, status: int) -> None:
    answers = [Answer(status=404, message="gone")] if status == 404 else []
    with running(*answers) as server:
        subscription = server.subscribe()
        subscribing.subscribe(ann, subscription)
        if status == 410:
            server.unsubscribe(subscription)
        [row] = send(ann)
        assert row.state == State.SUPPRESSED
        assert row.reason.startswith(str(status))
        assert not PushSubscription.objects.exists()
        assert not Suppression.objects.exists()
        assert not DeadLetter.objects.exists()
        with pytest.raises(InvalidAddress):
            send(ann)


def test_one_who_unsubscribes_meanwhile_gets_nothing(server: PushServer, ann: User) -> None:
    subscription = server.subscribe()
    subscribing.subscribe(ann, subscription)
    with transaction.atomic():
        [row] = notify(Parcel, to=ann, context={"number": 7})
    assert subscribing.unsubscribe(ann, subscription["endpoint"])
    jobs.deliver_push(row.pk)
    row.refresh_from_db()
    assert (row.state, server.accepted) == (State.SUPPRESSED, [])
    assert "not subscribed any more" in row.reason


def test_who_has_no_browser_or_one_that_is_gone_is_reached_otherwise(
    server: PushServer, ann: User
) -> None:
    [row] = send(ann, ParcelAnyhow)
    assert (row.channel, row.state) == ("in_app", State.DELIVERED)
    subscription = server.subscribe()
    subscribing.subscribe(ann, subscription)
    server.unsubscribe(subscription)
    [row] = send(ann, ParcelAnyhow)
    assert (row.channel, row.state) == ("push", State.SUPPRESSED)
    assert row.successors.get().channel == "in_app"


@pytest.mark.parametrize(
    ("answer", "state", "wait"),
    [
        (Answer(status=429, headers={"Retry-After": "30"}), State.PENDING, 0),
        (Answer(status=413), State.DEAD, 0),
        (Answer(status=400), State.DEAD, 0),
        (Answer(status=500), State.PENDING, 2),
        (Answer(then="close"), State.PENDING, 2),
        (Answer(then="hang"), State.PENDING, 2),
        (Answer(status=307, headers={"Location": "http://127.0.0.1:1/"}), State.PENDING, 0),
    ],
)
def test_what_a_service_answers_is_what_follows(
    ann: User, answer: Answer, state: State, wait: int
) -> None:
    with running(answer) as server:
        subscribing.subscribe(ann, server.subscribe())
        [row] = send(ann)
        assert row.state == state, row.reason
        if wait:
            settled = row.attempt_set.get().created_at
            assert wait - 1 < (row.due_at - settled).total_seconds() < wait + 2
        if answer.status == 429:
            held = Hold.objects.get()
            assert 28 < (held.until - timezone.now()).total_seconds() <= 30
        assert PushSubscription.objects.exists()


def test_wrong_keys_hold_the_channel(ann: User) -> None:
    other = make_keys()[1]
    with running(PRIVATE_KEY=other) as server:
        subscribing.subscribe(ann, server.subscribe())
        rows = [send(ann)[0], send(ann)[0]]
        assert not Hold.objects.exists()  # it may be this one browser
        rows += send(ann)
        assert {row.state for row in rows} == {State.PENDING}
        assert Hold.objects.get(lifted_at=None).name == "webpush"
        assert server.refusals
        assert other not in str(list(Attempt.objects.values()))


def test_a_host_that_a_pattern_allows_and_that_there_is_not_holds_up_nobody(ann: User) -> None:
    with running(HOSTS=["*.invalid", "127.0.0.1"]) as server:
        for number in range(4):
            lost = {**server.subscribe(), "endpoint": f"https://x{number}.invalid/push"}
            subscribing.subscribe(ann, lost)
            assert send(ann)[0].state == State.PENDING
        assert set(Attempt.objects.values_list("code", flat=True)) == {"dns"}
        assert not Hold.objects.exists()


@contextmanager
def with_former_keys() -> Iterator[None]:
    """As it was before the keys were changed."""
    with running(PUBLIC_KEY=FORMER_PUBLIC, PRIVATE_KEY=FORMER_PRIVATE):
        yield


def test_a_browser_of_former_keys_is_passed_over_and_holds_up_nobody(
    server: PushServer, ann: User
) -> None:
    with with_former_keys():
        former = subscribing.subscribe(ann, server.subscribe(FORMER_PUBLIC))
    with pytest.raises(InvalidAddress):
        send(ann)
    present = subscribing.subscribe(ann, server.subscribe())
    [row] = send(ann)
    assert (row.to, row.state) == (present.address, State.SENT)
    with with_former_keys():
        [row] = send(ann)
    assert (row.to, row.state) == (former.address, State.SENT), "the keys were put back"
    assert server.refusals == []
    assert not Hold.objects.exists()


def test_what_waits_for_a_browser_while_the_keys_change_goes_nowhere(
    server: PushServer, ann: User
) -> None:
    with with_former_keys(), transaction.atomic():
        subscribing.subscribe(ann, server.subscribe(FORMER_PUBLIC))
        [row] = notify(Parcel, to=ann, context={"number": 7})
    jobs.deliver_push()
    row.refresh_from_db()
    assert row.state == State.SUPPRESSED
    assert "another key" in row.reason
    assert server.requests == []
    assert PushSubscription.objects.exists()


def test_a_page_older_than_the_keys_subscribes_nobody(server: PushServer, ann: User) -> None:
    client, given = browser(ann), server.subscribe()
    answer = post(client, "subscribe", {**given, "applicationServerKey": FORMER_PUBLIC})
    assert answer.status_code == 400
    assert "load the page anew" in answer.json()["detail"]
    padded = {**given, "applicationServerKey": f"{PUBLIC}="}
    assert post(client, "subscribe", padded).status_code == 201


def test_what_is_kept_tells_neither_endpoint_nor_keys(server: PushServer, ann: User) -> None:
    subscription = server.subscribe()
    subscribing.subscribe(ann, subscription)
    send(ann)
    kept = str([*PushSubscription.objects.values(), *Notification.objects.values()])
    kept += str(list(Attempt.objects.values()))
    for secret in (subscription["endpoint"].rpartition("/")[2], *subscription["keys"].values()):
        assert secret not in kept


def test_a_long_text_is_cut_to_what_services_take(server: PushServer, ann: User) -> None:
    subscribing.subscribe(ann, server.subscribe())
    long = {"notifications/test_push_parcel/push.txt": 'Title\n{{ number }}"' + 'ä"' * 3000}
    with use_templates(long):
        [row] = send(ann)
    assert row.state == State.SENT, row.reason
    text = server.accepted[0].content["text"]
    assert text.startswith('7"ä')
    assert text.endswith("…")


# -- subscribing --------------------------------------------------------------------------------


def browser(user: User | None) -> Client:
    client = Client(enforce_csrf_checks=True)
    if user is not None:
        client.force_login(user)
    return client


def post(client: Client, view: str, body: Any, *, token: bool = True) -> Any:
    client.cookies["csrftoken"] = "a" * 32
    headers = {"X-CSRFToken": "a" * 32} if token else {}
    return client.post(
        reverse(f"notifications_push:{view}"),
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        content_type="application/json",
        headers=headers,
    )


def test_a_browser_subscribes_and_unsubscribes(server: PushServer, ann: User) -> None:
    client, given = browser(ann), server.subscribe()
    assert post(client, "subscribe", given).status_code == 201
    assert post(client, "subscribe", given).status_code == 201
    assert PushSubscription.objects.get().user == ann
    with muted():
        eve = User.objects.create_user("eve@example.com")
    assert not subscribing.unsubscribe(eve, given["endpoint"])
    assert post(client, "unsubscribe", {"endpoint": given["endpoint"]}).status_code == 200
    assert not PushSubscription.objects.exists()


def test_a_browser_belongs_to_whoever_subscribed_it_last(server: PushServer, ann: User) -> None:
    given = server.subscribe()
    subscribing.subscribe(ann, given)
    with muted():
        eve = User.objects.create_user("eve@example.com")
    subscribing.subscribe(eve, given)
    assert PushSubscription.objects.get().user == eve


def test_of_one_user_the_newest_browsers_are_kept(server: PushServer, ann: User) -> None:
    rows = [subscribing.subscribe(ann, server.subscribe()) for _ in range(12)]
    left = PushSubscription.objects.order_by("pk").values_list("pk", flat=True)
    assert list(left) == [row.pk for row in rows[2:]]


def test_strangers_and_forgers_are_refused(server: PushServer, ann: User) -> None:
    given = server.subscribe()
    client = browser(None)
    assert post(client, "subscribe", given).status_code == 401
    assert post(browser(ann), "subscribe", given, token=False).status_code == 403
    assert browser(ann).get(reverse("notifications_push:subscribe")).status_code == 405
    assert not PushSubscription.objects.exists()


KEYS = {"p256dh": "B" * 87, "auth": "A" * 22}


@pytest.mark.parametrize(
    "given",
    [
        b"{",
        b"[]",
        b"[" * 8_000,
        b" " * 9_000,
        {},
        {"endpoint": "https://fcm.googleapis.com/\ud800", "keys": KEYS},
        {"endpoint": "https://fcm.googleapis.com/x"},
        {"endpoint": 7, "keys": KEYS},
        {"endpoint": "https://fcm.googleapis.com/x", "keys": {**KEYS, "auth": "short"}},
        {"endpoint": "https://fcm.googleapis.com/x", "keys": {**KEYS, "auth": "=" * 22}},
        {"endpoint": "https://fcm.googleapis.com/x", "keys": {**KEYS, "p256dh": None}},
        {"endpoint": "https://metadata.example.com/", "keys": KEYS},
        {"endpoint": "https://127.0.0.1@evil.example/", "keys": KEYS},
        {"endpoint": "https://[::1", "keys": KEYS},
        {"endpoint": "https://fcm.googleapis.com:x/", "keys": KEYS},
    ],
)
def test_what_is_no_subscription_gets_400(server: PushServer, ann: User, given: Any) -> None:
    client = browser(ann)
    answer = post(client, "subscribe", given)
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert not PushSubscription.objects.exists()


@pytest.mark.parametrize("given", [b"[" * 8_000, {"endpoint": "\ud800"}])
def test_what_cannot_be_the_endpoint_of_any_browser_gets_400(ann: User, given: Any) -> None:
    assert post(browser(ann), "unsubscribe", given).status_code == 400


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("https://fcm.googleapis.com/fcm/send/x", True),
        ("https://updates.push.services.mozilla.com/wpush/v2/x", True),
        ("https://wns2-par02p.notify.windows.com/w/?token=x", True),
        ("https://web.push.apple.com/x", True),
        ("http://fcm.googleapis.com/x", False),
        ("https://fcm.googleapis.com:8443/x", False),
        ("https://fcm.googleapis.com.evil.example/", False),
        ("https://evil.example/fcm.googleapis.com", False),
        ("https://127.0.0.1/", False),
        ("http://localhost/", False),
        ("ftp://fcm.googleapis.com/", False),
        ("https://\u2603..push.services.mozilla.com/", False),
        # Two parsers may take these for two different hosts.
        ("https://127.0.0.1\\@x.push.apple.com/", False),
        ("https://evil.example\\.push.apple.com/", False),
        ("https://me@fcm.googleapis.com/x", False),
        ("https://fcm.googleapis.com/x\\y", False),
        ("https://FCM.googleapis.com/x", False),
        ("https://fcm.googleapis.com", False),
        ("", False),
    ],
)
def test_only_the_browsers_services_may_be_posted_to(endpoint: str, allowed: bool) -> None:
    assert WebPush("webpush", timeout=1.0, options={}).allows(endpoint) is allowed


def test_what_is_not_allowed_any_more_is_forgotten_and_holds_up_nobody(
    server: PushServer, ann: User
) -> None:
    for name in ("old-1", "old-2", "old-3", "old-4"):
        with running(HOSTS=["127.0.0.1", "localhost"]) as former:
            given = former.subscribe()
            given["endpoint"] = given["endpoint"].replace("127.0.0.1", "localhost") + name
            subscribing.subscribe(ann, given)
    kept = subscribing.subscribe(ann, server.subscribe())
    *old, row = sorted(send(ann), key=lambda row: row.to == kept.address)
    assert {each.state for each in old} == {State.SUPPRESSED}
    assert all("not among HOSTS" in each.reason for each in old)
    assert row.state == State.SENT
    assert len(server.requests) == 1
    assert PushSubscription.objects.get() == kept
    assert not Hold.objects.exists()


def test_without_a_channel_nothing_can_be_subscribed(ann: User) -> None:
    with (
        override_settings(NOTIFICATIONS={"CHANNELS": {"in_app": {}}}),
        pytest.raises(UnknownChannel),
    ):
        subscribing.subscribe(ann, {"endpoint": "https://fcm.googleapis.com/", "keys": {
            "p256dh": "B" * 86 + "A", "auth": "A" * 22}})  # fmt: skip


def test_the_service_worker_serves_the_whole_site(client: Client) -> None:
    answer = client.get(reverse("notifications_push:worker"))
    assert answer["Service-Worker-Allowed"] == "/"
    assert answer["Content-Type"] == "text/javascript"
    assert b"showNotification" in answer.content


def test_the_account_page_offers_it_where_there_is_push(ann: User) -> None:
    client = Client()
    client.force_login(ann)
    assert "data-ntf-push" not in client.get(reverse("account")).content.decode()
    options = {"PUBLIC_KEY": PUBLIC}
    backend = "notifications.providers.webpush.WebPush"
    providers = {"webpush": {"BACKEND": backend, "OPTIONS": options}}
    with override_settings(NOTIFICATIONS={"CHANNELS": {"push": {}}, "PROVIDERS": providers}):
        page = client.get(reverse("account")).content.decode()
    assert f'data-key="{PUBLIC}"' in page
    assert 'data-worker="/push/worker.js"' in page


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"PUBLIC_KEY": PUBLIC, "PRIVATE_KEY": PRIVATE, "CONTACT": "mailto:a@example.com"}, []),
        ({}, ["notifications.E061"]),
        ({"PUBLIC_KEY": PUBLIC, "PRIVATE_KEY": "x", "CONTACT": "mailto:a@example.com"},
         ["notifications.E065"]),
        ({"PUBLIC_KEY": PUBLIC, "PRIVATE_KEY": PRIVATE, "CONTACT": "mailto:a@example.com",
          "KEY": "x"}, ["notifications.E060"]),
        ({"PUBLIC_KEY": PUBLIC, "PRIVATE_KEY": PRIVATE, "CONTACT": "a@example.com"},
         ["notifications.E065"]),
    ],
)  # fmt: skip
def test_the_check_of_the_keys(options: dict[str, str], ids: list[str]) -> None:
    provider = WebPush("webpush", timeout=1.0, options=options)
    assert [each.id for each in provider.check()] == ids


def test_the_command_makes_keys_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("notifications_vapid")
    printed = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    options = {"PRIVATE_KEY": printed["VAPID_PRIVATE_KEY"], "CONTACT": "mailto:a@example.com"}
    session = WebPushSession(WebPush("webpush", timeout=1.0, options=options))
    signed = session.sign("https://fcm.googleapis.com/x")
    assert signed["Authorization"].endswith(f"k={printed['VAPID_PUBLIC_KEY']}")
    assert session.sign("https://fcm.googleapis.com/y") is signed

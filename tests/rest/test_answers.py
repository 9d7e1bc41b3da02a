"""What the API answers, refuses and does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import OperationalError
from django.db.models.functions import Now
from django.test import Client, override_settings
from django.utils import timezone

from notifications import holds, jobs
from notifications.models import ApiToken, DeadLetter, Hold, Notification, State, Task
from notifications.muting import muted
from notifications.tokens import make_token, revoke_token
from orders.models import User
from tests.admin.screens import BOB, ask, letter
from tests.rest.callers import Caller, anybody, bearer, person, superuser
from tests.scripted import SETTINGS, Script

pytestmark = pytest.mark.django_db(transaction=True)

SEE = "view_notification"
HELLO = {"kind": "test_note", "to": "eve@example.com", "context": {"order_id": 7}}


@pytest.fixture
def real_redis(script: Script, redis: Any) -> Iterator[None]:
    names = ("default", "note", "host")
    with override_settings(RQ_QUEUES={name: {"URL": os.environ["REDIS_URL"]} for name in names}):
        yield


def sent(to: str = BOB) -> Notification:
    row = ask(to)
    jobs.serve("note")
    row.refresh_from_db()
    assert row.state == State.SENT
    return row


def letters(script: Script, count: int) -> list[int]:
    return [letter(script, f"nobody{number}@example.com").pk for number in range(count)]


# -- who ------------------------------------------------------------------------------------------


def staff_user(**fields: Any) -> User:
    with muted():
        return User.objects.create_superuser("boss", **fields)


def test_a_token_acts_for_its_owner_until_it_ends() -> None:
    user = staff_user()
    row, token = make_token(user, name="deploy", lasts=timedelta(hours=1), by=user)
    caller = Caller(Client(), Authorization=f"Bearer {token}")
    caller("get", "queues/")
    row.refresh_from_db()
    assert row.used_at is not None
    assert token not in str(ApiToken.objects.values())
    ApiToken.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert "expired" in caller("get", "queues/", status=401)["detail"]
    assert caller.answer.headers["WWW-Authenticate"] == "Bearer"
    ApiToken.objects.update(expires_at=None)
    caller("get", "queues/")
    User.objects.update(is_active=False)
    caller("get", "queues/", status=401)
    User.objects.update(is_active=True, is_staff=False)
    caller("get", "queues/", status=403)
    User.objects.update(is_staff=True)
    revoke_token(row, by=user)
    caller("get", "queues/", status=401)
    texts = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(texts) == ["Made.", "Revoked."]


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer ntf_x", "bearer \x7f"])
def test_what_is_no_token_opens_nothing(header: str) -> None:
    anybody()("get", "queues/", status=401, Authorization=header)


def test_another_scheme_is_left_to_the_session() -> None:
    superuser()("get", "queues/", Authorization="Basic eDp5")


@pytest.mark.parametrize("setting", ["RATE", "TEST_RATE"])
def test_too_many_requests_are_told_when_to_come_again(setting: str) -> None:
    changed = {**SETTINGS, "REST": {setting: "2/h", "TEST_RECIPIENTS": [BOB]}}
    caller = superuser()
    with override_settings(NOTIFICATIONS=changed):
        for status in (202, 202, 429):
            body = {"channel": "note", "to": BOB}
            caller("post", "test-message/", body, status=status)
        assert 0 < int(caller.answer.headers["Retry-After"]) <= 3600
        caller("get", "queues/", status=429 if setting == "RATE" else 200)
    assert Notification.objects.count() == 2


def test_a_rate_may_be_left_out() -> None:
    with override_settings(NOTIFICATIONS={**SETTINGS, "REST": {"RATE": ""}}):
        superuser()("get", "queues/")


# -- how the whole stands -------------------------------------------------------------------------


def test_health_is_for_everybody_and_its_reasons_for_staff(real_redis: None) -> None:
    assert anybody()("get", "health/live/") == {"status": "live"}
    assert anybody()("get", "health/ready/") == {"status": "ready"}
    assert anybody()("get", "health/", status=503) == {"status": "fail"}
    told = superuser()("get", "health/", status=503)
    assert any("no clock" in reason for reason in told["reasons"])
    assert {each["queue"] for each in told["queues"]} == {"default", "note", "host"}


def test_the_dashboard_says_what_is_waiting_what_went_wrong_and_of_what(script: Script) -> None:
    letters(script, 2)
    ask()
    told = superuser()("get", "dashboard/")
    assert told["stats"]["total"] == {
        "sent": 0, "failed": 2, "waiting": 1, "withheld": 0, "rate": 0.0,
    }  # fmt: skip
    [group] = told["dead_letters"]
    assert (group["count"], group["code"], group["name"]) == (2, "550", "test_note")
    assert {each["topic"] for each in told["events"]} >= {"order.placed"}


def test_statistics_of_a_window_have_channels_and_steps(script: Script) -> None:
    sent()
    told = superuser()("get", "stats/?window=1h")
    assert told["channels"]["note"]["sent"] == told["total"]["sent"] == 1
    assert sum(step["sent"] for step in told["steps"]) == 1
    assert told["steps"][0]["at"].endswith("Z")
    problem = superuser_again("get", "stats/?window=9y", status=400)
    assert "window" in problem["errors"]


def superuser_again(*args: Any, **options: Any) -> Any:
    client = Client()
    client.force_login(User.objects.get(username="boss"))
    return Caller(client)(*args, **options)


def test_metrics_need_their_own_token() -> None:
    anybody().client.get("/api/metrics/")
    answer = Client().get("/api/metrics/")
    assert answer.status_code == 401


# -- queues ---------------------------------------------------------------------------------------


def test_a_queue_is_paused_with_a_reason_and_resumed() -> None:
    caller = superuser()
    until = (timezone.now() + timedelta(hours=1)).isoformat()
    for _twice in range(2):
        told = caller("post", "queues/note/pause/", {"reason": "the printer", "until": until})
        assert "the printer" in told["paused"]
    held = Hold.objects.get(lifted_at=None)
    assert held.until is not None
    for _twice in range(2):
        assert caller("post", "queues/note/resume/")["paused"] == ""
    for at in ("2020-01-01T00:00:00Z", "soon", 7):
        assert "until" in caller("post", "queues/note/pause/", {"until": at}, status=400)["errors"]


@pytest.mark.parametrize("path", ["", "jobs/?state=failed", "pause/", "resume/", "clean/",
                                  "retry-failed/", "empty/"])  # fmt: skip
@pytest.mark.parametrize("name", ["nowhere", "host"])
def test_a_queue_that_is_not_ours_is_not_there(name: str, path: str) -> None:
    method = "get" if path in ("", "jobs/?state=failed") else "post"
    found = name == "host" and path == ""  # how it stands is told, and no more
    superuser()(method, f"queues/{name}/{path}", {}, status=200 if found else 404)


def test_jobs_are_listed_as_people_call_them(script: Script) -> None:
    letter(script)
    done, waiting, later, active = sent(), ask("w@example.com"), ask(delay=99), ask("a@x.com")
    Notification.objects.filter(pk=active.pk).update(
        token="6f1b5c9e-0000-4000-8000-000000000000", due_at=Now() + timedelta(seconds=20)
    )
    caller = superuser()
    found = {
        state: [each["id"] for each in caller("get", f"queues/note/jobs/?state={state}")["results"]]
        for state in ("waiting", "active", "delayed", "completed", "failed")
    }
    dead = Notification.objects.get(state=State.DEAD)
    assert found == {
        "waiting": [waiting.pk], "active": [active.pk], "delayed": [later.pk],
        "completed": [done.pk], "failed": [dead.pk],
    }  # fmt: skip
    task = Task.objects.create(name="shop.stock.load", queue="default")
    [row] = caller("get", "queues/default/jobs/?state=waiting")["results"]
    assert (row["id"], row["name"], row["progress"]) == (task.pk, "shop.stock.load", 0)


def test_failed_ones_go_again_in_the_background_the_oldest_first(script: Script) -> None:
    first, *others = letters(script, 3)
    caller = superuser()
    told = caller("post", "queues/note/retry-failed/", {"limit": 1}, status=202)
    assert told["count"] == 1
    jobs.serve("default")
    row = caller("get", f"tasks/{told['task']}/")
    assert (row["state"], row["result"]["done"]) == ("done", 1)
    assert told["url"].endswith(f"/api/tasks/{told['task']}/")
    assert list(DeadLetter.objects.order_by("pk").values_list("pk", flat=True)) == others
    caller("post", "queues/note/retry-failed/", status=202)
    jobs.serve("default")
    assert not DeadLetter.objects.exists()
    for body in ({}, {"limit": 5}):
        caller("post", "queues/note/retry-failed/", body, status=409)
    assert first


def test_emptying_asks_for_the_name_and_cancels(script: Script) -> None:
    row = ask()
    caller = superuser()
    caller("post", "queues/note/empty/", {"confirm": "email"}, status=400)
    assert caller("post", "queues/note/empty/", {"confirm": "note"}, status=202)["count"] == 1
    jobs.serve("default")
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    caller("post", "queues/note/empty/", {"confirm": "note"}, status=409)


@pytest.mark.parametrize("age", ["a month", "1d ", "", "99999999999999d", "40000d", None, 7])
def test_cleaning_wants_an_age_and_ends(age: Any) -> None:
    old = sent()
    Notification.objects.update(
        created_at=Now() - timedelta(days=9), settled_at=Now() - timedelta(days=9)
    )
    caller = superuser()
    good = {"states": ["sent"], "older_than": "3d"}
    if age != "1d ":
        caller("post", "queues/note/clean/", {**good, "older_than": age}, status=400)
    caller("post", "queues/note/clean/", {**good, "states": ["pending"]}, status=400)
    sent("new@example.com")
    assert caller("post", "queues/note/clean/", good, status=202)["count"] == 1
    jobs.serve("default")
    assert not Notification.objects.filter(pk=old.pk).exists()


def test_workers_cannot_be_listed_while_redis_is_away() -> None:
    caller = superuser()
    problem = caller("get", "workers/", status=503)
    assert problem["detail"] == "Redis does not answer."
    assert caller.answer.headers["Retry-After"]
    assert caller.answer.headers["Content-Type"] == "application/problem+json"
    caller("get", "queues/")


# -- messages -------------------------------------------------------------------------------------


def test_a_message_is_asked_for_once_with_one_key() -> None:
    caller = superuser()
    key = {"Idempotency-Key": "order-7"}
    first = caller("post", "notifications/", HELLO, status=201, **key)
    again = caller("post", "notifications/", HELLO, status=201, **key)
    assert first == again
    assert len(first["notifications"]) == Notification.objects.count() == 1
    other = {**HELLO, "context": {"order_id": 8}}
    for changed in (other, {**HELLO, "to": BOB}):
        problem = caller("post", "notifications/", changed, status=422, **key)
        assert "Idempotency-Key" in problem["detail"]
    assert Notification.objects.count() == 1
    caller("post", "notifications/", other, status=201)
    for bad in ("", "x" * 101):
        headers = {"Idempotency-Key": bad}
        caller("post", "notifications/", HELLO, status=400, **headers)
    jobs.serve("note")
    assert set(Notification.objects.values_list("state", flat=True)) == {"sent"}


@pytest.fixture
def two_channels() -> Iterator[None]:
    note = SETTINGS["CHANNELS"]["note"]
    channels = {"note": note, "card": {**note, "QUEUE": "card"}}
    queues = {name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "note", "card")}
    with override_settings(NOTIFICATIONS={**SETTINGS, "CHANNELS": channels}, RQ_QUEUES=queues):
        yield


OTHERS = (
    {"to": "eve@example.com"}, {"context": {"order_id": 8}}, {"language": "de"},
    {"kind": "notifications_test"},
)  # fmt: skip


def test_a_key_brings_no_other_message_on_any_channel(
    two_channels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = superuser()
    key = {"Idempotency-Key": "order-7"}
    body = {"kind": "test_note", "to": BOB, "context": {"order_id": 7}, "language": "en"}
    caller("post", "notifications/", {**body, "channels": ["note"]}, status=201, **key)
    for channels in (["card"], ["note", "card"]):
        for change in OTHERS:
            other = {**body, **change, "channels": channels}
            caller("post", "notifications/", other, status=422, **key)
    with monkeypatch.context() as patch:  # as if the first came in the middle of the second
        patch.setattr("notifications.rest.rows._of_key", lambda key: [])
        other = {**body, "context": {"order_id": 8}, "channels": ["note", "card"]}
        caller("post", "notifications/", other, status=422, **key)
    assert Notification.objects.count() == 1
    both = {**body, "channels": ["note", "card"]}
    told = caller("post", "notifications/", both, status=201, **key)
    assert [row["channel"] for row in told["notifications"]] == ["note", "card"]


def test_a_key_serves_one_user_however_the_request_writes_them() -> None:
    caller = superuser()
    with muted():
        user = User.objects.create_user("ann", "ann@example.com")
        other = User.objects.create_user("eve", "eve@example.com")
    for key in ({}, {"Idempotency-Key": "k"}, {"Idempotency-Key": "k"}):
        body = {"kind": "test_note", "user": f"0{user.pk}"}
        caller("post", "notifications/", body, status=201, **key)
    assert Notification.objects.count() == 2
    for body in ({"user": str(other.pk)}, {"to": "ann@example.com"}):
        asked = {"kind": "test_note", **body}
        caller("post", "notifications/", asked, status=422, **{"Idempotency-Key": "k"})
    assert Notification.objects.count() == 2


def test_the_key_of_one_person_is_not_anothers() -> None:
    mine, theirs = superuser(), person("add_notification", SEE)
    key = {"Idempotency-Key": "order-7"}
    for caller in (mine, theirs):
        caller("post", "notifications/", HELLO, status=201, **key)
    assert Notification.objects.count() == 2


def test_a_message_may_go_to_a_user_later_and_first() -> None:
    caller = superuser()
    with muted():
        user = User.objects.create_user("ann", "ann@example.com")
    body = {"kind": "test_note", "user": str(user.pk), "delay": 60, "priority": "critical",
            "channels": ["note"], "language": "de"}  # fmt: skip
    [row] = caller("post", "notifications/", body, status=201)["notifications"]
    assert (row["to"], row["priority"], row["language"]) == ("ann@example.com", "critical", "de")
    at = {**HELLO, "at": (timezone.now() + timedelta(hours=1)).isoformat()}
    caller("post", "notifications/", at, status=201)


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"kind": "nothing"}, "kind"),
        ({"to": "nobody"}, "detail"),
        ({"to": None}, "to"),
        ({"user": "1"}, "to"),
        ({"to": ""}, "to"),
        ({"channels": ["pigeon"]}, "channels"),
        ({"context": []}, "context"),
        ({"delay": -1}, "delay"),
        ({"delay": 1, "at": "2090-01-01T00:00:00Z"}, "at"),
        ({"priority": "urgent"}, "priority"),
        ({"to": "half\ud83d@example.com"}, "to"),
    ],
)
def test_a_message_that_cannot_be_is_refused(change: dict[str, Any], about: str) -> None:
    caller = superuser()
    body = {name: value for name, value in {**HELLO, **change}.items() if value is not None}
    assert about in caller("post", "notifications/", body, status=400)["errors"]
    assert not Notification.objects.exists()


@pytest.mark.parametrize("key", ["0", "x", "9" * 30])
def test_a_user_who_is_not_there_gets_nothing(key: str) -> None:
    body = {"kind": "test_note", "user": key}
    assert "user" in superuser()("post", "notifications/", body, status=400)["errors"]


ODD_BODIES = ["{", "[]", "7", "[" * 100_000, '{"a":' * 100_000, '["\\u0000"]', '{"kind": NaN}']


@pytest.mark.parametrize("body", ODD_BODIES, ids=[body[:9] for body in ODD_BODIES])
def test_a_body_that_is_no_object_is_refused(body: str) -> None:
    client = superuser().client
    answer = client.post("/api/notifications/", body, content_type="application/json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    answer = client.post("/api/notifications/", {"kind": "test_note"})
    assert answer.status_code == 415


def test_what_some_database_cannot_store_is_refused() -> None:
    client = superuser().client
    deep = "[" * 500 + "]" * 500
    for inside in (
        '"\\u0000"',
        '"\\ud800"',
        "1e999",
        deep,
        '{"\\udfff": 1}',
        '[[{"a": ["\\u0000"]}]]',
    ):
        body = f'{{"kind": "test_note", "to": "{BOB}", "context": {{"a": {inside}}}}}'
        answer = client.post("/api/notifications/", body, content_type="application/json")
        assert answer.status_code == 400, inside
        assert list(answer.json()["errors"]) == ["context"]
    for name in ("\\u0000", "\\ud800"):
        body = f'{{"{name}": 1}}'
        answer = client.post("/api/notifications/", body, content_type="application/json")
        assert answer.status_code == 400
    assert not Notification.objects.exists()


def test_what_is_private_is_masked_without_the_right() -> None:
    row = ask("bob@example.com")
    path = f"notifications/{row.pk}/"
    seen, masked = superuser()("get", path), person(SEE)("get", path)
    assert (seen["to"], seen["context"]) == ("bob@example.com", {"order_id": 7})
    assert (masked["to"], masked["context"]) == ("b…@e….com", None)
    assert "bob@" not in str(person_again(SEE)("get", "notifications/"))


def person_again(*permissions: str) -> Caller:
    client = Client()
    client.force_login(User.objects.get(username="staff"))
    return Caller(client)


def test_messages_are_found_by_what_is_known_of_them(script: Script) -> None:
    with muted():
        user = User.objects.create_user("ann")
    other = letter(script).work
    about = ask(about=user, key="k7", delay=999)
    with_id = sent("mid@example.com")
    with_id.attempt_set.update(message_id="m-1")
    caller = superuser()
    questions = {
        f"about=orders.user:{user.pk}": [about.pk],
        "key=k7": [about.pk],
        "to=MID@example.com": [with_id.pk],
        "message_id=m-1": [with_id.pk],
        "state=dead": [other.pk],
        "state=sent&kind=test_note&channel=note&queue=note": [with_id.pk],
        "kind=nothing": [],
    }
    for query, found in questions.items():
        rows = caller("get", f"notifications/?{query}")["results"]
        assert [row["id"] for row in rows] == found, query
    for query in ("state=odd", "state=", "about=7", "to=%00"):
        caller("get", f"notifications/?{query}", status=400)
    person(SEE)("get", "notifications/?to=mid@example.com", status=403)


def test_pages_stay_what_they_are_while_rows_come() -> None:
    rows = [ask(f"a{number}@example.com").pk for number in range(5)]
    caller = superuser()
    first = caller("get", "notifications/?limit=2")
    ask("new@example.com")
    second = caller("get", first["next"].partition("/api/")[2])
    third = caller("get", second["next"].partition("/api/")[2])
    found = [row["id"] for page in (first, second, third) for row in page["results"]]
    assert found == rows[::-1]
    assert (first["previous"], third["next"]) == (None, None)
    caller("get", "notifications/?cursor=nonsense", status=404)
    assert len(caller("get", "notifications/?limit=200")["results"]) == 6
    for limit in ("0", "201", "", "x", "9" * 30, "٣"):
        caller("get", f"notifications/?limit={limit}", status=400)


def test_a_timeline_tells_what_happened_newest_first(script: Script) -> None:
    dead = letter(script)
    row = dead.work
    caller = superuser()
    caller("post", f"dead-letters/{dead.pk}/retry/", status=202)
    jobs.serve("note")
    lines = caller("get", f"notifications/{row.pk}/timeline/")
    assert [line["what"] for line in lines][-1] == "asked"
    attempts = [line for line in lines if line["what"] == "attempt"]
    assert [(line["outcome"], line["code"]) for line in attempts] == [
        ("accepted", "250"), ("permanent", "550"),
    ]  # fmt: skip
    [deed] = [line for line in lines if line["what"] == "person"]
    assert (deed["text"], deed["by"]) == ("Retried.", "boss")
    times = [line["at"] for line in lines]
    assert times == sorted(times, reverse=True)


def test_a_preview_shows_the_message_or_says_why_not() -> None:
    row = ask()
    caller = superuser()
    shown = caller("get", f"notifications/{row.pk}/preview/")
    assert (shown["channel"], shown["sample"]) == ("note", False)
    assert shown["message"]["to"] == BOB
    Notification.objects.update(kind="gone")
    assert "gone" in caller("get", f"notifications/{row.pk}/preview/", status=409)["detail"]


def test_verbs_say_409_in_the_wrong_state() -> None:
    done, waiting = sent(), ask("w@example.com")
    caller = superuser()
    for path in (f"{done.pk}/retry/", f"{done.pk}/cancel/", f"{waiting.pk}/resend/"):
        problem = caller("post", f"notifications/{path}", status=409)
        assert problem["title"] == "Conflict"
    assert caller("post", f"notifications/{waiting.pk}/cancel/", status=202)["state"] == "cancelled"
    assert caller("post", f"notifications/{waiting.pk}/retry/", status=202)["state"] == "pending"


def test_a_message_is_sent_again_once_with_one_key() -> None:
    row = sent()
    caller = superuser()
    path, key = f"notifications/{row.pk}/resend/", {"Idempotency-Key": "twice"}
    first = caller("post", path, status=201, **key)
    assert caller("post", path, status=201, **key)["id"] == first["id"]
    assert first["resend_of"] == row.pk
    assert caller("post", path, status=201)["id"] != first["id"]


def test_a_row_is_removed_unless_a_worker_has_it() -> None:
    row = ask()
    caller = superuser()
    Notification.objects.update(token="6f1b5c9e-0000-4000-8000-000000000000", started=True)
    caller("delete", f"notifications/{row.pk}/", status=409)
    Notification.objects.update(started=False)
    caller("delete", f"notifications/{row.pk}/", status=204)
    caller("get", f"notifications/{row.pk}/", status=404)
    jobs.serve("note")
    task = Task.objects.create(name="shop.stock.load", queue="default")
    caller("delete", f"tasks/{task.pk}/", status=204)
    caller("delete", f"tasks/{9**19}/", status=404)
    assert LogEntry.objects.filter(change_message="Removed: it was pending.").count() == 2


def test_a_test_message_goes_out(script: Script) -> None:
    caller = person("send_test", SEE)
    row = caller("post", "test-message/", {"channel": "note"}, status=202)
    jobs.serve("note")
    assert caller("get", f"notifications/{row['id']}/")["state"] == "sent"
    caller("post", "test-message/", {"channel": "pigeon", "to": BOB}, status=400)
    caller("post", "test-message/", {"channel": "note", "to": "nobody"}, status=400)
    nobody = superuser()  # without an address
    nobody("post", "test-message/", {"channel": "note"}, status=400)
    nobody("post", "test-message/", {"channel": "note", "to": BOB}, status=403)


# -- tasks ----------------------------------------------------------------------------------------


def test_tasks_are_found_and_their_contents_are_for_those_who_may() -> None:
    task = Task.objects.create(
        name="shop.stock.load", queue="default", payload={"a": 1}, result=7, topic="t"
    )
    caller = superuser()
    for query in ("", "?name=shop.stock.load", "?topic=t&state=pending", "?queue=default"):
        assert [row["id"] for row in caller("get", f"tasks/{query}")["results"]] == [task.pk]
    seen = caller("get", f"tasks/{task.pk}/")
    hidden = person("view_task")("get", f"tasks/{task.pk}/")
    assert (seen["payload"], seen["result"]) == ({"a": 1}, 7)
    assert (hidden["payload"], hidden["result"]) == (None, None)


def test_background_work_can_be_stopped(script: Script) -> None:
    letters(script, 2)
    holds.hold("queue", "default", reason="not yet")
    caller = superuser()
    told = caller("post", "dead-letters/retry/", {"filter": {}}, status=202)
    assert caller("post", f"tasks/{told['task']}/cancel/", status=202)["state"] == "cancelled"
    caller("post", f"tasks/{told['task']}/cancel/", status=409)
    assert DeadLetter.objects.count() == 2


# -- dead letters ---------------------------------------------------------------------------------


def test_dead_letters_are_listed_by_what_they_have_in_common(script: Script) -> None:
    keys = letters(script, 2)
    caller = superuser()
    for query in ("", "?queue=note", "?code=550", "?name=test_note&queue=note"):
        rows = caller("get", f"dead-letters/{query}")["results"]
        assert [row["id"] for row in rows] == keys[::-1], query
    assert caller("get", "dead-letters/?queue=email")["results"] == []
    assert "traceback" in caller("get", f"dead-letters/{keys[0]}/")
    [group] = caller("get", "dead-letters/groups/")
    assert group["count"] == 2


def test_many_are_done_by_a_count_that_was_seen(script: Script) -> None:
    keys = letters(script, 3)
    caller = superuser()
    asked = {"filter": {"code": "550"}, "dry_run": True}
    seen = caller("post", "dead-letters/discard/", asked)
    assert (seen["count"], len(seen["sample"])) == (3, 3)
    letter(script, "more@example.com")
    body = {"filter": {"code": "550"}, "expected_count": 3}
    assert "4" in caller("post", "dead-letters/discard/", body, status=409)["detail"]
    body = {"ids": keys, "expected_count": 3}
    told = caller("post", "dead-letters/discard/", body, status=202)
    jobs.serve("default")
    assert caller("get", f"tasks/{told['task']}/")["result"]["done"] == 3
    assert DeadLetter.objects.count() == 1
    caller("post", "dead-letters/retry/", {"filter": {}, "canary": 1}, status=202)
    for body in (
        {},
        {"ids": keys, "filter": {}},
        {"ids": []},
        {"filter": {"reason": "x"}, "ids": 1},
    ):
        caller("post", "dead-letters/retry/", body, status=400)
    caller("post", "dead-letters/retry/", {"ids": [10**9]}, status=409)


def test_one_is_discarded_and_never_sent(script: Script) -> None:
    dead = letter(script)
    superuser()("delete", f"dead-letters/{dead.pk}/", status=204)
    assert not DeadLetter.objects.exists()
    assert Notification.objects.get().state == State.DEAD


# -- the rest -------------------------------------------------------------------------------------


def test_elsewhere_is_404_and_other_methods_are_405() -> None:
    caller = superuser()
    assert caller("get", "nothing/here/", status=404)["title"] == "Not Found"
    assert caller("get", "", status=404)["status"] == 404
    caller("put", "queues/", status=405)
    assert caller.answer.headers["Allow"] == "GET, HEAD"
    caller("options", "queues/", status=405)


def test_a_database_that_is_away_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = superuser()

    def away() -> None:
        raise OperationalError("connection to 10.0.0.1 refused")

    monkeypatch.setattr("notifications.statistics.all_queue_stats", away)
    problem = caller("get", "queues/", status=503)
    assert problem["detail"] == "The database does not answer."


def test_a_page_takes_few_queries(django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        ask(f"a{number}@example.com")
    caller = superuser()
    with django_assert_max_num_queries(4):  # session, user, newest key, rows
        caller("get", "notifications/?state=pending")


def test_bearer_of_a_superuser_sees_all() -> None:
    bearer(staff_user())("get", "dashboard/")

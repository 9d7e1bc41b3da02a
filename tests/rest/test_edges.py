"""What must not go through: slips of the pen, odd cursors, odd hosts, other people's addresses."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.test import override_settings

from notifications import jobs
from notifications.models import DeadLetter, Notification, Task
from notifications.retries import RetryPolicy
from notifications.tasks import task
from tests.admin.screens import ask, letter
from tests.rest.callers import anybody, person, superuser
from tests.scripted import SETTINGS, Script

pytestmark = pytest.mark.django_db(transaction=True)


@task(name="test.no_tea", retry=RetryPolicy(retries=0))
def fail() -> None:
    raise ValueError("no tea")


def test_a_slip_of_the_pen_does_not_mean_all(script: Script) -> None:
    letter(script)
    caller = superuser()
    for body in (
        {"filter": {"queeu": "note"}},
        {"filter": {"queue": "note"}, "dryrun": True},
        {"filter": {}, "expected": 1},
    ):
        problem = caller("post", "dead-letters/discard/", body, status=400)
        assert "not known" in str(problem["errors"])
    assert DeadLetter.objects.exists()
    assert not Task.objects.exists()
    for address in ("notifications/?knd=x", "tasks/?stat=dead", "dead-letters/?queeu=note",
                    "stats/?windw=1h"):  # fmt: skip
        caller("get", address, status=400)


@pytest.mark.sqlite_only
def test_no_page_is_longer_than_the_longest() -> None:
    caller = superuser()
    for limit in ("0", "201", "0000000010000", "1" * 30, "٣", "5.0", "", "-1"):
        caller("get", f"notifications/?{urlencode({'limit': limit})}", status=400)


def test_a_cursor_that_leads_nowhere_is_no_error_of_ours() -> None:
    ask()
    caller = superuser()
    for inside in ("p=x", "p=1.5", f"p={10**30}", "p=", "p=-1"):
        cursor = base64.b64encode(inside.encode()).decode()
        caller("get", f"notifications/?{urlencode({'cursor': cursor})}", status=404)
    far = base64.b64encode(b"p=1&r=1&o=99999").decode()
    assert caller("get", f"notifications/?{urlencode({'cursor': far})}")["results"] == []


@pytest.mark.sqlite_only
def test_a_host_without_anonymous_users_refuses_strangers() -> None:
    with override_settings(REST_FRAMEWORK={"UNAUTHENTICATED_USER": None}):
        anybody()("get", "queues/", status=401)
        assert "status" in anybody().client.get("/api/health/").json()


NO_CACHE = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://127.0.0.1:1/0",
    }
}


@pytest.mark.sqlite_only
def test_without_a_cache_all_goes_on_and_tests_are_still_counted() -> None:
    caller = person("send_test", "manage_queue", "view_hold")
    once = {**SETTINGS, "REST": {"TEST_RATE": "1/h"}}
    with override_settings(CACHES=NO_CACHE, NOTIFICATIONS=once):
        caller("get", "queues/")
        caller("post", "queues/note/pause/", {})
        for status in (202, 429):
            caller("post", "test-message/", {"channel": "note"}, status=status)


@pytest.mark.sqlite_only
def test_a_test_goes_to_oneself_or_to_who_is_listed() -> None:
    caller = person("send_test")
    body = {"channel": "note"}
    assert Notification.objects.count() == 0
    caller("post", "test-message/", body, status=202)
    caller("post", "test-message/", {**body, "to": "Staff@example.com"}, status=202)
    assert set(Notification.objects.values_list("to", flat=True)) == {"staff@example.com"}
    caller("post", "test-message/", {**body, "to": "eve@example.com"}, status=403)
    listed = {**SETTINGS, "REST": {"TEST_RECIPIENTS": ["*@Example.com"]}}
    with override_settings(NOTIFICATIONS=listed):
        caller("post", "test-message/", {**body, "to": "eve@example.com"}, status=202)
        caller("post", "test-message/", {**body, "to": "eve@example.org"}, status=403)
    assert Notification.objects.filter(to="eve@example.com").count() == 1


def test_who_asked_for_a_message_is_written_down_once() -> None:
    caller = superuser()
    body = {"kind": "test_note", "to": "eve@example.com"}
    for _twice in range(2):
        key = {"Idempotency-Key": "order-7"}
        [row] = caller("post", "notifications/", body, status=201, **key)["notifications"]
    [deed] = LogEntry.objects.all()
    assert (deed.object_id, deed.change_message) == (str(row["id"]), "Asked for.")


@pytest.mark.sqlite_only
def test_one_row_tells_its_attempts_and_its_error(script: Script) -> None:
    row = letter(script).notification
    assert row is not None
    boss = superuser()
    told = boss("get", f"notifications/{row.pk}/")
    [attempt] = told["tries"]
    assert (attempt["number"], attempt["outcome"], attempt["code"]) == (1, "permanent", "550")
    assert (told["error"]["code"], told["error"]["traceback"]) == ("550", "")
    assert "tries" not in boss("get", "notifications/")["results"][0]
    viewer = person("view_notification")
    assert viewer("get", f"notifications/{row.pk}/")["error"] is None


def test_a_task_that_failed_tells_why() -> None:
    with transaction.atomic():
        row = fail.enqueue()
    jobs.serve("default")
    boss = superuser()
    told = boss("get", f"tasks/{row.pk}/")
    assert told["state"] == "dead"
    assert len(told["tries"]) == 1
    assert told["error"]["error"].endswith("ValueError")
    assert "no tea" in told["error"]["traceback"]
    waiting = Task.objects.create(name="test.no_tea", queue="default")
    told = boss("get", f"tasks/{waiting.pk}/")
    assert (told["tries"], told["error"]) == ([], None)

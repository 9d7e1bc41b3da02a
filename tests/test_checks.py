"""Each check speaks up for its own mistake, says what to do, and is silent otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core import checks
from django.core.management import call_command, get_commands
from django.db import connection, connections
from django.test import override_settings

from notifications import conf, kinds, tasks
from notifications.kinds import Kind
from notifications.tasks import task

REDIS = {"URL": "redis://127.0.0.1:6379/0"}
HOOK = {"WEBHOOK": "https://chat.example/hook"}
SOUND = "redis://127.0.0.1:6379/0?socket_timeout=5"
EMAIL: dict[str, Any] = {"PROVIDERS": ["smtp"]}


def found(**settings: Any) -> list[checks.CheckMessage]:
    with override_settings(**settings):
        return checks.run_checks(tags=["notifications"])


def ids(messages: list[checks.CheckMessage]) -> set[str]:
    return {str(message.id).removeprefix("notifications.") for message in messages}


def changed(settings: Any, **values: Any) -> dict[str, Any]:
    return {"NOTIFICATIONS": {**settings.NOTIFICATIONS, **values}}


def test_the_shop_is_in_order() -> None:
    assert found() == []
    call_command("check", fail_level="WARNING")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"CHANELS": {}}, "NOTIFICATIONS has no setting 'CHANELS'; there are: ENVIRONMENT, "),
        ({"LEASE": "30s"}, "['LEASE'] must be a number above 0, not '30s'"),
        ({"CLOCK": 0}, "['CLOCK'] must be a number above 0, not 0"),
        ({"CLAIM": True}, "['CLAIM'] must be a number above 0, not True"),
        ({"TASK_QUEUES": "default"}, "must be a list of names, not 'default'"),
        ({"RECIPIENTS": {"email": "x"}}, 'must be "*", a list of address patterns or'),
        ({"RETENTION": {"sent": "a month"}}, "RETENTION: sent: 'a month' is no duration"),
        ({"REPORT": "often"}, "REPORT'] must be a number of seconds"),
        ({"ERASE_AFTER": "soon"}, "ERASE_AFTER: 'soon' is no duration"),
        ({"REST": {"RATE": "fast"}}, "'RATE']: 'fast' is no rate"),
        ({"REST": {"TEST_RECIPIENTS": "*"}}, "'TEST_RECIPIENTS'] must be a list"),
        ({"BACKLOG_AGE": "3 days"}, "BACKLOG_AGE: '3 days' is no duration"),
        ({"ALERTS": {"WEBHOOK": "file:///etc/passwd"}}, "must begin with https://, not 'file:"),
        ({"ALERTS": {"CHANNELS": ["sms"]}}, "['CHANNELS'] must be a dict such as"),
        ({"RETRY": {"RETRIES": -1}}, "['RETRY']: "),
        ({"CHANNELS": {"email": {**EMAIL, "RATE": "fast"}}}, "'fast' is no rate"),
        (
            {"CHANNELS": {"email": {"PROVIDERS": ["carrier pigeon"]}}},
            "no provider 'carrier pigeon'",
        ),
        ({"CHANNELS": {"fax": {}}}, "['CHANNELS']['fax'] lacks 'BACKEND'"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], says: str, settings: Any) -> None:
    [message] = found(**changed(settings, **values))
    assert message.id == "notifications.E001"
    assert says in message.msg


def test_the_setting_must_be_a_dict() -> None:
    [message] = found(NOTIFICATIONS=["email"])
    assert message.msg == "NOTIFICATIONS must be a dict."


@pytest.mark.parametrize("rule", [None, "*", ["*@example.com"], {"REDIRECT": {"email": "me@x.de"}}])
def test_every_form_of_recipients_is_accepted(rule: Any, settings: Any) -> None:
    assert "E001" not in ids(found(**changed(settings, RECIPIENTS=rule)))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"RQ_QUEUES": {"default": REDIS}}, {"E002"}),
        ({"RQ_QUEUES": {"email": REDIS}}, {"E002"}),
        ({"USE_TZ": False}, {"E010"}),
        ({"RQ": {}}, {"W004"}),
        ({"RQ": {"WORKER_CLASS": "rq.Worker"}}, {"W004"}),
        ({"RQ": {"WORKER_CLASS": "no.such.Worker"}}, {"W004"}),
        ({"RQ": {"WORKER_CLASS": "notifications.worker.SimpleWorker"}}, set()),
        ({"RQ_SHOW_ADMIN_LINK": True}, {"W006"}),
    ],
)
def test_the_project_is_looked_at(wrong: dict[str, Any], expected: set[str]) -> None:
    messages = found(**wrong)
    # Without "default" the probe's tasks have no queue either.
    assert ids(messages) - {"E004"} == expected
    assert all(message.hint for message in messages)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"URL": "https://eu1-fast-cat.upstash.example"}, "E008"),
        ({"URL": "memcached://127.0.0.1"}, "E009"),
        ({"DB": 0}, "E009"),
        ({"URL": "redis://h/0?socket_timeout=5"}, ""),
        ({"HOST": "h", "PORT": 6379, "REDIS_CLIENT_KWARGS": {"socket_timeout": None}}, "W007"),
        ({"HOST": "h", "PORT": 6379, "REDIS_CLIENT_KWARGS": {"socket_timeout": 5}}, ""),
        ({"SENTINELS": [("h", 26379)], "MASTER_NAME": "m"}, "W007"),
        ({"SENTINELS": [("h", 26379)], "MASTER_NAME": "m", "SOCKET_TIMEOUT": 5}, ""),
    ],
)
def test_every_redis_is_looked_at(config: dict[str, Any], expected: str, settings: Any) -> None:
    messages = found(RQ_QUEUES={**settings.RQ_QUEUES, "reports": config})
    assert ids(messages) == ({expected} if expected else set())
    assert all("'reports'" in message.msg for message in messages)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"CHANNELS": {"email": {**EMAIL, "TIMEOUT": 30}}}, "E006"),
        ({"LEASE": 31.0}, "W001"),
        ({"CHANNELS": {"email": {"PROVIDERS": []}}}, "W002"),
        ({"RECIPIENTS": None, "ENVIRONMENT": "staging"}, "W003"),
        ({"RECIPIENTS": None, "ENVIRONMENT": "production", "ALERTS": HOOK}, ""),
    ],
)
def test_values_are_compared(values: dict[str, Any], expected: str, settings: Any) -> None:
    assert ids(found(**changed(settings, **values))) == ({expected} if expected else set())


def test_two_channels_cannot_share_a_queue(settings: Any) -> None:
    sms = {"BACKEND": "tests.scripted.NoteChannel", "QUEUE": "email", "PROVIDERS": ["smtp"]}
    messages = found(**changed(settings, CHANNELS={"email": EMAIL, "sms": sms}))
    assert ids(messages) == {"E003"}


SMS: dict[str, Any] = {"sms": {"PROVIDERS": ["other"]}}


@pytest.mark.parametrize(
    ("environment", "alerts", "channels", "admins", "expected"),
    [
        ("production", {}, {}, True, "of email locks"),
        ("production", {}, {}, False, "of email locks"),
        ("production", {}, SMS, True, "of email locks"),
        ("production", {}, SMS, False, "of email, sms locks"),
        ("production", {"CHANNELS": {"email": ["a@example.com"]}}, {}, True, "of email locks"),
        ("production", {"CHANNELS": {"sms": ["+12025550123"]}}, {}, True, "of email locks"),
        ("production", {"CHANNELS": {"sms": ["+12025550123"]}}, SMS, True, ""),
        ("production", {"CHANNELS": {"sms": ["+12025550123"]}}, SMS, False, "of sms locks"),
        ("production", HOOK, {}, False, ""),
        ("production", {"MAIL": "anymail.backends.resend.EmailBackend"}, {}, True, ""),
        ("test", {}, {}, False, ""),
    ],
)
def test_the_administrators_must_hear_of_a_locked_account(
    environment: str,
    alerts: dict[str, Any],
    channels: dict[str, Any],
    admins: bool,
    expected: str,
    settings: Any,
) -> None:
    settings.ADMINS = [("Ops", "ops@example.com")] if admins else []
    settings.RQ_QUEUES = {**settings.RQ_QUEUES, "sms": REDIS | {"URL": SOUND}}
    messages = found(
        **changed(
            settings,
            ENVIRONMENT=environment,
            ALERTS=alerts,
            CHANNELS={"email": EMAIL, **channels},
            PROVIDERS={"other": {"BACKEND": "tests.scripted.Scripted"}},
        )
    )
    assert ids(messages) == ({"W009"} if expected else set())
    assert all(expected in message.msg for message in messages)


def test_a_provider_must_not_queue_again(settings: Any) -> None:
    loop = {
        "BACKEND": "tests.scripted.Scripted",
        "OPTIONS": {"BACKEND": "notifications.backends.QueuedEmailBackend"},
    }
    messages = found(
        **changed(settings, PROVIDERS={"loop": loop}, CHANNELS={"email": {"PROVIDERS": ["loop"]}})
    )
    assert ids(messages) == {"E007"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"queue_name": "reports"}, {"E004"}),  # in no worker's hands
        ({"queue_name": "email"}, {"E004"}),  # a channel's queue
        ({"timeout": 601}, {"E005"}),
        ({"timeout": 600}, set()),
        ({"queue_name": "documents"}, set()),
    ],
)
def test_tasks_are_looked_at(options: dict[str, Any], expected: set[str]) -> None:
    register: Callable[[Any], Any] = task(name="test.checks.odd", **options)
    register(lambda: None)
    try:
        messages = found()
    finally:
        tasks._registry.pop("test.checks.odd")
    assert ids(messages) == expected
    assert all("test.checks.odd" in message.msg for message in messages)


@pytest.mark.parametrize(("secret", "expected"), [(True, {"E030"}), (False, set())])
def test_a_secret_must_not_stay_in_an_inbox(
    secret: bool, expected: set[str], settings: Any
) -> None:
    values = {"name": "test.checks.hint", "channels": ("email", "in_app"), "secret": secret}
    type("Hint", (Kind,), values)
    in_app = conf.CHANNEL_DEFAULTS["in_app"]
    try:
        messages = found(**changed(settings, CHANNELS={"email": EMAIL, "in_app": in_app}))
    finally:
        kinds._registry.pop("test.checks.hint")
    assert ids(messages) == expected


def test_the_order_of_the_apps_matters(settings: Any) -> None:
    """Django takes a command from the first app in INSTALLED_APPS that has it."""
    others = [name for name in settings.INSTALLED_APPS if name != "notifications"]
    get_commands.cache_clear()
    try:
        assert ids(found(INSTALLED_APPS=[*others, "notifications"])) == {"W005"}
    finally:
        get_commands.cache_clear()


@pytest.mark.sqlite_only
def test_sqlite_must_take_its_lock_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", "DEFERRED")
    assert ids(found()) == {"W008"}


def test_other_databases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    assert ids(found()) == {"E011"}

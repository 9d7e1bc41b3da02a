"""Each check speaks up for its own mistake, says what to do, and is silent otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import checks
from django.core.management import call_command, get_commands
from django.db import connection, connections
from django.test import override_settings

from notifications import conf, health, kinds, shapes, tasks
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
        ({"ENVIRONMENT": 5}, "['ENVIRONMENT'] must be a name, or None, not 5"),
        ({"LEASE": "30s"}, "['LEASE'] must be a number above 0, not '30s'"),
        ({"LEASE": float("inf")}, "['LEASE'] must be a number above 0, not inf"),
        ({"CLOCK": 0}, "['CLOCK'] must be a number above 0, not 0"),
        ({"CLAIM": True}, "['CLAIM'] must be a whole number above 0, not True"),
        ({"CLAIM": 2.5}, "['CLAIM'] must be a whole number above 0, not 2.5"),
        ({"TASK_QUEUE": 5}, "['TASK_QUEUE'] must be a name, not 5"),
        ({"TASK_QUEUES": "default"}, "must be a list of names, not 'default'"),
        ({"STRICT": "no"}, "['STRICT'] must be True or False, not 'no'"),
        ({"RECIPIENTS": {"email": "x"}}, 'must be "*", a list of address patterns or'),
        ({"RETENTION": {"sent": "a month"}}, "['RETENTION']['sent'] must be a duration, a number"),
        ({"RETENTION": {"sent": "-1d"}}, "['RETENTION']['sent'] must be a duration, a number"),
        ({"RETENTION": {"sent": {"COUNT": "5"}}}, "must be a duration, a number of rows, or None"),
        ({"RETENTION": {"sent": {"AGE": "-1d"}}}, "must be a duration, a number of rows, or None"),
        ({"RETENTION": {"snet": "1d"}}, "['RETENTION'] has no setting 'snet'; there are: sent"),
        ({"RETENTION": {"pending": "1d"}}, "['RETENTION'] has no setting 'pending'"),
        ({"RETENTION": None}, "['RETENTION'] must be a dict, not None"),
        ({"REPORT": "often"}, "['REPORT'] must be a number of seconds, or 0 for none"),
        ({"ERASE_AFTER": "soon"}, "['ERASE_AFTER'] must be a duration, or None, not 'soon'"),
        ({"BACKLOG_AGE": "3 days"}, "['BACKLOG_AGE'] must be a duration, or None"),
        ({"UNKNOWN_AFTER": []}, "['UNKNOWN_AFTER'] must be a duration, or None"),
        ({"HEALTH": 5}, "['HEALTH'] must be a dict, not 5"),
        ({"HEALTH": {"FALED": 10}}, "['HEALTH'] has no setting 'FALED'; there are: FAILED, "),
        ({"HEALTH": {"FAILED": "ten"}}, "['HEALTH']['FAILED'] must be a whole number"),
        ({"HEALTH": {"OLDEST": "five minutes"}}, "['HEALTH']['OLDEST'] must be a duration"),
        ({"HEALTH": {"OLDEST": None}}, "['HEALTH']['OLDEST'] must be a duration, not None"),
        ({"HEALTH": {"CLOCK": "x"}}, "['HEALTH']['CLOCK'] must be a duration"),
        ({"REST": None}, "['REST'] must be a dict, not None"),
        ({"REST": {"RAET": "1/s"}}, "['REST'] has no setting 'RAET'"),
        ({"REST": {"RATE": "fast"}}, "['REST']['RATE'] must be a rate, not 'fast'"),
        ({"REST": {"RATE": 5}}, "['REST']['RATE'] must be a rate, not 5"),
        ({"REST": {"TEST_RECIPIENTS": "*"}}, "['TEST_RECIPIENTS'] must be a list"),
        ({"METRICS_TOKEN": 5}, "['METRICS_TOKEN'] must be a string, not a value of type int"),
        ({"SUPPRESSION_KEY": 5}, "['SUPPRESSION_KEY'] must be a string"),
        ({"FRONTEND_URL": "shop.example"}, "['FRONTEND_URL'] must be the origin of the site"),
        ({"FRONTEND_URL": "https://["}, "['FRONTEND_URL'] must be the origin of the site"),
        ({"FROM_EMAIL": None}, "['FROM_EMAIL'] must be a string, not None"),
        ({"RETRY": {"RETRIES": -1}}, "['RETRY']['RETRIES'] must be a whole number"),
        ({"RETRY": {"BASE": "x"}}, "['RETRY']['BASE'] must be a number of seconds"),
        ({"RETRY": {"BACKOFF": "linear"}}, """['BACKOFF'] must be "exponential" or "fixed\""""),
        ({"BREAKER": {"FAILURES": "x"}}, "['BREAKER']['FAILURES'] must be a whole number"),
        ({"BREAKER": {"FAILURS": 3}}, "['BREAKER'] has no setting 'FAILURS'"),
        ({"BREAKER": {"BASE": 90.0}}, "NOTIFICATIONS['BREAKER']: FAILURES must be 1 or more"),
        ({"ALERTS": {"WEBHOOK": "file:///etc"}}, "['WEBHOOK'] must be an address that begins with"),
        ({"ALERTS": {"WEBHOK": "https://x"}}, "['ALERTS'] has no setting 'WEBHOK'"),
        ({"ALERTS": {"EVERY": "hourly"}}, "['ALERTS']['EVERY'] must be a duration"),
        ({"ALERTS": {"MAIL": "no.such.Backend"}}, "['ALERTS']['MAIL']: No module named 'no'"),
        ({"ALERTS": {"MAIL": 5}}, "['ALERTS']['MAIL'] must be the dotted path"),
        ({"ALERTS": {"CHANNELS": ["sms"]}}, "['CHANNELS'] must be a dict with a name for each"),
        ({"ALERTS": {"CHANNELS": {"email": "a@b.de"}}}, "must be a list of addresses, not 'a@b"),
        ({"ALERTS": {"CHANNELS": {"fax": ["1"]}}}, "names the channel 'fax'; there are: email, in"),
        ({"ALERTS": {"CHANNELS": {"email": ["ann"]}}}, "['email']: 'ann' is no address: "),
        ({"CHANNELS": {"email": 5}}, "['CHANNELS']['email'] must be a dict, not 5"),
        ({"CHANNELS": {"email": {"RAET": "1/s"}}}, "['CHANNELS']['email'] has no setting 'RAET'"),
        ({"CHANNELS": {"email": {"RATE": "fast"}}}, "['email']['RATE'] must be a rate"),
        ({"CHANNELS": {"email": {"TIMEOUT": 0}}}, "['email']['TIMEOUT'] must be a number above 0"),
        ({"CHANNELS": {"email": {"CONCURRENCY": 0}}}, "['CONCURRENCY'] must be a whole number abo"),
        (
            {"CHANNELS": {"email": {"CONCURRENCY": "many"}}},
            "['CONCURRENCY'] must be a whole number",
        ),
        ({"CHANNELS": {"email": {"PROVIDERS": "smtp"}}}, "['PROVIDERS'] must be a list of names"),
        (
            {"CHANNELS": {"email": {"PROVIDERS": ["carrier pigeon"]}}},
            "no provider 'carrier pigeon'",
        ),
        ({"CHANNELS": {"fax": {}}}, "['CHANNELS']['fax'] lacks 'BACKEND'"),
        ({"PROVIDERS": {"smtp": {}}}, "['PROVIDERS']['smtp'] lacks 'BACKEND'"),
        ({"PROVIDERS": {"smtp": {"BACKEND": "Smtp"}}}, "must be the dotted path of a class"),
        ({"PROVIDERS": {"x": {"BACKEND": "a.B", "OPTIONS": []}}}, "['OPTIONS'] must be a dict"),
        (
            {"PROVIDERS": {"smtp": {"BACKEND": "no.such"}}, "CHANNELS": {"email": EMAIL}},
            "['CHANNELS']['email']: No module named 'no'",
        ),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], says: str, settings: Any) -> None:
    [message] = found(**changed(settings, **values))
    assert message.id == "notifications.E001"
    assert says in message.msg
    assert message.hint


def test_the_setting_must_be_a_dict() -> None:
    [message] = found(NOTIFICATIONS=["email"])
    assert message.msg == "NOTIFICATIONS must be a dict."
    [message] = found(NOTIFICATIONS={5: "x"})
    assert message.msg.startswith("NOTIFICATIONS has no setting 5; there are: ")


def test_all_that_is_wrong_is_told_at_once(settings: Any) -> None:
    messages = found(**changed(settings, CLAIM=0, HEALTH={"FALED": 1, "OLDEST": 1}, REST=[]))
    assert [message.msg.partition("]")[0] for message in messages] == [
        "NOTIFICATIONS['CLAIM'", "NOTIFICATIONS['HEALTH'", "NOTIFICATIONS['REST'"
    ]  # fmt: skip
    assert messages[1].hint == "Did you mean 'FAILED'?"


def test_secrets_are_not_shown(settings: Any) -> None:
    wrong = {"METRICS_TOKEN": ["s3cret"], "ALERTS": {"WEBHOOK": "ftp://hooks/s3cret"}}
    wrong |= {"PROVIDERS": {"x": {"BACKEND": "a.B", "OPTIONS": "s3cret"}}}
    messages = found(**changed(settings, **wrong))
    assert len(messages) == 3
    assert "s3cret" not in str(messages)


def test_the_table_of_shapes_is_that_of_the_defaults() -> None:
    def keys(table: Any, values: Any, where: str = "") -> Iterator[str]:
        for name, shape in table.shapes.items():
            yield f"{where}{name}"
            if isinstance(shape, shapes.Table):
                yield from keys(shape, values[name], f"{where}{name}.")

    def default_keys(values: Any, where: str = "") -> Iterator[str]:
        for name, value in values.items():
            yield f"{where}{name}"
            if isinstance(value, dict) and name not in ("CHANNELS", "PROVIDERS"):
                yield from default_keys(value, f"{where}{name}.")

    known = set(keys(shapes.SETTINGS, conf.DEFAULTS))
    assert known - {"RETRY.LONGEST"} == set(default_keys(conf.DEFAULTS))
    assert list(shapes.problems(conf.DEFAULTS)) == []
    assert list(shapes.problems({"CHANNELS": conf.CHANNEL_DEFAULTS})) == []


@pytest.mark.django_db
def test_health_answers_whatever_the_settings_are(settings: Any) -> None:
    for wrong in ({"OLDEST": "x"}, {"FAILED": "ten"}, 5):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HEALTH": wrong}
        found = health.examine()
        assert found.level is health.Level.FAILING
        assert "health cannot be told" in found.reasons[0].text


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
        ({"CHANNELS": {"email": {**EMAIL, "TIMEOUT": 24}}}, "E006"),
        ({"CHANNELS": {"email": {**EMAIL, "TIMEOUT": 23.9}}}, ""),
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

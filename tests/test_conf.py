"""Settings: defaults, parsing, and errors that say what to write instead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from notifications import conf
from notifications.conf import Rate
from notifications.errors import UnknownChannel
from tests.scripted import SETTINGS, scripted


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/s", Rate(10, 1)), (" 300 / m ", Rate(300, 60)), ("5/h", Rate(5, 3600)), ("", None)],
)  # fmt: skip
def test_rates(text: str | None, rate: Rate | None) -> None:
    assert conf.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["ten", "10", "0/s", "1/week", "-1/s"])
def test_a_wrong_rate_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="10/s"):
        conf.parse_rate(text)


@pytest.mark.parametrize(
    ("value", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("1.5h", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        (60, timedelta(minutes=1)),
        (timedelta(1), timedelta(1)),
    ],
)
def test_durations(value: str | float | timedelta, duration: timedelta) -> None:
    assert conf.parse_duration(value) == duration


def test_a_wrong_duration_says_how_to_write_one() -> None:
    with pytest.raises(ImproperlyConfigured, match="12h"):
        conf.parse_duration("a while")


@pytest.mark.parametrize(
    ("value", "age", "count"),
    [
        ("30d", timedelta(days=30), None),
        ({"AGE": "30d"}, timedelta(days=30), None),
        ({"AGE": "2d", "COUNT": 1000}, timedelta(days=2), 1000),
        ({"COUNT": 0}, None, 0),
        (None, None, None),
    ],
)
def test_what_is_kept_is_told_by_age_by_count_or_by_both(
    value: Any, age: timedelta | None, count: int | None
) -> None:
    assert conf.parse_retention(value) == conf.Retention(age, count)


@pytest.mark.parametrize("value", [{"COUNT": -1}, {"COUNT": True}, {"MOST": 5}, {"AGE": "a while"}])
def test_what_does_not_say_how_much_is_kept_is_refused(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="30d"):
        conf.parse_retention(value)


def test_defaults_stand_where_nothing_is_set() -> None:
    with override_settings(NOTIFICATIONS={}):
        assert conf.get("LEASE") == 30.0
        assert conf.retry_policy().retries == 3


def test_what_a_project_leaves_out_keeps_its_default() -> None:
    with override_settings(NOTIFICATIONS={"RETENTION": {"sent": "7d"}, "HEALTH": {"DLQ": 1}}):
        assert conf.get("RETENTION") == {**conf.DEFAULTS["RETENTION"], "sent": "7d"}
        assert (conf.get("HEALTH")["DLQ"], conf.get("HEALTH")["FAILED"]) == (1, 10)
        assert "twilio" in conf.get("PROVIDERS")


def test_settings_are_read_live() -> None:
    with scripted(_RETRY={"RETRIES": 1}):
        assert conf.retry_policy().retries == 1
    with scripted(_RETRY={"RETRIES": 2}):
        assert conf.retry_policy().retries == 2


def test_an_unknown_setting_is_an_error_of_the_caller() -> None:
    with pytest.raises(ImproperlyConfigured, match="COLOUR"):
        conf.get("COLOUR")


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ({"PROVIDERS": ["pigeon"]}, "no provider 'pigeon'"),
        ({"RATE": "fast"}, "no rate"),
        ({"BACKEND": "nowhere.Channel"}, "nowhere"),
        ({"CONCURRENCY": "many"}, "many"),
    ],
)
def test_a_wrong_channel_is_named(channel: dict[str, object], words: str) -> None:
    with scripted(**channel), pytest.raises(ImproperlyConfigured, match=words) as caught:
        conf.channels()
    assert "'note'" in str(caught.value)


def test_a_channel_without_a_class_is_named() -> None:
    broken = {**SETTINGS, "CHANNELS": {"fax": {}}}
    with (
        override_settings(NOTIFICATIONS=broken),
        pytest.raises(ImproperlyConfigured, match="BACKEND"),
    ):
        conf.channels()


def test_a_wrong_retry_policy_is_named() -> None:
    with scripted(_RETRY={"RETRIES": -1}), pytest.raises(ImproperlyConfigured, match="RETRY"):
        conf.retry_policy()


def test_channels_providers_and_queues_are_found_by_name() -> None:
    with scripted():
        assert conf.channel("note").queue == "note"
        assert conf.provider("first").name == "first"
        found = conf.channel_of_queue("note")
        assert found is not None
        assert found.name == "note"
        assert conf.channel_of_queue("default") is None
        assert conf.owns_queue("note")
        assert conf.owns_queue("default")
        assert not conf.owns_queue("host")
        assert conf.queue_names() == ("default", "note", "host")
        with pytest.raises(UnknownChannel, match="there are: note"):
            conf.channel("fax")
        with pytest.raises(ImproperlyConfigured, match="pigeon"):
            conf.provider("pigeon")


@pytest.mark.parametrize(("debug", "name"), [(True, "development"), (False, "production")])
def test_the_environment_has_a_default(debug: bool, name: str) -> None:
    with override_settings(DEBUG=debug, NOTIFICATIONS={}):
        assert conf.environment() == name

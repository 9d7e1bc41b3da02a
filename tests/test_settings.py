"""The environment: every variable, its default, and what a bad value says."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import environment
from config.environment import (
    read_address,
    read_addresses,
    read_database,
    read_flag,
    read_number,
    read_origin,
    read_rate,
    read_redis,
    read_secret_key,
    read_text,
    read_words,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment that holds nothing but what the test puts in."""
    values: dict[str, str] = {}
    monkeypatch.setattr(environment.env, "ENVIRON", values)
    return values


READERS: dict[str, tuple[Callable[[str], Any], list[tuple[str, Any]], list[str]]] = {
    "text": (
        lambda name: read_text(name, "tea"),
        [("", "tea"), (" x ", "x"), ("$ecret", "$ecret"), ("a,b=c #d", "a,b=c #d")],
        ["a\nb", "a\x00b"],
    ),
    "flag": (
        lambda name: read_flag(name, False),
        [("", False), ("true", True), ("YES", True), ("on", True), ("1", True), ("0", False)],
        ["maybe", "2", "truee"],
    ),
    "number": (
        lambda name: read_number(name, 7, least=1, most=10),
        [("", 7), ("1", 1), ("10", 10), ("+3", 3)],
        ["0", "11", "1.5", "ten", "1_0", "٣", "-1"],
    ),
    "words": (
        lambda name: read_words(name, ["smtp"], among=["smtp", "sendgrid"]),
        [("", ["smtp"]), ("sendgrid, smtp", ["sendgrid", "smtp"]), (",smtp,", ["smtp"])],
        ["pigeon", "smtp,pigeon"],
    ),
    "rate": (
        lambda name: read_rate(name, "10/s"),
        [("", ""), ("300/m", "300/m"), (" 5 / s ", "5 / s")],
        ["10", "0/s", "fast", "10/second"],
    ),
    "address": (
        lambda name: read_address(name, "shop@example.com"),
        [("", "shop@example.com"), ("a@localhost", "a@localhost")],
        ["shop", "Shop <shop@example.com>", "a@b@c.example"],
    ),
    "addresses": (
        read_addresses,
        [("", []), ("a@example.com, b@example.com", ["a@example.com", "b@example.com"])],
        ["a@example.com,b", "a@example.com;b@example.com"],
    ),
    "origin": (
        lambda name: read_origin(name, "http://localhost:8000"),
        [
            ("", "http://localhost:8000"),
            ("https://shop.example.com/", "https://shop.example.com"),
            ("http://[::1]:80", "http://[::1]:80"),
        ],
        [
            "shop.example.com",
            "ftp://x.example",
            "https://x.example/tea",
            "http://x:port",
            "http://",
        ],
    ),
    "database": (
        lambda name: read_database(name, "sqlite:////tea.sqlite3")["NAME"],
        [("", "/tea.sqlite3"), ("postgres://u:p@h:5/shop", "shop")],
        ["mysql://u:p@h/shop", "shop", "postgres://h:port/x"],
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_good_values_are_read(reader: str, variables: dict[str, str]) -> None:
    read, good, _bad = READERS[reader]
    for text, value in good:
        variables["TEA"] = text
        assert read("TEA") == value, text


@pytest.mark.parametrize("reader", READERS)
def test_bad_values_name_their_variable(reader: str, variables: dict[str, str]) -> None:
    read, _good, bad = READERS[reader]
    for text in bad:
        variables["TEA"] = text
        with pytest.raises(ImproperlyConfigured, match=r"^The environment variable TEA ") as caught:
            read("TEA")
        assert len(str(caught.value)) > 40, "says what to write"


def test_a_rate_that_is_not_set_is_the_default() -> None:
    assert read_rate("TEA", "10/s") == "10/s"


def test_what_is_needed_must_be_set() -> None:
    with pytest.raises(ImproperlyConfigured, match="KEY is not set, and EMAIL_PROVIDERS names it"):
        read_text("KEY", needed_for="EMAIL_PROVIDERS names it")


@pytest.mark.parametrize(
    ("given", "entry"),
    [
        ({}, {"HOST": "localhost", "PORT": 6379, "DB": 0, "PASSWORD": None}),
        (
            {"REDIS_HOST": "r", "REDIS_PORT": "7", "REDIS_DB": "2", "REDIS_PASSWORD": "$p"},
            {"HOST": "r", "PORT": 7, "DB": 2, "PASSWORD": "$p"},
        ),
        ({"REDIS_URL": "rediss://:p@r:7/2", "REDIS_HOST": "x"}, {"URL": "rediss://:p@r:7/2"}),
        ({"REDIS_URL": "unix:///run/redis.sock"}, {"URL": "unix:///run/redis.sock"}),
    ],
)
def test_where_redis_is(
    given: dict[str, str], entry: dict[str, object], variables: dict[str, str]
) -> None:
    variables.update(given)
    assert read_redis() == entry


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"REDIS_URL": "https://eu1.redis.example"}, "REST service"),
        ({"REDIS_URL": "localhost:6379"}, 'must begin with "redis://"'),
        ({"REDIS_URL": "redis://localhost:port"}, "must look like"),
        ({"REDIS_URL": "redis://localhost/first"}, "must look like"),
        ({"REDIS_PORT": "70000"}, "REDIS_PORT"),
        ({"REDIS_DB": "-1"}, "REDIS_DB"),
    ],
)
def test_where_redis_cannot_be(
    given: dict[str, str], words: str, variables: dict[str, str]
) -> None:
    variables.update(given)
    with pytest.raises(ImproperlyConfigured, match=words) as caught:
        read_redis()
    assert "eu1" not in str(caught.value), "an address may hold a password"


def test_a_secret_key_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / ".secret-key"
    key = read_secret_key("SECRET_KEY", kept_in=path)
    assert len(key) >= 50
    assert read_secret_key("SECRET_KEY", kept_in=path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [".secret-key"]


def test_of_two_processes_that_start_together_the_first_ones_key_is_taken(tmp_path: Path) -> None:
    path = tmp_path / ".secret-key"
    key = read_secret_key("SECRET_KEY", kept_in=path)
    assert environment._keep_key(path) == key  # it had looked before the first one wrote


def test_a_given_secret_key_is_kept_nowhere(tmp_path: Path, variables: dict[str, str]) -> None:
    variables["SECRET_KEY"] = "given"
    assert read_secret_key("SECRET_KEY", kept_in=tmp_path / "key") == "given"
    assert not list(tmp_path.iterdir())


def test_a_key_that_cannot_be_kept_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY is not set, and .* written"):
        read_secret_key("SECRET_KEY", kept_in=tmp_path / "nowhere" / "key")
    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY is not set, and .* read"):
        read_secret_key("SECRET_KEY", kept_in=tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(ImproperlyConfigured, match="is empty"):
        read_secret_key("SECRET_KEY", kept_in=tmp_path / "empty")


# -- the settings themselves ----------------------------------------------------------------


def load(expression: str, **variables: str) -> str:
    """What `expression` is in a fresh process that has these variables alone."""
    script = f"from config import settings as s; print(repr({expression}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SECRET_KEY": "x", "LC_ALL": "C.UTF-8", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("expression", "variables", "value"),
    [
        ("[s.DEBUG, s.ENVIRONMENT]", {}, "[False, 'production']"),
        ("s.ENVIRONMENT", {"DEBUG": "1"}, "'development'"),
        ("s.ENVIRONMENT", {"DEBUG": "1", "ENVIRONMENT": "staging"}, "'staging'"),
        (
            "s.DATABASES['default']['OPTIONS']['transaction_mode']",
            {},
            "'IMMEDIATE'",
        ),
        (
            "s.DATABASES['default']['OPTIONS']",
            {"DATABASE_URL": "postgres://u:p@h/shop?sslmode=require"},
            "{'sslmode': 'require', 'connect_timeout': 5}",
        ),
        ("s.NOTIFICATIONS['RECIPIENTS'][0]", {}, "'*@example.com'"),
        (
            "s.NOTIFICATIONS['RECIPIENTS']",
            {"REDIRECT_EMAIL_TO": "me@example.com"},
            "{'REDIRECT': {'email': 'me@example.com'}}",
        ),
        ("s.NOTIFICATIONS['RECIPIENTS']", {"ALLOWED_RECIPIENTS": "*"}, "['*']"),
        (
            "s.NOTIFICATIONS['CHANNELS']['email']",
            {},
            "{'PROVIDERS': ['smtp'], 'RATE': '10/s', 'CONCURRENCY': 5}",
        ),
        (
            "s.NOTIFICATIONS['CHANNELS']['email']",
            {"EMAIL_QUEUE_RATE": "", "EMAIL_QUEUE_CONCURRENCY": "50"},
            "{'PROVIDERS': ['smtp'], 'RATE': '', 'CONCURRENCY': 50}",
        ),
        (
            "s.NOTIFICATIONS['PROVIDERS']['sendgrid']['OPTIONS']['api_key']",
            {"EMAIL_PROVIDERS": "sendgrid,smtp", "SENDGRID_API_KEY": "SG.x"},
            "'SG.x'",
        ),
        ("s.NOTIFICATIONS['PROVIDERS']", {"SENDGRID_API_KEY": "SG.x"}, "{}"),
        (
            "s.NOTIFICATIONS['RETRY']",
            {"JOB_MAX_RETRIES": "5", "JOB_RETRY_DELAY": "500"},
            "{'RETRIES': 5, 'BASE': 0.5}",
        ),
        (
            "s.DEFAULT_FROM_EMAIL",
            {"FROM_NAME": "Käse, Shop"},
            "'\"Käse, Shop\" <shop@example.com>'",
        ),
        ("s.CONTACT_EMAIL", {"FROM_EMAIL": "a@example.com"}, "'a@example.com'"),
        ("s.ADMINS", {"ADMIN_EMAILS": "a@example.com"}, "[('a@example.com', 'a@example.com')]"),
        ("s.SILENCED_SYSTEM_CHECKS", {}, "['notifications.W009']"),
        ("s.SILENCED_SYSTEM_CHECKS", {"FRONTEND_URL": "https://x.example"}, "[]"),
        ("s.SESSION_COOKIE_SECURE", {"FRONTEND_URL": "https://x.example"}, "True"),
        ("s.CSRF_COOKIE_SECURE", {}, "False"),
        ("s.CAUGHT_MAIL", {"CAUGHT_MAIL": "/mail"}, "''"),
        ("s.CAUGHT_MAIL", {"CAUGHT_MAIL": "/mail", "DEBUG": "1"}, "'/mail'"),
        ("s.CAUGHT_PHONES", {"CAUGHT_PHONES": "/phones"}, "''"),
        ("s.CAUGHT_PHONES", {"CAUGHT_PHONES": "/phones", "DEBUG": "1"}, "'/phones'"),
    ],
)
def test_what_the_environment_makes(expression: str, variables: dict[str, str], value: str) -> None:
    assert load(expression, **variables) == value


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"EMAIL_PROVIDERS": "sendgrid"}, "SENDGRID_API_KEY is not set"),
        ({"EMAIL_PROVIDERS": "pigeon"}, "there are: smtp, sendgrid, resend"),
        ({"EMAIL_USE_TLS": "1", "EMAIL_USE_SSL": "1"}, "both on"),
        ({"EMAIL_TIMEOUT": "0"}, "EMAIL_TIMEOUT"),
        ({"EMAIL_QUEUE_CONCURRENCY": "0"}, "EMAIL_QUEUE_CONCURRENCY"),
        ({"FRONTEND_URL": "shop.example.com"}, "FRONTEND_URL"),
    ],
)
def test_a_bad_environment_stops_the_start(variables: dict[str, str], words: str) -> None:
    message = load("s", **variables)
    assert message.startswith("django.core.exceptions.ImproperlyConfigured: ")
    assert words in message


def test_the_example_explains_every_variable() -> None:
    sources = [(ROOT / "config" / name).read_text() for name in ("settings.py", "environment.py")]
    read = set(re.findall(r'read_\w+\(\s*"([A-Z_]+)"', "\n".join(sources)))
    services = set(re.findall(r'\("([A-Z_]+_API_KEY)", "anymail', sources[0]))
    example = (ROOT / ".env.example").read_text()
    explained = set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE))
    assert read | services | {"REDIS_URL", "WORKER_HEALTH_CHECK_PORT"} == explained
    assert not re.search(r"^[A-Z]", example, re.MULTILINE), "copied as it is, it changes nothing"


def test_the_values_of_the_example_are_the_defaults() -> None:
    example = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", example, re.MULTILINE))
    names = "DEBUG FRONTEND_URL ENVIRONMENT EMAIL_HOST EMAIL_PORT EMAIL_TIMEOUT EMAIL_USE_TLS"
    names += " EMAIL_USE_SSL FROM_NAME FROM_EMAIL CONTACT_EMAIL"
    values = load(f"[str(getattr(s, name)) for name in {names.split()!r}]")
    values = values.replace("'False'", "'false'")
    assert values == repr([shown[name] for name in names.split()])
    lists = load("[','.join(each) for each in (s.ALLOWED_HOSTS, s.NOTIFICATIONS['RECIPIENTS'])]")
    assert lists == repr([shown["ALLOWED_HOSTS"], shown["ALLOWED_RECIPIENTS"]])

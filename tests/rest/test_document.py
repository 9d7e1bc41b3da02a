"""The OpenAPI document, and whether the API keeps to it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from django.test.client import Client
from django.urls import NoReverseMatch
from rq import Worker

from notifications import health
from notifications.models import DeadLetter, Notification, Task
from notifications.muting import muted
from notifications.rest import document
from notifications.tokens import make_token
from orders.models import User
from tests.admin.screens import ask, letter
from tests.rest.callers import anybody, person, superuser
from tests.scripted import SETTINGS, Script

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()

HOSTILE = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_SCHEMA_CLASS": "rest_framework.schemas.coreapi.AutoSchema",
    "EXCEPTION_HANDLER": "tests.nowhere",
    "PAGE_SIZE": 1,
    "DATETIME_FORMAT": "%d.%m.%Y",
    "DATETIME_INPUT_FORMATS": ["%d.%m.%Y"],
    "COERCE_DECIMAL_TO_STRING": False,
    "NON_FIELD_ERRORS_KEY": "odd",
}

# What these are sent may fit the document and still mean nothing: a kind that is not there, a time
# that is over, the name of another queue. That is a 400, too.
MEANT = ("POST /notifications/", "POST /test-message/", "POST /queues/{name}/pause/",
         "POST /queues/{name}/empty/", "POST /queues/{name}/clean/",
         "POST /dead-letters/retry/", "POST /dead-letters/discard/")  # fmt: skip
MEANING = """[[operations]]
include-name = "{}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "403", "404", "409", "422"]
"""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def queues(script: Script, redis: Any) -> Iterator[None]:
    names = ("default", "note", "host")
    generous = {
        **SETTINGS,
        "REST": {"RATE": "", "TEST_RATE": ""},
        "HEALTH": {"CLOCK": "1h"},
    }
    with override_settings(
        RQ_QUEUES={name: {"URL": os.environ["REDIS_URL"]} for name in names},
        NOTIFICATIONS=generous,
    ):
        yield


def test_the_document_is_for_staff_and_says_where_the_api_is() -> None:
    anybody()("get", "schema/", status=401)
    told = person()("get", "schema/")
    assert told["openapi"].startswith("3.")
    assert told["servers"] == [{"url": "/api"}]
    assert set(told["paths"]["/queues/{name}/empty/"]["post"]["responses"]) >= {"202", "400", "409"}
    page = told["components"]["schemas"]["PaginatedNotificationShapeList"]["properties"]
    assert set(page) == {"next", "previous", "results"}
    names = [each["operationId"] for path in told["paths"].values() for each in path.values()]
    assert len(names) == len(set(names))


def test_the_page_for_people_takes_its_scripts_from_the_site() -> None:
    client = superuser().client
    page = client.get("/api/docs/")
    content = page.content.decode()
    assert 'data-schema="/api/schema/"' in content
    assert "https://" not in content
    assert Client().get("/api/docs/").url == "/admin/login/?next=/api/docs/"


def test_the_page_for_people_leads_to_the_sites_login_without_the_admin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reverse(name: str) -> str:
        raise NoReverseMatch(name)

    monkeypatch.setattr(document, "reverse", reverse)
    assert Client().get("/api/docs/").url == "/account/log-in/?next=/api/docs/"


def test_the_hosts_own_defaults_neither_leak_in_nor_break_it(script: Script) -> None:
    ask()
    letter(script, "eve@example.com")
    spectacular = {"TITLE": "Host", "SERVERS": [{"url": "https://host.example"}]}
    document._described.clear()
    with override_settings(REST_FRAMEWORK=HOSTILE, SPECTACULAR_SETTINGS=spectacular):
        caller = superuser()
        rows = caller("get", "notifications/")
        assert set(rows) == {"next", "previous", "results"}
        assert len(rows["results"]) == 2
        assert rows["results"][0]["created_at"].endswith("Z")
        until = {"until": "2090-01-01T00:00:00Z"}
        caller("post", "queues/note/pause/", until)
        assert "errors" in caller("post", "notifications/", {}, status=400)
        for _often in range(3):
            anybody()("get", "queues/", status=401)
        told = caller("get", "schema/")
    document._described.clear()
    assert told["info"]["title"] == "Notifications"
    assert told == superuser_document()


def superuser_document() -> Any:
    return document.describe()


@pytest.mark.sqlite_only
@pytest.mark.timeout(600)
def test_whatever_is_sent_the_api_does_as_its_document_says(
    script: Script, live_server: Any, redis: Any, tmp_path: Path
) -> None:
    """Schemathesis with all its checks, against a server with rows to read and to change."""
    with muted():
        user = User.objects.create_superuser("boss")
    _row, token = make_token(user, name="test")
    health.beat("test", ["default", "note"])  # else health/ answers 503, rightly
    worker = Worker(["default", "note"], connection=redis, name="test")
    worker.register_birth()
    for number in range(20):
        letter(script, f"nobody{number}@example.com")
        ask(f"later{number}@example.com", delay=999)
        Task.objects.create(name="shop.stock.load", queue="default")
    known = {
        "notifications": list(Notification.objects.values_list("pk", flat=True)),
        "tasks": list(Task.objects.values_list("pk", flat=True)),
        "dead-letters": list(DeadLetter.objects.values_list("pk", flat=True)),
        "queues": ["note", "default"],
    }
    told = copy.deepcopy(document.describe())
    for path, operations in told["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["schema"]["enum"] = known[path.split("/")[1]]
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(told))
    config = tmp_path / "schemathesis.toml"
    config.write_text("\n".join(map(MEANING.format, MEANT)))
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    options = {
        "url": f"{live_server.url}/api",
        "checks": "all",
        "max-examples": "3",
        "seed": "1",
        "generation-database": "none",
        "suppress-health-check": "all",
    }
    words += [str(file), *(f"--{name}={value}" for name, value in options.items()), "--no-color"]
    # Closed each time: Django's test server answers in two pieces, and the second one waits 40 ms
    # for the acknowledgement of the first (RFC 896) on a connection that stays.
    for header in (f"Authorization: Bearer {token}", "Connection: close"):
        words += ["--header", header]
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout[-20_000:]


def test_the_page_of_features_names_every_endpoint_and_field() -> None:
    told = person()("get", "schema/")
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `/")]
    listed = {(each.strip("`"), verb): fields for each, verb, fields in rows}
    assert listed == {
        (path, verb.upper()): ", ".join(f"`{name}`" for name in _fields(told, answer)) or "nothing"
        for path, verbs in told["paths"].items()
        for verb, answer in verbs.items()
    }


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """The fields of what an operation answers when it goes well; of a page, those of its rows."""
    status = min(each for each in operation["responses"] if each.startswith("2"))
    content = operation["responses"][status].get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    while not (fields := schema.get("properties")) or "results" in fields:
        inner = fields["results"]["items"] if fields else schema.get("items", schema)
        if "$ref" not in inner:
            return []
        schema = document["components"]["schemas"][inner["$ref"].rsplit("/", 1)[1]]
    return list(fields)

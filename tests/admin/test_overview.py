"""The overview's page."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.staticfiles import finders
from django.utils import timezone

from notifications import health, holds, jobs, overview
from notifications.health import Health, Level, Reason
from notifications.models import QueueTally
from tests.admin.screens import BOB, ask, boss, letter, list_of, staff, text_of, url
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


def totals(content: str) -> dict[str, str]:
    found = re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", content)
    return {name: re.sub(r"<[^>]+>", "", value) for name, value in found}


def test_it_tells_what_was_sent_what_failed_and_what_waits(script: Script) -> None:
    letter(script)
    ask("eve@example.com")
    jobs.serve("note")
    ask()
    content = text_of(boss(), list_of("overview"))
    told = totals(content)
    assert (told["Sent"], told["Failed"], told["Delivery rate"]) == ("1", "1", "50.0 %")
    assert (told["Waiting now"], told["Dead letters"]) == ("1", "1")
    assert re.fullmatch(r"\d+ s", told["Oldest wait"])
    assert BOB not in content
    assert url("deadletter", "groups") in content
    assert url("queue", "one", "note") in content


def test_the_chart_has_the_numbers_of_the_table(script: Script) -> None:
    letter(script)
    content = text_of(boss(), list_of("overview"), window="1h")
    [data] = re.findall(r'<script id="ntf-data" type="application/json">(.*?)</script>', content)
    chart = json.loads(data)
    assert {each["label"]: sum(each["data"]) for each in chart["sets"]} == {
        "sent": 0, "failed": 1, "waiting": 0, "not sent on purpose": 0,
    }  # fmt: skip
    assert all(len(each["data"]) == len(chart["labels"]) for each in chart["sets"])
    assert content.count('<tr><th scope="row">') >= len(chart["labels"])


@pytest.mark.parametrize(("asked", "shown"), [("7d", "7d"), ("nonsense", "24h"), ("", "24h")])
def test_a_window_is_chosen_in_the_address(asked: str, shown: str) -> None:
    content = text_of(boss(), list_of("overview"), **({"window": asked} if asked else {}))
    assert f'<a href="?window={shown}" aria-current="page">' in content


def test_it_links_only_to_what_may_be_seen(script: Script) -> None:
    letter(script)
    content = text_of(staff("view_notification"), list_of("overview"))
    assert url("deadletter", "groups") not in content
    assert url("queue", "one", "note") not in content


def test_it_says_what_stops_everything_and_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holds.hold("all", reason="the printer burns")
    ask()
    ask()
    monkeypatch.setattr(overview, "LOOKED_AT", 1)
    content = text_of(boss(), list_of("overview"))
    assert "Messages do not go out." in content
    assert "everything is held: the printer burns" in content
    assert "There are many: those since" in content


def test_by_the_tallies_it_shows_what_they_know_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask()
    ask()
    monkeypatch.setattr(overview, "LOOKED_AT", 1)
    at = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    QueueTally.objects.create(since=at, queue="note", what="accepted", count=12_345)
    content = text_of(boss(), list_of("overview"), window="30d")
    assert "Messages sent, and given up" in content
    assert "<dd>12,345</dd>" in content
    [data] = re.findall(r'<script id="ntf-data" type="application/json">(.*?)</script>', content)
    assert [each["label"] for each in json.loads(data)["sets"]] == ["sent", "failed"]
    assert "Not sent on purpose" not in content


def test_it_says_in_words_what_is_wrong_and_when_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = boss()
    monkeypatch.setattr(health, "examine", Health)
    assert "All is well." in text_of(client, list_of("overview"))
    wrong = Health([Reason(Level.DEGRADED, "email failed", "email: 150 failed jobs")])
    monkeypatch.setattr(health, "examine", lambda: wrong)
    content = text_of(client, list_of("overview"))
    assert "Somebody should look." in content
    assert "<li>email: 150 failed jobs</li>" in content


def test_the_chart_library_is_ours_to_serve_with_its_licence() -> None:
    for name in ("chart.umd.min.js", "chart.LICENSE.md"):
        assert finders.find(f"notifications/vendor/{name}")
    content = text_of(boss(), list_of("overview"))
    sources = re.findall(r'<script src="([^"]+)"', content)
    assert any("chart.umd.min" in each for each in sources)
    assert all(each.startswith("/") for each in sources)

"""`manage.py demo`, as a newcomer starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests
from redis import Redis

from tests.workers import wait_until

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"^  (\w+) +(\S+) +(.+?) +(\d+) ms after (the order|it was asked for)$")

pytestmark = pytest.mark.sqlite_only  # it brings its own database


class Demo:
    """A running demonstration in a folder of its own."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.folder = folder
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("REDIS_URL", "DATABASE_URL", "SECRET_KEY")
        }
        log = (folder.parent / "printed").open("w")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--folder", str(folder), *words],
            cwd=ROOT,
            env={**kept, "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()

    @property
    def printed(self) -> str:
        return (self.folder.parent / "printed").read_text()

    @property
    def messages(self) -> list[tuple[str, ...]]:
        """Channel, recipient, words, milliseconds and since what, of each message shown."""
        found = map(LINE.match, self.printed.splitlines())
        return [match.groups() for match in found if match]

    def address(self, label: str) -> str:
        [address] = re.findall(rf"^  {label} +(\S+)", self.printed, re.MULTILINE)
        return str(address)

    def end(self, *, seconds: float = 60) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running:\n{self.printed}")

    def processes(self) -> list[psutil.Process]:
        return processes_of(self.folder)


def processes_of(folder: Path) -> list[psutil.Process]:
    """All that runs in a demonstration's environment, whoever's child it is."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = str(folder) in process.environ().get("DATABASE_URL", "")
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or is none of ours
            continue
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "demo"
    yield folder
    for process in processes_of(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_once_shows_five_orders_and_their_confirmations(folder: Path) -> None:
    demo = Demo(folder, "--once")
    assert demo.end() == 0, demo.printed
    shown = [each for each in demo.messages if each[4] == "the order"]
    assert sorted(each[1] for each in shown) == [
        *(f"+1202555010{number}" for number in range(1, 6)),
        *(f"customer{number}@example.com" for number in range(1, 6)),
    ]
    row = r"^  (\w{4}-\w{4})  (\w+) +(\S+|in the app) +(\w+) +(\S*) +\d+ ms$"
    table = re.findall(row, demo.printed, re.MULTILINE)
    ends = Counter((channel, state) for _order, channel, _to, state, _id in table)
    assert ends == {
        ("email", "sent"): 5,
        ("in_app", "delivered"): 5,
        ("whatsapp", "read"): 3,
        ("sms", "delivered"): 2,
    }
    by_order = Counter(order for order, *_rest in table)
    assert list(by_order.values()) == [3] * 5
    assert {re.findall(r"\w{4}-\w{4}", each[2])[0] for each in shown if "@" in each[1]} == set(
        by_order
    )
    assert {each_id[:6] for _o, channel, _to, _s, each_id in table if channel == "whatsapp"} == {
        "wamid."
    }
    assert "refused@example.com" in demo.printed
    assert re.search(
        r"^5 orders, 5 confirmations on each channel, 1 dead", demo.printed, re.MULTILINE
    )
    assert len(list((folder / "mail").glob("*.eml"))) == 5
    assert "Traceback" not in demo.printed
    assert demo.processes() == []


@pytest.mark.faults  # with nothing beside it
def test_the_first_message_is_there_within_ten_seconds(folder: Path) -> None:
    demo = Demo(folder, "--once")
    wait_until(lambda: demo.messages or demo.process.poll() is not None)
    first = time.monotonic() - demo.began
    assert demo.end() == 0, demo.printed
    assert first < 10


def test_once_says_what_is_missing(folder: Path) -> None:
    demo = Demo(folder, "--once", "--seconds", "2", EMAIL_QUEUE_RATE="1/d")
    assert demo.end() == 1
    assert re.search(r"[0-2] of 5 orders are confirmed on every channel, and 0 of 1", demo.printed)
    assert re.search(r"notification \d+ \(order_confirmation, email\): pending", demo.printed)
    assert demo.processes() == []


def test_a_person_can_look_around_until_ctrl_c(folder: Path) -> None:
    demo = Demo(folder)
    wait_until(lambda: len(demo.messages) == 10 and "dead letter:" in demo.printed, seconds=40)
    web = requests.Session()
    assert "Into the basket" in web.get(demo.address("The shop"), timeout=10).text
    inbox = web.get(demo.address("Its mail"), timeout=10).text
    assert inbox.count("customer") == 5
    phones = web.get(demo.address("Phones"), timeout=10).text
    assert phones.count('class="bubble whatsapp"') == 3
    assert phones.count('class="bubble sms"') == 2
    mail = web.get(demo.address("Its mail") + "1/", timeout=10).text
    assert re.search("Your order|Ihre Bestellung", mail)

    login = web.get(demo.address("The admin") + "login/", timeout=10)
    token = re.findall(r'csrfmiddlewaretoken" value="(\w+)"', login.text)[0]
    data = {"username": "demo", "password": "demo", "csrfmiddlewaretoken": token}
    web.post(login.url, data=data, timeout=10)
    letters = web.get(demo.address("Dead letters"), timeout=10)
    assert letters.status_code == 200
    assert "welcome" in letters.text

    second = subprocess.run(
        [sys.executable, "manage.py", "demo", "--once", "--folder", str(folder)],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "Another demonstration runs" in second.stderr

    assert len(demo.processes()) >= 4  # itself, Redis, the worker with its clock, the web server
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0
    assert demo.printed.endswith("Stopped.\n")
    assert "Traceback" not in demo.printed
    assert demo.processes() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_nothing_is_left(folder: Path, number: signal.Signals) -> None:
    demo = Demo(folder)
    wait_until(lambda: demo.messages, seconds=40)
    os.kill(demo.process.pid, number)
    demo.end()
    wait_until(lambda: demo.processes() == [], seconds=20)


def test_a_redis_that_is_there_is_used(folder: Path, redis: Redis) -> None:
    demo = Demo(folder, "--once", REDIS_URL=os.environ["REDIS_URL"])
    started = wait_until(lambda: redis.smembers("rq:workers") or demo.process.poll(), seconds=30)
    assert isinstance(started, set), demo.printed
    assert not [each for each in demo.processes() if "redis" in each.name()]
    assert demo.end() == 0, demo.printed

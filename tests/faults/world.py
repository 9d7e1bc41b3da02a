"""A whole installation for the fault tests: servers, workers, and an SMTP server that counts.

Everything is a real process. The test's own process looks at the database with plain SQL, so
that nothing it asks can be answered by the code under test.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.testing.guarded import find_free_port
from tests.faults.database import Database, Mould
from tests.faults.kills import Kills, Start, started
from tests.faults.shopper import ROOT, Shopper
from tests.servers import PostgresServer, RedisServer

SENT = re.compile(r"completed work=notification id=\d+ queue=email ")  # in a worker's log
PATIENCE = 120.0  # seconds for what comes at once, on a machine that has other things to do
FINAL = ("sent", "delivered", "done", "dead", "expired", "cancelled", "suppressed")


class CountingInbox:
    """An SMTP handler that counts how often it accepted each notification."""

    def __init__(self) -> None:
        self.accepted: Counter[int] = Counter()
        self.times: dict[int, float] = {}
        self.bodies: list[str] = []
        self.delay = 0.0  # seconds before each answer to the data
        self.answer: Callable[[int, str], str | None] = lambda row, to: None  # a refusal, or None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        row = next(
            int(line.split(b":")[1])
            for line in raw.splitlines()
            if line.lower().startswith(b"x-notification-id:")
        )
        if self.delay:
            await asyncio.sleep(self.delay)
        if refusal := self.answer(row, envelope.rcpt_tos[0]):
            return refusal
        self.accepted[row] += 1
        self.times.setdefault(row, time.monotonic())
        self.bodies.append(raw.decode(errors="replace"))
        return "250 OK"


@dataclass(frozen=True)
class Tally:
    """What became of everything that was asked for."""

    rows: int
    final: int
    lost: int  # not in a final state, or sent without having arrived
    again: Counter[int]  # by row, arrivals beyond the first

    @property
    def doubled(self) -> int:
        return self.again.total()

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.final} final, lost = {self.lost}, doubled = {self.doubled}"


class World:
    """One shop with its servers."""

    def __init__(self, folder: Path, database: str, postgres: PostgresServer | None) -> None:
        self.folder = folder
        self.redis = RedisServer()
        self.postgres = postgres
        self.inbox = CountingInbox()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.database = Database(database)
        self._smtp = Controller(self.inbox, hostname="127.0.0.1", port=find_free_port())
        self._shopper: Shopper | None = None
        self._log_of: dict[int, Path] = {}
        self.variables: dict[str, str] = {}
        self.saboteurs: list[Kills] = []
        self.started: list[set[Start]] = []  # what was found at each kill by the test itself

    def start(self) -> None:
        self.redis.start()
        self._smtp.start()

    def stop(self) -> None:
        for worker in self.workers:
            self.kill_tree(worker)
        if self._shopper is not None:
            self._shopper.stop()
        self._smtp.stop()
        self.redis.stop()
        self.database.close()

    # -- the shop ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        return {
            **environment_of(self.database.url),
            "REDIS_URL": self.redis.url,
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(self._smtp.port),
            **self.variables,
        }

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{words}: {done.stderr[-3000:]}")
        return done

    def place(self, count: int, *options: str) -> None:
        """Place orders. The process that does has the variables of the first time."""
        if self._shopper is None:
            self._shopper = Shopper(self.environment, self.folder / "shopper.log")
        self._shopper.place(count, *options)

    @contextmanager
    def shopping(self, every: float) -> Iterator[None]:
        """A block in which somebody places an order every so many seconds."""
        over = threading.Event()

        def shop() -> None:
            while not over.wait(every):
                self.place(1)

        with ThreadPoolExecutor(1) as threads:
            shopper = threads.submit(shop)
            try:
                yield
            finally:
                over.set()
            shopper.result()

    def worker(
        self,
        *words: str,
        simple: bool = False,
        sabotage: tuple[str, int] | None = None,
        command: str = "rqworker",
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start a worker; `sabotage` names the point where it is killed and how often."""
        program = [sys.executable, "manage.py"]
        if sabotage is not None:
            point, times = sabotage
            kills = Kills.allow(self.folder / f"kills-{len(self.saboteurs)}", times)
            self.saboteurs.append(kills)
            program = [sys.executable, "-m", "tests.faults.saboteur", point, str(kills.path)]
        chosen = ["--worker-class", "notifications.worker.SimpleWorker"] if simple else []
        path = self.folder / f"worker-{len(self.workers)}.log"
        with path.open("wb") as log:
            started = subprocess.Popen(
                [*program, command, *words, *chosen],
                cwd=ROOT, env={**self.environment, **variables},
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.workers.append(started)
        self._log_of[started.pid] = path
        return started

    def log_of(self, worker: subprocess.Popen[bytes]) -> str:
        """What a worker and its children have said."""
        return self._log_of[worker.pid].read_text(errors="replace")

    def sent_by(self, worker: subprocess.Popen[bytes]) -> int:
        """How many mails a worker has settled as sent."""
        return len(SENT.findall(self.log_of(worker)))

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """kill -9 of a worker and all its children, and write down what they had started."""
        self.kill_tree(worker)
        self.started.append(started(self.database))

    def kill_tree(self, worker: subprocess.Popen[bytes]) -> None:
        """kill -9 of a worker and all its children at once."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(worker.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        worker.kill()
        worker.wait()

    def stop_gently(self, worker: subprocess.Popen[bytes], seconds: float = 30) -> float:
        """SIGTERM; how long it took to end."""
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(seconds)
        except subprocess.TimeoutExpired:
            # Each process writes where its threads are before it dies of this signal.
            for each in [*psutil.Process(worker.pid).children(recursive=True), worker]:
                each.send_signal(signal.SIGABRT)
            worker.wait(seconds)
            raise AssertionError(f"It did not stop.\n{self.logs()}") from None
        return time.monotonic() - began

    @property
    def kills(self) -> list[Counter[int]]:
        """For each kill that happened, the messages that were started and not settled."""
        known: set[Start] = set()
        kills = []
        for found in (*self.started, *(each for one in self.saboteurs for each in one.started)):
            kills.append(Counter(row for row, _token in found - known))
            known |= found
        return kills

    # -- what became of it ------------------------------------------------------------------

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.query(sql)

    def count(self, sql: str) -> int:
        return self.database.count(sql)

    def tally(self) -> Tally:
        states = dict(self.query("SELECT id, state FROM notifications_notification"))
        tasks = [state for (state,) in self.query("SELECT state FROM notifications_task")]
        unfinished = sum(state not in FINAL for state in [*states.values(), *tasks])
        never_arrived = sum(
            state == "sent" and not self.inbox.accepted[row] for row, state in states.items()
        )
        return Tally(
            rows=len(states) + len(tasks),
            final=len(states) + len(tasks) - unfinished,
            lost=unfinished + never_arrived,
            again=self.inbox.accepted - Counter(dict.fromkeys(self.inbox.accepted, 1)),
        )

    def settle(self, seconds: float = PATIENCE) -> Tally:
        """Wait until everything is final; the tally, which says what is not."""
        deadline = time.monotonic() + seconds
        while (tally := self.tally()).lost and time.monotonic() < deadline:
            time.sleep(0.1)
        return tally

    def arrived(self) -> int:
        return len(self.inbox.accepted)

    def wait(self, ready: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, f"waited {seconds} s\n{self.logs()[-3000:]}"
            time.sleep(0.02)


def environment_of(database: str) -> dict[str, str]:
    """What every process of the shop with this database is given."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "DATABASE_URL": database,
        "SECRET_KEY": "a-key-for-the-fault-tests-only-0123456789",
        "DEBUG": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # see stop_gently
    }


def open_shop(database: str) -> None:
    """Give an empty database the shop's tables, and its products."""
    words = (
        "from django.core.management import call_command;"
        "from orders.catalogue import load_products;"
        "call_command('migrate', '-v0'); load_products()"
    )
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", words],
        cwd=ROOT, env=environment_of(database), check=True, timeout=300,
    )  # fmt: skip


@contextmanager
def installation(folder: Path, mould: Mould, postgres: PostgresServer | None) -> Iterator[World]:
    """A world of its own, until the block ends."""
    world = World(folder, mould.make(folder), postgres)
    world.start()
    try:
        yield world
    finally:
        world.stop()

"""What the harness asks of every system: be prepared, take mails, deliver them, stop."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import LiteralString

from benchmarks.processes import Group
from benchmarks.surroundings import ROOT, Surroundings

PEERS = ROOT / "benchmarks" / "peers"
INSTALLED = ROOT / "benchmarks" / ".peers"
NOTHING: Mapping[str, str] = MappingProxyType({})
LONGEST = 1800  # seconds one command of a system may take


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the workers of a system."""

    name: str
    cores: int  # processes that send
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)  # of caller and workers
    function: str = ""  # the call that queues a mail, where it is not the system's usual one
    most: int = 1_000_000  # mails in one run, where it is so slow that more would tell no more


class System(ABC):
    """One way to send mails in the background. Its workers run while `start` says so."""

    name: str
    label: str
    keeps_on_disk: bool

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings

    @abstractmethod
    def install(self) -> None:
        """Install what it needs, unless that is there."""

    def prepare(self) -> None:
        """Make the database that each run begins with."""
        self.surroundings.create_database(self.template)

    @property
    def template(self) -> str:
        """The name of the database that each run begins with."""
        return f"template_{self.name}"

    @abstractmethod
    def variants(self) -> Sequence[Variant]:
        """Ways to deliver as many mails a second as it can."""

    def patient_variants(self) -> Sequence[Variant]:
        """Ways to send 100 mails at once, on two cores; none where it cannot."""
        return ()

    def fill(self, count: int) -> None:
        """Write what `count` mails are about. Nothing, where the call has all values."""
        return

    @abstractmethod
    def enqueue(self, count: int, variant: Variant) -> float:
        """Queue `count` mails one call each; the median call in microseconds."""

    def added_to_an_order(self, count: int) -> dict[str, float]:
        """Microseconds each way to queue adds to an order's transaction; none outside Python."""
        return {}

    def start(self, variant: Variant) -> Group:
        """Start the workers."""
        return Group(
            [
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=self.environment() | variant.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr,
                )
                for command in variant.commands
            ]
        )

    @abstractmethod
    def pending(self) -> int:
        """Mails that are not settled yet."""

    def environment(self) -> dict[str, str]:
        """The environment of all its processes."""
        return self.surroundings.environment()

    def run(self, command: Sequence[str], environment: Mapping[str, str] = NOTHING) -> str:
        """Run a command to its end; what it printed. Raises CalledProcessError."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            timeout=LONGEST,
        )
        return done.stdout


class DjangoSystem(System):
    """A system called from Django, with a virtual environment and settings of its own."""

    settings: str
    function: str  # dotted path of the call that queues a mail
    functions_in_transaction: Mapping[str, str] = {}  # what is called: dotted path

    @property
    def requirements(self) -> Path:
        """What it needs, locked, in a folder that names its virtual environment."""
        return PEERS / self.name / "requirements.txt"

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(INSTALLED / self.requirements.parent.name / "bin" / "python")

    def install(self) -> None:
        """Make its virtual environment from its locked requirements."""
        wanted = self.requirements
        folder = INSTALLED / wanted.parent.name
        installed = folder / "requirements.txt"
        if installed.exists() and installed.read_bytes() == wanted.read_bytes():
            return
        venv.create(folder, clear=True, with_pip=True)
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        whole = ["--no-deps", "--require-hashes", "-r", str(wanted)]
        subprocess.run([*pip, *whole], check=True, timeout=LONGEST)
        shutil.copyfile(wanted, installed)

    def prepare(self) -> None:
        """Make the database that each run begins with, and its tables."""
        super().prepare()
        self.django("migrate", "--verbosity=0", environment={"BENCH_DATABASE": self.template})

    def enqueue(self, count: int, variant: Variant) -> float:
        """Queue `count` mails one call each; the median call in microseconds."""
        function = variant.function or self.function
        return read_cost(
            self.django("queue_mails", function, str(count), environment=variant.environment)
        )

    def added_to_an_order(self, count: int) -> dict[str, float]:
        """Microseconds each way to queue adds to an order's transaction."""
        return {
            call: read_cost(self.django("queue_mails", function, str(count), "--in-transaction"))
            for call, function in (self.functions_in_transaction or {"": self.function}).items()
        }

    def environment(self) -> dict[str, str]:
        """The environment of all its processes."""
        return super().environment() | {"DJANGO_SETTINGS_MODULE": self.settings}

    def django(self, *words: str, environment: Mapping[str, str] = NOTHING) -> str:
        """Run a management command; what it printed."""
        return self.run([self.python, "-m", "django", *words], environment)

    def count_rows(self, query: LiteralString) -> int:
        """The number that a query gives."""
        with self.surroundings.connect_postgres() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def read_cost(printed: str) -> float:
    """The microseconds that a caller printed as JSON."""
    return float(json.loads(printed)["microseconds"])

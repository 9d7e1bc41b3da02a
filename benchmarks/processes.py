"""What a tree of processes costs, read from /proc (proc(5))."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of some processes together."""

    pss_mb: float  # shared pages counted once
    rss_mb: float  # shared pages counted in each process


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    seconds: float  # user and system time, its own and that of children it has collected


class Group:
    """Some processes started together, and all that they start."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    def cpu_seconds(self) -> float:
        """User and system time used so far, also by children that have ended."""
        return sum(process.seconds for process in self._tree())

    def memory(self) -> Memory:
        """Memory used now."""
        sums = {"Pss": 0, "Rss": 0}
        for process in self._tree():
            for name, kibibytes in _smaps(process.pid):
                if name in sums:
                    sums[name] += kibibytes
        return Memory(pss_mb=sums["Pss"] * _KIB / 1e6, rss_mb=sums["Rss"] * _KIB / 1e6)

    def check(self) -> None:
        """Raise RuntimeError if one of them has failed."""
        for process in self._processes:
            # Not collected yet: the time it used can then still be read.
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and ended.si_status:
                raise RuntimeError(f"{process.args!r} ended with {ended.si_status}.")

    def stop(self, *, patience: float = 30.0) -> None:
        """Ask them to stop; those that have not after `patience` seconds are killed."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                for each in Group([process])._tree():
                    os.kill(each.pid, signal.SIGKILL)
                process.wait()

    def _tree(self) -> list[_Process]:
        everything = list(_all_processes())
        pids = {process.pid for process in self._processes}
        while True:
            more = {each.pid for each in everything if each.parent in pids} - pids
            if not more:
                return [each for each in everything if each.pid in pids]
            pids |= more


def _all_processes() -> Iterable[_Process]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            # The state, the third field in proc(5), is the first word after the name.
            seconds = sum(int(word) for word in words[11:15]) / _TICKS
            yield _Process(int(folder.name), int(words[1]), seconds)


def _smaps(pid: int) -> Iterable[tuple[str, int]]:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        name, _, rest = line.partition(":")
        yield name, int(rest.split()[0])

"""Lanes: sessions kept open, broken and replaced; calls that never end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from notifications.message import Outcome, Verdict
from notifications.providers.base import Lane, Provider, Session
from notifications.senders import Call, Result, Senders

ACCEPTED = Outcome(Verdict.ACCEPTED)


class Odd(Provider[str]):
    """A provider whose sessions do what the test wants."""

    def __init__(self, work: Callable[[Lane[str]], None], *, timeout: float = 0.3) -> None:
        super().__init__("odd", timeout=timeout, options={})
        self.work = work
        self.opened = 0
        self.closed = 0
        self.aborted = threading.Event()

    def connect(self) -> Session[str]:
        self.opened += 1
        return _OddSession(self)

    def judge(self, error: Exception) -> Outcome:
        if isinstance(error, KeyError):
            raise RuntimeError("even the judge fails")
        return Outcome(Verdict.UNKNOWN, code=type(error).__name__)


class _OddSession(Session[str]):
    def __init__(self, provider: Odd) -> None:
        self.provider = provider

    def work(self, lane: Lane[str]) -> None:
        self.provider.work(lane)

    def abort(self) -> None:
        self.provider.aborted.set()

    def close(self) -> None:
        self.provider.closed += 1


class Hall:
    """Senders, and what came out of them."""

    def __init__(self, provider: Odd, *, lanes: int = 1) -> None:
        self.results: SimpleQueue[Result | None] = SimpleQueue()
        self.senders = Senders(provider, lanes=lanes, results=self.results)
        self.provider = provider
        self.turned_back: list[str] = []

    def submit(self, *messages: str, within: float = math.inf) -> None:
        deadline = time.monotonic() + within
        for message in messages:
            self.senders.submit(Call(None, None, message, self.provider, deadline))

    def collect(self, count: int, *, seconds: float = 5) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        until = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < until:
            self.turned_back += [call.message for call in self.senders.watch()]
            try:
                result = self.results.get(timeout=0.02)
            except Empty:
                continue
            assert result is not None
            found[result.call.message] = result.outcome
        self.turned_back += [call.message for call in self.senders.watch()]
        self.senders.close()
        return found


def plainly(lane: Lane[str]) -> None:
    while (message := lane.take()) is not None:
        lane.begin(message)
        lane.report(message, ACCEPTED)


def test_one_session_carries_many_messages() -> None:
    hall = Hall(Odd(plainly))
    hall.submit(*"abcdef")
    assert set(hall.collect(6)) == set("abcdef")
    assert (hall.provider.opened, hall.provider.closed) == (1, 1)


def test_there_are_no_more_lanes_than_allowed() -> None:
    threads: set[str] = set()

    def slowly(lane: Lane[str]) -> None:
        while (message := lane.take()) is not None:
            threads.add(threading.current_thread().name + str(threading.get_ident()))
            time.sleep(0.02)
            lane.begin(message)
            lane.report(message, ACCEPTED)

    hall = Hall(Odd(slowly), lanes=3)
    hall.submit(*"abcdefghi")
    assert len(hall.collect(9)) == 9
    assert len(threads) == 3


def test_a_broken_session_is_replaced_and_what_had_begun_is_unknown() -> None:
    broken = []

    def break_once(lane: Lane[str]) -> None:
        if not broken:
            message = lane.take()
            assert message is not None
            lane.begin(message)
            broken.append(message)
            raise ConnectionResetError
        plainly(lane)

    hall = Hall(Odd(break_once))
    hall.submit("a", "b")
    found = hall.collect(2)
    assert found["a"] == Outcome(Verdict.UNKNOWN, code="ConnectionResetError")
    assert found["b"].accepted
    assert hall.provider.opened == 2


def test_what_had_not_begun_when_its_session_broke_was_not_sent() -> None:
    def break_before(lane: Lane[str]) -> None:
        lane.take()
        raise ConnectionRefusedError

    hall = Hall(Odd(break_before))
    hall.submit("a")
    outcome = hall.collect(1)["a"]
    assert (outcome.verdict, outcome.theirs) == (Verdict.LATER, True)


def test_a_looked_ahead_message_survives_the_one_before_it() -> None:
    calls = []

    def look_ahead(lane: Lane[str]) -> None:
        calls.append(1)
        if len(calls) > 1:
            plainly(lane)
            return
        first, second = lane.take(), lane.take(wait=False)
        assert first is not None
        assert second is not None
        assert lane.take(wait=False) is None
        lane.begin(first)
        raise ConnectionResetError

    hall = Hall(Odd(look_ahead))
    hall.senders.most = 0  # both wait in the queue before there is a lane
    hall.submit("a")
    hall.senders.most = 1
    hall.submit("b")
    found = hall.collect(2)
    assert found["a"].verdict is Verdict.UNKNOWN
    assert found["b"].accepted


def test_a_message_given_back_goes_another_way() -> None:
    given = []

    def give_one_back(lane: Lane[str]) -> None:
        while (message := lane.take()) is not None:
            if not given:
                given.append(message)
                lane.give_back(message)
                continue
            lane.begin(message)
            lane.report(message, ACCEPTED)

    hall = Hall(Odd(give_one_back))
    hall.submit("a")
    assert hall.collect(1)["a"].accepted


@pytest.mark.parametrize(("begun", "verdict"), [(True, Verdict.UNKNOWN), (False, Verdict.LATER)])
def test_a_call_that_never_ends_loses_its_lane(begun: bool, verdict: Verdict) -> None:
    release = threading.Event()
    stuck: list[Any] = []

    def hang(lane: Lane[str]) -> None:
        if stuck:
            plainly(lane)
            return
        message = lane.take()
        assert message is not None
        ahead = lane.take(wait=False)
        stuck.append(ahead)
        if begun:
            lane.begin(message)
        release.wait(5)
        lane.report(message, ACCEPTED)  # too late: nobody listens

    hall = Hall(Odd(hang))
    hall.senders.most = 0
    hall.submit("a")
    hall.senders.most = 1
    hall.submit("b")
    found = hall.collect(2)
    release.set()
    assert (found["a"].verdict, found["a"].code) == (verdict, "deadline")
    assert found["b"].accepted  # it was taken ahead, and went another way
    assert hall.provider.aborted.is_set()
    time.sleep(0.05)
    assert hall.results.empty()


def test_what_could_not_end_in_time_does_not_begin() -> None:
    handed: list[str] = []

    def look_ahead(lane: Lane[str]) -> None:
        message = lane.take()
        while message is not None:
            ahead = lane.take(wait=False)
            lane.begin(message)
            handed.append(message)
            time.sleep(0.2)
            lane.report(message, ACCEPTED)
            message = ahead or lane.take()

    hall = Hall(Odd(look_ahead, timeout=5))
    hall.senders.most = 0  # all wait in the queue before there is a lane
    hall.submit("a", "b", "c", within=0.1)
    hall.submit("d")
    hall.senders.most = 1
    hall.submit("e")
    found = hall.collect(3)
    assert set(found) == {"a", "d", "e"} == set(handed)
    assert all(outcome.accepted for outcome in found.values())
    assert sorted(hall.turned_back) == ["b", "c"]  # looked ahead for, and not even taken
    assert hall.provider.aborted.is_set()  # a goodbye might be taken for words of the message
    assert hall.provider.opened == hall.provider.closed == 2


def test_what_a_session_had_begun_beside_what_came_too_late_is_unknown() -> None:
    def begin_both(lane: Lane[str]) -> None:
        first, second = lane.take(), lane.take(wait=False)
        lane.begin(first or "")
        time.sleep(0.1)
        lane.begin(second or "")

    hall = Hall(Odd(begin_both, timeout=5))
    hall.senders.most = 0
    hall.submit("a")
    hall.senders.most = 1
    hall.submit("b", within=0.05)
    assert hall.collect(1)["a"].verdict is Verdict.UNKNOWN
    assert hall.turned_back == ["b"]


def test_a_judge_that_fails_leaves_an_unknown_outcome() -> None:
    def fail(lane: Lane[str]) -> None:
        message = lane.take()
        assert message is not None
        lane.begin(message)
        raise KeyError(message)

    hall = Hall(Odd(fail))
    hall.submit("a")
    outcome = hall.collect(1)["a"]
    assert (outcome.verdict, outcome.error) == (Verdict.UNKNOWN, "KeyError")


def test_a_provider_has_a_plain_way_to_send() -> None:
    class Sender(Session[str]):
        def send(self, message: str) -> Outcome:
            return Outcome(Verdict.ACCEPTED, message_id=message)

    class Simple(Odd):
        def connect(self) -> Session[str]:
            return Sender()

    hall = Hall(Simple(plainly))
    hall.submit("a")
    assert hall.collect(1)["a"].message_id == "a"
    assert Provider("x", timeout=1, options={}).judge(ValueError()).verdict is Verdict.UNKNOWN
    assert Provider("x", timeout=1, options={}).check() == []


def test_a_provider_that_never_connects_has_the_time_of_one_call() -> None:
    connecting = threading.Event()

    class Endless(Odd):
        def connect(self) -> Session[str]:
            if not connecting.is_set():
                connecting.set()
                time.sleep(1.5)
            return super().connect()

    provider = Endless(plainly, timeout=0.2)
    hall = Hall(provider)
    began = time.monotonic()
    hall.submit("a", "b")
    outcomes = hall.collect(2)
    assert time.monotonic() - began < 1.0
    late = outcomes["a"]
    assert (late.verdict, late.code, late.theirs) == (Verdict.LATER, "deadline", True)
    assert outcomes["b"].accepted


def test_a_lane_less_is_no_disaster(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(Odd(plainly), lanes=3)
    hall.submit("a")
    monkeypatch.setattr(threading.Thread, "start", no_thread_left)
    hall.submit("b", "c", "d")
    assert set(hall.collect(4)) == set("abcd")
    nobody = Hall(Odd(plainly))
    with pytest.raises(RuntimeError, match="new thread"):
        nobody.submit("a")
    assert [call.message for call in nobody.senders.recall()] == ["a"]
    nobody.senders.close()


def no_thread_left(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_session_that_cannot_even_be_closed_takes_no_message_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Clumsy(_OddSession):
        def close(self) -> None:
            raise OSError("secret-4711 is gone already")

        def abort(self) -> None:
            raise OSError("secret-4711 is gone already")

    class Provided(Odd):
        def connect(self) -> Session[str]:
            return Clumsy(self)

    hung: list[str] = []

    def hang_up_then_hang(lane: Lane[str]) -> None:
        message = lane.take()
        assert message is not None
        if not hung:
            hung.append(message)
            raise ConnectionResetError
        if len(hung) == 1:
            hung.append(message)
            time.sleep(0.6)
        lane.begin(message)
        lane.report(message, ACCEPTED)

    hall = Hall(Provided(hang_up_then_hang, timeout=0.2))
    hall.submit("a", "b", "c")
    outcomes = hall.collect(3)
    assert outcomes["a"].verdict is Verdict.LATER
    assert (outcomes["b"].verdict, outcomes["b"].code) == (Verdict.LATER, "deadline")
    assert outcomes["c"].accepted
    assert "secret" not in caplog.text
    assert "OSError" in caplog.text

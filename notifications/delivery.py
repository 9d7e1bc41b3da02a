"""One queue's messages on their way: claim -> compose -> hand over -> settle.

The life of a claim: its rows are *sifted* (too late, unknown here, not allowed in this
environment), *composed* a few at a time, *started* (marked in the database before anything leaves
the house), handed to the senders' threads, and *settled* in bulk as the outcomes come back. One
transaction settles up to FLUSH_ROWS outcomes and starts as many new rows; the next claim is made
while the last rows of this one are under way.

What a dead worker can send twice is what it had started and not settled: `Delivery.window` rows.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any

from django.db import InterfaceError, OperationalError, connections, router

from notifications import conf, lookups, outbox, rates, rings, signals, suppressions, tracing
from notifications.chain import Chain
from notifications.composition import Composed, Composition, compose
from notifications.errors import TaskTimeout
from notifications.judgement import judge, make_storable, record
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, Notification, State
from notifications.outbox import Settlement
from notifications.providers.base import Provider
from notifications.redaction import describe
from notifications.senders import Call, Result, Senders
from notifications.sieve import company, sift
from notifications.suppressions import Unwanted
from notifications.timelimits import time_limit

logger = logging.getLogger("notifications.delivery")

FLUSH_ROWS = 25  # outcomes settled in one transaction ...
FLUSH_SECONDS = 0.1  # ... or those of this time, whichever comes first
COMPOSING = 1 / 6  # of a lease: what composing a few rows may take
RETURN_SECONDS = 30.0  # when a row this process does not understand is offered again
TEMPLATE_SECONDS = 300.0  # pause of a message without a kind whose template is held
SETTLING = 1.0  # seconds of lease to settle a call in
RETRY_DATABASE = 0.5  # seconds between tries to settle while the database is away


class Delivery:
    """The messages of one channel's queue, served by one process for one slice."""

    def __init__(
        self,
        channel: conf.ChannelConf,
        results: SimpleQueue[Result | None],
        *,
        shared_rate: bool = True,
    ) -> None:
        self.channel = channel
        self.handed = 0  # provider calls made, for the log
        self.wait = 0.0  # seconds until the next rate token, after a claim that got none
        self.dry = False  # the last claim left nothing due
        self._results = results
        self._shared_rate = shared_rate
        self._senders: dict[str, Senders] = {}
        self._claimed: deque[Notification] = deque()
        self._suspects: deque[Notification] = deque()  # lost a lease before; sent among themselves
        self._composed: deque[Composed] = deque()
        self._flying: dict[int, Notification] = {}
        self._settlements: list[Settlement] = []
        self._attempts: list[Attempt] = []
        self._unwanted: list[Unwanted] = []  # addresses that were refused for ever
        self._crowds: Counter[str] = Counter()  # by address: what came too soon
        self._oldest = 0.0  # monotonic time of the oldest outcome not settled
        self._lease_end = 0.0  # monotonic; the lease of the earliest claim still held
        self._alone = False  # suspects are under way, and nothing else may be
        self._began = time.monotonic()
        self._chain = Chain(channel)
        self._troubled: list[tuple[Call, Outcome]] = []  # the last provider's failure: see _flush
        self._database_back_at = 0.0  # monotonic time of the next try; 0: it is there

    @property
    def window(self) -> int:
        """Rows started and not settled, at most: one for each lane, and what goes out until the
        next two flushes. A slow provider thus leaves little to finish when the worker stops."""
        return self.channel.concurrency + min(2 * FLUSH_ROWS, int(2 * FLUSH_SECONDS * self._speed))

    @property
    def _speed(self) -> float:
        """Messages a second, so far."""
        return self.handed / max(0.01, time.monotonic() - self._began)

    @property
    def _deadline(self) -> float:
        """Monotonic time after which less lease is left than one call and its settlement take."""
        return self._lease_end - self.channel.timeout - SETTLING

    @property
    def _late(self) -> bool:
        """Whether nothing may start any more."""
        return time.monotonic() > self._deadline

    @property
    def busy(self) -> bool:
        """Whether rows are claimed, under way or not settled."""
        return bool(
            self._claimed
            or self._suspects
            or self._composed
            or self._flying
            or self._settlements
            or self._troubled
            or self._attempts
        )

    @property
    def stranded(self) -> bool:
        """Whether all it has are outcomes that wait for a database that is away, and the leases of
        their rows are over."""
        now = time.monotonic()
        return now < self._database_back_at and now > self._lease_end and not self._flying

    def step(self, *, claiming: bool, releasing: bool = True) -> None:
        """Do what can be done now without waiting: claim more, or (`releasing`) give back what is
        not started and finish what is."""
        for senders in self._senders.values():
            for call in senders.watch():
                self._land(Settlement(call.row, State.PENDING, False, after=0.0))
        if time.monotonic() < self._database_back_at:
            return
        try:
            self._chain.look()
            self._recall()
            if claiming:
                self._claim()
            elif releasing:
                self._give_back()
            self._compose()
            self._flush()
        except (OperationalError, InterfaceError) as error:
            self._lose_database(error)
        else:
            self._database_back_at = 0.0

    def take(self, result: Result) -> None:
        """Judge one outcome of a provider call."""
        call, outcome = result.call, make_storable(result.outcome)
        row = call.row
        if outcome.patient:
            # The next one to the same person would come too soon again, if all came due together.
            self._crowds[row.to] += 1
            outcome = replace(
                outcome, retry_after=(outcome.retry_after or 0.0) * self._crowds[row.to]
            )
        self.handed += 1
        provider = call.provider.name
        lost = outcome.verdict is Verdict.UNKNOWN
        self._attempts.append(
            record(
                row,
                outcome,
                provider=provider,
                milliseconds=result.milliseconds,
                mark=lookups.mark(call.provider, call.message) if lost else "",
            )
        )
        tracing.record(row, outcome, provider=provider, milliseconds=result.milliseconds)
        if outcome.suppress:
            self._unwanted.append(suppressions.read_outcome(row, call.provider.name))
        trouble = self._chain.hear(call.provider, outcome, kind=row.kind)
        if outcome.accepted:
            self._land(Settlement(row, State.SENT))
            return
        logger.info(
            "notification %s: %s by %s: %s %s",
            row.pk, outcome.verdict, call.provider.name, outcome.code, outcome.text,
        )  # fmt: skip
        following = None if self._late else self._chain.following(call.provider)
        if outcome.theirs and outcome.verdict is not Verdict.UNKNOWN and following is not None:
            self._submit(Composed(row, call.message), following)
        elif trouble:
            self._trouble(call, outcome)
        else:
            self._land(judge(row, outcome, pause=TEMPLATE_SECONDS))

    def close(self) -> None:
        """Close the connections and give back what was not started, or waits for a lane."""
        self._lease_end = 0.0  # nothing starts from now on
        waiting = [call.row for each in self._senders.values() for call in each.recall()]
        for senders in self._senders.values():
            senders.close()
        try:
            outbox.release(waiting)
            self._give_back()
        except (OperationalError, InterfaceError) as error:
            self._lose_database(error)  # the leases will run out

    def settle_rest(self) -> None:
        """Settle what is left when serving ended early: it may have been accepted."""
        try:
            self._settle_singly()
        except (OperationalError, InterfaceError) as error:
            self._lose_database(error)

    # -- claim ------------------------------------------------------------------------------

    def _claim(self) -> None:
        if self._alone and self.busy:
            return
        self._alone = False
        queue = self.channel.queue
        if self._chain.stopped:
            self._give_back()
            self.dry = True
            return
        waiting = len(self._claimed) + len(self._composed)
        if waiting > FLUSH_ROWS or self._suspects or (self._late and self.busy):
            return
        limit = self._appetite() - waiting
        if self.channel.rate is not None:
            # Rows that wait here with their tokens would be a burst after a pause of the provider.
            most = max(self.channel.concurrency, rates.at_once(self.channel.rate))
            limit = min(limit, most - waiting - len(self._flying))
        if self._chain.down:  # a probe, and nothing beside it
            limit = 0 if self.busy else 1
        if limit <= 0:
            return
        if self.channel.rate is not None:
            if not outbox.has_due(queue):
                self.dry, self.wait = True, 0.0
                return
            grant = rates.take(queue, self.channel.rate, limit, shared=self._shared_rate)
            self.wait = grant.wait
            if not grant.tokens:
                self.dry = False
                return
            limit = grant.tokens
        began = time.monotonic()
        rows = outbox.claim(Notification, queue, limit)
        if not self.busy:
            self._lease_end = began + conf.get("LEASE")
        self.dry = len(rows) < limit
        if rows and not self.dry:
            rings.ring(queue)  # there may be more: idle workers join in
        self._sift(rows)

    def admit(self, row: Notification) -> None:
        """Deliver this claimed row, and claim no others."""
        self._lease_end = time.monotonic() + conf.get("LEASE")
        self._sift([row])

    def _appetite(self) -> int:
        """Rows to hold claimed: what goes out in about two seconds, well under their lease."""
        return int(min(conf.get("CLAIM"), max(4 * self.channel.concurrency, 2 * self._speed)))

    def _sift(self, rows: Sequence[Notification]) -> None:
        sifted = sift(rows)
        self._claimed += sifted.fit
        self._suspects += sifted.suspects
        self._attempts += sifted.attempts
        for settlement in sifted.settlements:
            self._land(settlement)
        if sifted.strange:
            names = ", ".join(sorted({row.kind for row in sifted.strange}))
            logger.warning("no kind named %s here: given back for a newer worker", names)
            outbox.release(sifted.strange, after=RETURN_SECONDS, reason="kind unknown to a worker")

    # -- compose ----------------------------------------------------------------------------

    def _compose(self) -> None:
        """Compose the next few rows; suspects only when nothing else is under way."""
        if self._suspects and not (self._claimed or self._composed or self._flying):
            if self._settlements or self._troubled:
                return
            self._alone = True
            most = company(self._suspects[0])
            alike = [row for row in self._suspects if company(row) == most]
            batch, rest = alike[:most], alike[most:]
            rest += [row for row in self._suspects if company(row) != most]
            self._suspects.clear()
            if rest:
                outbox.release(rest)
                self.dry = False
        else:
            room = self.window - len(self._flying) - len(self._composed)
            count = min(FLUSH_ROWS, room, len(self._claimed))
            batch = [self._claimed.popleft() for _ in range(count)]
        if not batch:
            return
        limit = conf.get("LEASE") * COMPOSING
        try:
            with time_limit(limit):
                composition = compose(batch, self.channel.channel)
        except (OperationalError, InterfaceError):
            self._claimed.extendleft(reversed(batch))
            raise
        except TaskTimeout:
            composition = Composition()
            if len(batch) == 1:
                late = TimeoutError(f"composing it took longer than {limit:g} s")
                composition.refuse(batch[0], late)
            else:  # one of them is to blame, and will be alone soon
                outbox.release(batch, stalled=True)
                self.dry = False
        self._composed += composition.composed
        for row, outcome in composition.refused:
            self._attempts.append(record(row, outcome))
            self._land(judge(row, outcome))

    # -- hand over and settle ---------------------------------------------------------------

    def _flush(self) -> None:
        """Settle outcomes and start the next rows, in one transaction."""
        now = time.monotonic()
        if (self._composed or self._flying) and self._late:
            self._give_back()
            for senders in self._senders.values():
                for call in senders.recall():
                    self._land(Settlement(call.row, State.PENDING, False, after=0.0))
        room = self.window - len(self._flying)
        nexts = [self._composed[i] for i in range(min(FLUSH_ROWS, room, len(self._composed)))]
        outcomes = len(self._settlements) + len(self._troubled)
        outcomes_due = outcomes and (
            outcomes >= FLUSH_ROWS
            or now - self._oldest >= FLUSH_SECONDS
            or not (self._flying or nexts)
        )
        starts_due = nexts and (
            len(nexts) >= FLUSH_ROWS
            or len(self._flying) < self.channel.concurrency
            or not self._claimed
        )
        if not (outcomes_due or starts_due or (self._attempts and not self._flying)):
            return
        try:
            with outbox.transaction_of(Notification):
                if self._settlements or self._attempts:
                    outbox.settle(self._settlements, self._attempts)
                    suppressions.add(self._unwanted)
                if news := self._chain.has_news:
                    self._chain.settle()
                if self._troubled:
                    outbox.settle([self._judge(call, outcome) for call, outcome in self._troubled])
                ours = {row.pk for row in outbox.start([each.row for each in nexts])}
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # such as a foreign key to a row that was deleted meanwhile
            logger.warning("%s: settling one by one: %s", self.channel.queue, type(error).__name__)
            self._settle_singly()
            return
        self._settlements, self._attempts, self._unwanted = [], [], []
        if self._troubled:
            self._troubled, self.dry = [], False
        if news and self._chain.settled():
            self.dry = False
        for composed in nexts:
            if composed.row.pk in ours:
                self._send(composed)
            self._composed.popleft()

    def _settle_singly(self) -> None:
        """Settle each outcome on its own; one that cannot be written takes no other along."""
        self._settlements += [self._judge(call, outcome) for call, outcome in self._troubled]
        self._troubled, self.dry = [], False
        self._write("suppressions", lambda: suppressions.add(self._unwanted))
        self._unwanted = []
        while self._settlements or self._attempts:
            row = next(
                chain(
                    (each.row.pk for each in self._settlements),
                    (each.notification_id for each in self._attempts),
                )
            )
            mine = [each for each in self._settlements if each.row.pk == row]
            attempts = [each for each in self._attempts if each.notification_id == row]
            self._write(f"notification {row}", partial(outbox.settle, mine, attempts))
            self._settlements = [each for each in self._settlements if each.row.pk != row]
            self._attempts = [each for each in self._attempts if each.notification_id != row]

    def _write(self, what: str, write: Callable[[], object]) -> None:
        """Write what can be written; raises if the database is away."""
        try:
            write()
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.error("%s: what came of it cannot be kept: %s", what, describe(error))

    def _judge(self, call: Call, outcome: Outcome) -> Settlement:
        """What follows trouble, now that it is known whether any provider is left."""
        pause = self._chain.pause_of_probe(call.provider)
        return judge(call.row, outcome, held=self._chain.down, pause=pause)

    def _send(self, composed: Composed) -> None:
        provider = None if self._late else self._chain.first()
        self._flying[composed.row.pk] = composed.row
        if provider is None:  # held since it was claimed, or the database was slow to start it
            self._land(Settlement(composed.row, State.PENDING, False, after=0.0))
            return
        self._submit(composed, provider)

    def _submit(self, composed: Composed, provider: Provider[Any]) -> None:
        senders = self._senders.get(provider.name)
        if senders is None:
            senders = self._senders[provider.name] = Senders(
                provider, lanes=self.channel.concurrency, results=self._results
            )
        senders.submit(Call(self, composed.row, composed.message, provider, self._deadline))

    def _recall(self) -> None:
        """Take back what waits for a provider that is held by now."""
        for senders in self._senders.values():
            if not self._chain.is_closed(senders.provider):
                continue
            following = None if self._late else self._chain.following(senders.provider)
            for call in senders.recall():
                if following is None:
                    self._land(Settlement(call.row, State.PENDING, False, after=0.0))
                else:
                    self._submit(Composed(call.row, call.message), following)

    def _trouble(self, call: Call, outcome: Outcome) -> None:
        self._flying.pop(call.row.pk, None)
        if not (self._settlements or self._troubled):
            self._oldest = time.monotonic()
        self._troubled.append((call, outcome))

    def _land(self, settlement: Settlement) -> None:
        self._flying.pop(settlement.row.pk, None)
        if not (self._settlements or self._troubled):
            self._oldest = time.monotonic()
        self._settlements.append(settlement)
        if settlement.after == 0.0:
            self.dry = False  # due again at once

    def _give_back(self) -> None:
        rows = [*self._claimed, *self._suspects, *(each.row for each in self._composed)]
        outbox.release(rows)
        self._claimed.clear()
        self._suspects.clear()
        self._composed.clear()

    def _lose_database(self, error: Exception) -> None:
        """Keep the outcomes and try again: what was accepted must be settled, if it can be."""
        if not self._database_back_at:  # told once, however long it is away
            signals.error.tell(
                where="delivery", queue=self.channel.queue, error=type(error).__name__
            )
        connections[router.db_for_write(Notification)].close()
        now = time.monotonic()
        self._database_back_at = now + RETRY_DATABASE
        self.dry = True
        if now > self._lease_end:  # what was not started is others' now; what was, is whose who
            for rows in (self._claimed, self._suspects, self._composed):  # settles or claims first
                rows.clear()

"""Serve a worker's queues, in their order, for one slice of time.

Tasks run on this thread, one at a time; messages of all channels are under way together, each
channel on its own lanes. The two take turns, so that neither a long backlog of mail holds up the
handlers that make mail, nor the other way round. A queue that waits for a rate token waits here
too, while the others go on. It ends when no queue can proceed or the slice is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from django.db import InterfaceError, OperationalError, close_old_connections

from notifications import conf, holds, outbox, rings, signals, tasks
from notifications.delivery import Delivery
from notifications.models import Notification
from notifications.senders import Result

logger = logging.getLogger("notifications.service")

TURN = 1.0  # seconds tasks or messages go on while the others wait
LOOK = 0.1  # seconds between looks at a queue that was empty, while others are busy
PATIENCE = 0.02  # seconds of waiting for results before the next step


class Service:
    """One slice of serving."""

    def __init__(
        self,
        queues: Sequence[str],
        *,
        stopping: Callable[[], bool] = lambda: False,
        shared_rate: bool = True,
    ) -> None:
        self._stopping = stopping
        self._results: SimpleQueue[Result | None] = SimpleQueue()
        self._task_queues: list[str] = []
        self._deliveries: list[Delivery] = []
        for queue in queues:
            channel = conf.channel_of_queue(queue)
            if channel is None:
                self._task_queues.append(queue)
            else:
                self._deliveries.append(Delivery(channel, self._results, shared_rate=shared_rate))
        self._until = 0.0
        self._looked = 0.0
        self._busy = False  # something was done
        self._rung: set[str] = set()  # queues of ours that were rung since we looked

    def run(self, seconds: float | None = None) -> None:
        """Serve until nothing can proceed, `seconds` are over (None: no limit) or told to stop."""
        self._until = time.monotonic() + (float("inf") if seconds is None else seconds)
        try:
            with rings.heard_here(self._served) as self._rung:
                try:
                    self._serve()
                except (OperationalError, InterfaceError):
                    self._finish()
                    raise
        finally:
            self._close()
        rings.ring(*self._left_over())

    def _serve(self) -> None:
        while not self._over():
            ran = self._run_tasks()
            self._hear()
            sent = self._deliver()
            if not (ran or sent or self._rung):
                self._tell_drained()
                break
            self._busy = True
        self._finish()

    def run_one(self, row: Notification) -> None:
        """Deliver one claimed row and nothing else."""
        channel = conf.channel(row.channel)
        delivery = Delivery(channel, self._results)
        self._deliveries = [delivery]
        try:
            delivery.admit(row)
            self._finish(releasing=False)
        finally:
            self._close()

    # -- tasks ------------------------------------------------------------------------------

    def _run_tasks(self) -> bool:
        """Run due tasks, the first queue's first, for one turn."""
        until = min(time.monotonic() + TURN, self._until)
        ran = False
        while any(self._run_task(queue) for queue in self._task_queues):
            if ran:  # there is more to do here: others may begin with what the tasks ask for
                rings.ring(*self._rung)
            ran = True
            if time.monotonic() >= until or self._over():
                break
        return ran

    def _run_task(self, queue: str) -> bool:
        if holds.current().stops(queue):
            return False
        return tasks.run_due(queue)

    # -- messages ---------------------------------------------------------------------------

    def _deliver(self) -> bool:
        """Send messages until nothing is due, or tasks have waited for a turn."""
        turn_ends = time.monotonic() + TURN
        before = self._handed()
        while not self._over():
            if time.monotonic() >= turn_ends:
                if self._tasks_wait():
                    self._finish()
                    return True
                turn_ends = time.monotonic() + LOOK
            self._step(claiming=True)
            waits = [each.wait for each in self._deliveries if not each.dry and each.wait]
            if any(each.busy for each in self._deliveries):
                self._collect(PATIENCE)
            elif waits:
                self._rest(min(waits))
            elif all(each.dry for each in self._deliveries):
                break
        return self._handed() > before

    def _step(self, *, claiming: bool, releasing: bool = False) -> None:
        now = time.monotonic()
        look = now - self._looked >= LOOK
        if look:
            self._looked = now
        for delivery in self._deliveries:
            # An empty queue is not asked again at every turn of a busy one.
            ask = look or not delivery.dry
            delivery.step(claiming=claiming and ask, releasing=releasing)

    def _collect(self, patience: float) -> None:
        """Wait a little for results, then take all there are."""
        try:
            result = self._results.get(timeout=patience)
            while True:
                if result is not None:
                    result.call.owner.take(result)
                result = self._results.get_nowait()
        except Empty:
            return

    def _rest(self, seconds: float) -> None:
        """Nothing is under way and a token is `seconds` off; a task may come before it."""
        self._collect(min(seconds, LOOK, max(0.0, self._until - time.monotonic())))

    def _finish(self, *, releasing: bool = True) -> None:
        """Let what is under way end and settle; give back the rest (`releasing`).

        However long the database is away: what was accepted would else go out again. (RQ ends the
        job in the end.) Who is told to stop waits until the leases are over, and no longer.
        """
        while left := [each for each in self._deliveries if each.busy]:
            if self._stopping() and all(each.stranded for each in left):
                break
            self._step(claiming=False, releasing=releasing)
            self._collect(PATIENCE)

    def _close(self) -> None:
        """Close everything, and settle what an error may have left."""
        for delivery in self._deliveries:
            delivery.close()
        self._collect(0.0)
        for delivery in self._deliveries:
            delivery.settle_rest()

    def _over(self) -> bool:
        return time.monotonic() >= self._until or self._stopping()

    def _tasks_wait(self) -> bool:
        return any(outbox.has_due(queue) for queue in self._task_queues)

    def _handed(self) -> int:
        return sum(delivery.handed for delivery in self._deliveries)

    def _hear(self) -> None:
        """What would have been rung is looked at, although it was empty a moment ago."""
        if self._rung:
            self._rung.clear()
            self._looked = 0.0

    def _tell_drained(self) -> None:
        """Nothing of these queues is left that could be done now."""
        if self._busy and signals.drained.heard:
            for queue in self._served:
                if not outbox.has_due(queue):
                    signals.drained.tell(queue=queue)

    @property
    def _served(self) -> list[str]:
        return [*self._task_queues, *(each.channel.queue for each in self._deliveries)]

    def _left_over(self) -> list[str]:
        """Queues that still have due rows: somebody must be rung for them."""
        return outbox.due_queues(self._served) if self._over() else []


def serve_safely(service: Service, seconds: float | None) -> None:
    """Run `service`; a lost database ends the slice, and the clock heals the rest."""
    close_old_connections()
    try:
        service.run(seconds)
    except (OperationalError, InterfaceError) as error:
        signals.error.tell(where="service", error=type(error).__name__)  # the clock rings again
    finally:
        close_old_connections()

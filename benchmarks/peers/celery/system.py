"""Celery with Redis as its broker."""

from collections.abc import Sequence

from benchmarks.systems import DjangoSystem, Variant


class Celery(DjangoSystem):
    """Prefork, threads or gevent."""

    name = "celery"
    label = "Celery"
    keeps_on_disk = False
    settings = "benchmarks.shop.settings"
    function = "benchmarks.peers.celery.calls.enqueue"

    def variants(self) -> Sequence[Variant]:
        """Prefork with one and two processes, and a process each without a pool."""
        return [
            self._workers(1, "solo", 1),
            self._workers(2, "solo", 1),
            self._workers(1, "prefork", 2),
        ]

    def patient_variants(self) -> Sequence[Variant]:
        """Fifty threads or greenlets in each of two processes."""
        return [self._workers(2, "threads", 50), self._workers(2, "gevent", 50)]

    def pending(self) -> int:
        """Messages that wait, or that workers have not acknowledged."""
        with self.surroundings.connect_redis() as redis:
            return int(redis.llen("celery") + redis.hlen("unacked"))

    def _workers(self, processes: int, pool: str, concurrency: int) -> Variant:
        command = [
            *(self.python, "-m", "celery", "--app=benchmarks.peers.celery.calls", "--quiet"),
            *("worker", f"--pool={pool}", f"--concurrency={concurrency}", "--loglevel=ERROR"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        return Variant(
            f"{processes} × {pool} {concurrency}",
            cores=processes * (concurrency if pool == "prefork" else 1),
            commands=[
                [*command, f"--hostname=worker{number}@bench"] for number in range(processes)
            ],
        )

"""One RQ job for each mail."""

from collections.abc import Sequence

from benchmarks.systems import DjangoSystem, Variant


class RQJobs(DjangoSystem):
    """SimpleWorkers in a pool, which keep their mail connection; or forking workers."""

    name = "rq_jobs"
    label = "one RQ job per mail"
    keeps_on_disk = False
    settings = "benchmarks.peers.rq_jobs.settings"
    function = "benchmarks.peers.rq_jobs.calls.enqueue"

    def variants(self) -> Sequence[Variant]:
        """One and two SimpleWorkers, one and two forking workers."""
        return [self._simple(1), self._simple(2), self._forking(1), self._forking(2)]

    def pending(self) -> int:
        """Jobs that wait or run."""
        with self.surroundings.connect_redis() as redis:
            return int(redis.llen("rq:queue:mail") + redis.zcard("rq:wip:mail"))

    def _simple(self, processes: int) -> Variant:
        command = [
            *(self.python, "-m", "django", "rqworker-pool", "mail", "--verbosity=0"),
            *(f"--num-workers={processes}", "--worker-class=rq.SimpleWorker"),
        ]
        return Variant(f"{processes} × SimpleWorker", cores=processes, commands=[command])

    def _forking(self, processes: int) -> Variant:
        command = [self.python, "-m", "django", "rqworker", "mail", "--verbosity=0"]
        return Variant(
            f"{processes} × forking worker",
            cores=processes,
            commands=[command] * processes,
            environment={"BENCH_FORKS": "1"},
            most=1_000,
        )

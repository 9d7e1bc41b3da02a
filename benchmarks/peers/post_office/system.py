"""django-post_office: mails as rows, sent by a command."""

from collections.abc import Sequence

from benchmarks.systems import DjangoSystem, Variant

_CALLS = "benchmarks.peers.post_office.calls"


class PostOffice(DjangoSystem):
    """Rendered when queued or when sent; one or two processes with a few threads."""

    name = "post_office"
    label = "django-post_office"
    keeps_on_disk = True
    settings = "benchmarks.peers.post_office.settings"
    function = f"{_CALLS}.enqueue"

    def variants(self) -> Sequence[Variant]:
        """One and two processes; rendered by the worker, and already by the call."""
        return [
            self._workers(processes, threads=threads, rendered=rendered)
            for rendered in (False, True)
            for processes, threads in ((1, 2), (2, 2))
        ]

    def patient_variants(self) -> Sequence[Variant]:
        """Fifty threads in each of two processes."""
        return [self._workers(2, threads=50, rendered=False)]

    def pending(self) -> int:
        """Rows that are queued, or queued again."""
        return self.count_rows("SELECT count(*) FROM post_office_email WHERE status IN (2, 3)")

    def _workers(self, processes: int, *, threads: int, rendered: bool) -> Variant:
        command = [self.python, "-m", "django", "send_queued_mail", f"--processes={processes}"]
        how = "rendered when queued" if rendered else "rendered when sent"
        return Variant(
            f"{processes} × {threads} threads, {how}",
            cores=processes,
            commands=[[*command, "--log-level=0"]],
            environment={"BENCH_THREADS": str(threads)},
            function=f"{_CALLS}.enqueue_rendered" if rendered else self.function,
        )

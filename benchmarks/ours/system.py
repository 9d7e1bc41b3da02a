"""This project: rows in PostgreSQL, served by `rqworker` with forking workers."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.systems import DjangoSystem, Variant

_CALLS = "benchmarks.ours.calls"


class Ours(DjangoSystem):
    """What both adapters share."""

    keeps_on_disk = True
    settings = "benchmarks.ours.settings"

    @property
    def requirements(self) -> Path:
        """Those of a shop that sends mail, without this project's tools."""
        return Path(__file__).with_name("requirements.txt")

    def variants(self) -> Sequence[Variant]:
        """One and two forking workers."""
        return [self.workers(1, 5), self.workers(2, 5)]

    def patient_variants(self) -> Sequence[Variant]:
        """A hundred at once, in one worker and shared by two."""
        return [self.workers(1, 100), self.workers(2, 50)]

    def pending(self) -> int:
        """Rows that are not settled."""
        return self.count_rows(
            "SELECT count(*) FROM notifications_notification WHERE state = 'pending'"
        )

    def workers(self, processes: int, concurrency: int) -> Variant:
        """So many `rqworker`, each with so many mails at once."""
        return Variant(
            f"{processes} × rqworker, {concurrency} at once",
            cores=processes,
            commands=[[self.python, "-m", "django", "rqworker", "--verbosity=0"]] * processes,
            environment={"BENCH_CONCURRENCY": str(concurrency)},
        )


class OursValues(Ours):
    """All values are in the row, as in the peers' jobs."""

    name = "ours_values"
    label = "this project, values given"
    function = f"{_CALLS}.notify_values"
    functions_in_transaction = {
        "notify()": function,
        "publish()": f"{_CALLS}.publish_placed",
    }


class OursDatabase(Ours):
    """The row holds an id; order and items are loaded when it is sent."""

    name = "ours_database"
    label = "this project, order and items loaded"
    function = f"{_CALLS}.notify_id"
    functions_in_transaction = {"notify() with an id": function}

    def fill(self, count: int) -> None:
        """Write the orders."""
        self.django("save_orders", str(count))

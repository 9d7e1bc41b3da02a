"""BullMQ with nodemailer: jobs in Redis, everything at once in one event loop."""

import shutil
import subprocess
from collections.abc import Sequence

from benchmarks.systems import INSTALLED, LONGEST, PEERS, System, Variant, read_cost

_HERE = PEERS / "bullmq"


class BullMQ(System):
    """One or two Node processes."""

    name = "bullmq"
    label = "BullMQ + nodemailer"
    keeps_on_disk = False

    def install(self) -> None:
        """Install its locked packages."""
        folder = INSTALLED / self.name
        installed, wanted = folder / "locked.json", _HERE / "package-lock.json"
        if installed.exists() and installed.read_bytes() == wanted.read_bytes():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(_HERE / name, folder / name)
        # `npm ci` refuses a lock that lacks optional packages for other platforms.
        npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(npm, cwd=folder, check=True, timeout=LONGEST)
        shutil.copyfile(wanted, installed)

    def variants(self) -> Sequence[Variant]:
        """Twenty at once, in one process and in each of two."""
        return [_workers(1, 20), _workers(2, 20)]

    def patient_variants(self) -> Sequence[Variant]:
        """A hundred at once, in one process and shared by two."""
        return [_workers(1, 100), _workers(2, 50)]

    def enqueue(self, count: int, variant: Variant) -> float:
        """Queue `count` mails one call each; the median call in microseconds."""
        return read_cost(self.run(["node", str(_HERE / "enqueue.js"), str(count)]))

    def pending(self) -> int:
        """Jobs that wait, run, or wait for another try."""
        with self.surroundings.connect_redis() as redis:
            listed = sum(redis.llen(f"bull:mail:{state}") for state in ("wait", "active"))
            return int(listed + redis.zcard("bull:mail:delayed"))

    def environment(self) -> dict[str, str]:
        """The environment of its processes: where its packages are."""
        return super().environment() | {"NODE_PATH": str(INSTALLED / self.name / "node_modules")}


def _workers(processes: int, concurrency: int) -> Variant:
    command = ["node", str(_HERE / "worker.js"), str(concurrency)]
    return Variant(
        f"{processes} × {concurrency} at once",
        cores=processes,
        commands=[command] * processes,
    )

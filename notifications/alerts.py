"""Tell the administrators, by another road than the one that broke.

Where something breaks, `alert` writes a row in the same transaction: at most one telling for each
reason and hour. The clock tells it (`Messenger`), on a thread with a time limit, so that sending
never waits for it: in the log always, by mail past every queue, to a webhook, on other channels.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from django.conf import settings
from django.core import mail
from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.dispatch import receiver

from notifications import conf, dispatch, holds, signals
from notifications.kinds import Kind
from notifications.models import Alert, Priority, State
from notifications.providers.http_opener import make_opener
from notifications.providers.mail_servers import server_of
from notifications.redaction import describe, safe_traceback

logger = logging.getLogger("notifications.alerts")

DEADLINE = 15.0  # seconds all roads may take in all
PATIENCE = 5.0  # seconds a server may be silent
AGAIN = 60.0  # seconds until the roads that failed are tried again, by whichever clock
TRIES = 3
QUEUED = "notifications.backends.QueuedEmailBackend"
CRITICAL = Priority.CRITICAL.name.lower()

Road = Callable[[], object]


class AdministratorAlert(Kind):
    """What an alert is on the channels of NOTIFICATIONS["ALERTS"]["CHANNELS"]."""

    name = "administrator_alert"
    channels = ("email",)
    category = "alerts"
    priority = Priority.CRITICAL
    expires_after = timedelta(hours=6)

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """A provider that refuses the password."""
        return {
            "subject": "email: smtp is held",
            "text": "The provider smtp of the channel email fails: 535 bad password.",
        }


def alert(subject: str, text: str, *, key: str, about: str = "") -> None:
    """Tell the administrators of `key` unless they were told within NOTIFICATIONS["ALERTS"].

    Joins the caller's transaction. `about` is the channel that broke: no road leads over it.
    """
    words = {"subject": subject[:200], "text": text[:1000], "channel": about}
    known = Alert.objects.filter(key=key[:200])
    if not known.update(times=F("times") + 1, raised_at=Now()):
        Alert.objects.bulk_create([Alert(key=key[:200], **words)], ignore_conflicts=True)
        return
    quiet = conf.parse_duration(_options()["EVERY"])
    known.filter(due_at=None, told_at__lt=Now() - quiet).update(
        **words, due_at=Now(), tries=0, roads=""
    )


@receiver(signals.failed)
def hear(*, title: str, queue: str, priority: str, state: str, reason: str | None = None,
         **facts: Any) -> None:  # fmt: skip
    """Something has failed: of what is critical the administrators hear when it is given up."""
    if priority != CRITICAL or state != State.DEAD or title == AdministratorAlert.name:
        return
    channel = conf.channel_of_queue(queue)
    what = f"{facts['work']} #{facts['id']}"
    alert(
        f"critical: {title} failed",
        f"{title} ({what}) was given up: {reason}",
        key=f"critical {title}",
        about=channel.name if channel else "",
    )


@dataclass(eq=False, slots=True)
class _Telling:
    """One alert under way."""

    alert: Alert
    roads: dict[str, Road]
    until: float  # monotonic
    told: list[str] = field(default_factory=list)
    thread: threading.Thread | None = None

    def run(self) -> None:
        for name, road in self.roads.items():
            try:
                road()
            except Exception as error:  # a road of the project's own may raise anything
                logger.warning("cannot tell by %s: %s", name, describe(error))
            else:
                self.told.append(name)

    @property
    def over(self) -> bool:
        alive = self.thread is not None and self.thread.is_alive()
        return not alive or time.monotonic() > self.until


class Messenger:
    """Tells what is due, one alert at a time; lives in the clock."""

    def __init__(self) -> None:
        self._telling: _Telling | None = None

    def step(self) -> None:
        """Begin, or end, one telling; never waits for a road, and never raises."""
        try:
            self._step()
        except DatabaseError as error:
            logger.warning("cannot tell the administrators now: %s", type(error).__name__)
            connections.close_all()
        except Exception as error:  # the clock has more to do than this
            logger.error("cannot tell the administrators: %s", safe_traceback(error))
            self._telling = None

    def _step(self) -> None:
        if self._telling is not None:
            if not self._telling.over:
                return
            _settle(self._telling.alert, list(self._telling.told))
            self._telling = None
        if (due := _claim()) is not None:
            self._telling = _begin(due)

    def finish(self) -> None:
        """Tell everything that is due now, and wait for it."""
        self.step()
        while self._telling is not None:
            if self._telling.thread is not None:
                self._telling.thread.join(max(0.0, self._telling.until - time.monotonic()))
            self.step()


def _claim() -> Alert | None:
    due = Alert.objects.filter(due_at__lte=Now()).order_by("due_at", "id").first()
    if due is None or holds.current().everything:  # a copied database tells nobody
        return None
    won = Alert.objects.filter(pk=due.pk, tries=due.tries, due_at__lte=Now()).update(
        due_at=Now() + timedelta(seconds=AGAIN), tries=F("tries") + 1
    )
    due.tries += 1
    return due if won else None


def _begin(due: Alert) -> _Telling:
    done = due.roads.split()
    roads = {name: road for name, road in _roads(due).items() if name not in done}
    logger.error("%s. %s", due.subject, due.text)
    for name, channel_road in _channel_roads(due).items():
        if name not in done:
            _Telling(due, {name: channel_road}, 0.0, done).run()  # rows only: on this thread
    telling = _Telling(due, roads, time.monotonic() + DEADLINE, done)
    if roads:
        telling.thread = threading.Thread(target=telling.run, name="alert", daemon=True)
        telling.thread.start()
    return telling


def _settle(told: Alert, by: list[str]) -> None:
    changes: dict[str, Any] = {"roads": " ".join(by)[:200]}
    if told.tries >= TRIES or {*_roads(told), *_channel_roads(told)} <= set(by):
        changes |= {"due_at": None, "told_at": Now()}
    Alert.objects.filter(pk=told.pk).update(**changes)


def untold() -> list[str]:
    """The channels of whose trouble the administrators would read in the log alone."""
    known = conf.channels()
    return [
        name
        for name, channel in known.items()
        if channel.providers
        and not _roads(Alert(channel=name))
        and not _channel_roads(Alert(channel=name)).keys() & known.keys()
    ]


def _roads(about: Alert) -> dict[str, Road]:
    """The roads beside the log that do not lead over what broke, by name."""
    options = _options()
    roads: dict[str, Road] = {}
    if options["MAIL"] and settings.ADMINS and not _leads_over(options["MAIL"], about.channel):
        roads["mail"] = partial(_mail, options["MAIL"], about)
    if options["WEBHOOK"]:
        roads["webhook"] = partial(_post, options["WEBHOOK"], about)
    return roads


def _channel_roads(about: Alert) -> dict[str, Road]:
    return {
        channel: partial(_notify, channel, addresses, about)
        for channel, addresses in _options()["CHANNELS"].items()
        if channel != about.channel
    }


def _leads_over(backend: str, channel: str) -> bool:
    """Whether mail sent by `backend` takes a server that `channel` takes, too."""
    if backend == QUEUED:
        return channel == "email"
    configured = conf.channels().get(channel)
    servers = {each.server for each in configured.providers} if configured else set()
    return server_of(backend) in servers


def _mail(backend: str, about: Alert) -> None:
    connection = mail.get_connection(backend, fail_silently=False, timeout=PATIENCE)
    mail.mail_admins(about.subject, about.text, connection=connection)


def _post(url: str, about: Alert) -> None:
    # {"text": ...} is what Slack, Mattermost, Rocket.Chat and Google Chat take. With the standard
    # library: a better client costs nine megabytes in every worker, for what hardly ever happens.
    body = json.dumps({"text": f"{about.subject}\n{about.text}"}).encode()
    headers = {"Content-Type": "application/json"}
    request = Request(url, body, headers)  # noqa: S310  # E001 wants http(s)
    try:
        make_opener().open(request, timeout=PATIENCE).close()
    except HTTPError as error:
        error.close()
        raise ConnectionError(f"answered {error.code}") from None


def _notify(channel: str, addresses: list[str], about: Alert) -> None:
    with transaction.atomic():
        dispatch.notify(
            AdministratorAlert,
            to=[dispatch.Recipient(addresses={channel: address}) for address in addresses],
            context={"subject": about.subject, "text": about.text},
            channels=[channel],
        )


def _options() -> dict[str, Any]:
    return {**conf.DEFAULTS["ALERTS"], **conf.get("ALERTS")}

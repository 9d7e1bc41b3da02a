"""Web push, by the services of the browsers' makers (RFC 8030, 8188, 8291, 8292).

"webpush": {
    "BACKEND": "notifications.providers.webpush.WebPush",
    "OPTIONS": {"PUBLIC_KEY": …, "PRIVATE_KEY": …, "CONTACT": "mailto:shop@example.com"},
}

`manage.py notifications_vapid` makes the pair of keys. It is pywebpush that encrypts, and its
py_vapid that signs; they are in the extra `push`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import requests
from django.core.checks import CheckMessage, Error
from py_vapid import Vapid02, VapidException
from pywebpush import WebPusher

from notifications.message import Outcome, Push, Verdict
from notifications.providers.base import Provider
from notifications.providers.http_replies import judge_status
from notifications.providers.http_session import HttpSession, open_client
from notifications.providers.options import check_options
from notifications.redaction import blot, describe

OPTION_NAMES = frozenset(("PUBLIC_KEY", "PRIVATE_KEY", "CONTACT", "TTL", "HOSTS"))

# The services of Chrome, Firefox, Edge and Safari. A subscription tells us where to post: without
# a list, anybody could have this server post to wherever they like.
HOSTS = (
    "fcm.googleapis.com",
    "*.push.services.mozilla.com",
    "*.notify.windows.com",
    "*.push.apple.com",
)
TTL = 86_400  # seconds a service keeps a message for a browser that is away
SIGNED_FOR = 12 * 3600  # seconds; at most 24 hours (RFC 8292, 2)
LONGEST = 1_500  # bytes of a text, before JSON escapes: services take 4096 in all (RFC 8291, 4)
LONGEST_ANSWER = 4_000  # characters that are looked at
RENEW = 600  # seconds before its end a signature is made anew

_LOCAL = ("localhost", "127.0.0.1")
# The form that browsers give endpoints, and no other: of what else an address may hold (a name
# before the host, a backslash) two parsers may make two different hosts.
_ENDPOINT = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::(?P<port>[0-9]{1,5}))?"
    r"/[!#-\[\]-~]*"
)


class WebPush(Provider[Push]):
    """One pair of keys, by which push services know this site.

    OPTIONS: PUBLIC_KEY and PRIVATE_KEY (VAPID, base64url), CONTACT (a mailto: or https: address at
    which a service finds somebody). Optional: TTL in seconds, HOSTS (patterns of the services that
    may be posted to).
    """

    channels = ("push",)

    @property
    def public_key(self) -> str:
        """What browsers subscribe with."""
        return str(self.options.get("PUBLIC_KEY") or "")

    @property
    def hosts(self) -> Collection[str]:
        """Patterns of the hosts that may be posted to."""
        return tuple(self.options.get("HOSTS") or HOSTS)

    def allows(self, endpoint: str) -> bool:
        """Whether a message may, and can, be posted to `endpoint`."""
        read = _ENDPOINT.fullmatch(endpoint)
        if read is None or int(read["port"] or 443) > 65_535:
            return False
        safe = read["scheme"] == "https" and read["port"] in (None, "443")
        host = read["host"]
        return (safe or host in _LOCAL) and any(fnmatchcase(host, each) for each in self.hosts)

    def connect(self) -> WebPushSession:
        """A session that connects with its first message, and keeps a connection to each host."""
        return WebPushSession(self)

    def check(self) -> list[CheckMessage]:
        """What is wrong with its options."""
        found = check_options(
            self,
            known=OPTION_NAMES,
            needed=("PUBLIC_KEY", "PRIVATE_KEY", "CONTACT"),
            where="manage.py notifications_vapid makes the keys.",
            wanted={},
            api_url="https://example.com",
        )
        if not found:
            try:
                WebPushSession(self).sign("https://push.example.com/")
            except (ValueError, VapidException) as error:
                found.append(
                    Error(
                        f"The provider {self.name!r} cannot sign: {describe(error)}.",
                        hint="manage.py notifications_vapid makes a pair of keys; CONTACT begins "
                        "with mailto: or https://.",
                        id="notifications.E065",
                    )
                )
        return found


class WebPushSession(HttpSession[Push]):
    """Connections to the services, kept open."""

    def __init__(self, provider: WebPush) -> None:
        super().__init__(*open_client())
        self._provider = provider
        self._vapid = Vapid02.from_raw(str(provider.options.get("PRIVATE_KEY") or "").encode())
        self._signed: dict[str, tuple[float, dict[str, str]]] = {}  # by the service's origin

    def refuse(self, message: Push) -> Outcome | None:
        """A message for a service that is not among HOSTS, or is not any more: its subscription
        is of no use, and none of the others is touched by that."""
        if self._provider.allows(message.endpoint):
            return None
        text = "this push service is not among HOSTS"
        return Outcome(Verdict.PERMANENT, code="host", text=text, suppress=True)

    def ask(self, message: Push) -> requests.Response:
        """Post the encrypted message (RFC 8030, 5)."""
        subscription = {
            "endpoint": message.endpoint,
            "keys": {"p256dh": message.p256dh, "auth": message.auth},
        }
        return self.client.post(
            message.endpoint,
            data=WebPusher(subscription).encode(build_payload(message))["body"],
            headers={
                **self.sign(message.endpoint),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(int(self._provider.options.get("TTL") or TTL)),
                "Urgency": message.urgency,
            },
            # The whole call is watched; a single silent read ends before.
            timeout=self._provider.timeout * 0.9,
            allow_redirects=False,
        )

    def read(self, answer: requests.Response, message: Push) -> Outcome:
        """What the service says (RFC 8030, 5 and 7.3)."""
        status = answer.status_code
        text = self.clean(answer.text[:LONGEST_ANSWER] or answer.reason or "", message)
        if status in (404, 410):  # the browser has unsubscribed
            return Outcome(Verdict.PERMANENT, code=str(status), text=text, suppress=True)
        if 200 <= status < 300:
            where = answer.headers.get("Location", "")
            return Outcome(
                Verdict.ACCEPTED, code=str(status), message_id=where.rpartition("/")[2][:200]
            )
        if status in (401, 403):
            # Our keys, or one browser that subscribed with others. If it is ours, the next ones
            # fail as well, and the breaker opens.
            return Outcome(Verdict.LATER, code=str(status), text=text, theirs=True)
        if status >= 500:  # it may be on its way to the browser
            return Outcome(Verdict.UNKNOWN, code=str(status), text=text, theirs=True)
        return judge_status(status, answer.headers, text)

    def _send(self, message: Push, begin: Callable[[], None]) -> Outcome:
        outcome = super()._send(message, begin)
        if (
            outcome.code == "dns"
            and urlsplit(message.endpoint).hostname not in self._provider.hosts
        ):
            # A pattern allows hosts that there are not; whoever names one shall be alone with it.
            return replace(outcome, theirs=False)
        return outcome

    def clean(self, text: str, message: Push) -> str:
        """`text` without keys, and without what `message` says and where it goes."""
        private = [str(self._provider.options.get("PRIVATE_KEY") or ""), message.endpoint]
        return blot(text, [*private, message.auth, message.title, message.text])

    def sign(self, endpoint: str) -> dict[str, str]:
        """The header that proves who posts, for one service; made now and then."""
        address = urlsplit(endpoint)
        origin = f"{address.scheme}://{address.netloc}"
        until, headers = self._signed.get(origin, (0.0, {}))
        now = time.time()
        if until - now < RENEW:
            until = now + SIGNED_FOR
            claims = {
                "aud": origin,
                "exp": int(until),
                "sub": str(self._provider.options.get("CONTACT") or ""),
            }
            headers = self._vapid.sign(claims)
            self._signed[origin] = (until, headers)
        return headers


def build_payload(message: Push) -> bytes:
    """What the service worker of `notifications.browsers` shows; the text is cut where it is too
    long for a push service."""
    content = {
        "id": message.id,
        "title": message.title,
        "text": _cut(message.text, LONGEST),
        "link": message.link,
        "type": message.type,
    }
    return json.dumps(content, ensure_ascii=False).encode()


def _cut(text: str, room: int) -> str:
    """The beginning of `text` that fits into `room` bytes, and whether something is missing."""
    raw = text.encode()
    if len(raw) <= room:
        return text
    return raw[: max(0, room - 3)].decode(errors="ignore") + "…"

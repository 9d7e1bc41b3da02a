"""The providers of one channel, first choice first: who may take a message now.

    a message goes to the first provider that is not held (`next`)
    -> its answer is heard (`hear`)
    -> trouble opens its breaker, a probe that got through closes it (`settle`)

The state that all workers share is in `Hold` and `Attempt` rows; see `breaker` for the rules.
What was heard is written in the transaction that settles the messages.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import router

from notifications import alerts, breaker, conf, holds, rings
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, Hold, Notification
from notifications.providers.base import Provider

logger = logging.getLogger("notifications.chain")

PROBE = 5.0  # seconds on top of a call's own, until another worker may probe
LONG_OUTAGE = 3  # vain probes, half a minute, until the administrators are told
TEMPLATE = 3600.0  # seconds a template waits, unless the provider says how long


class Chain:
    """One channel's providers, as one process knows them."""

    def __init__(self, channel: conf.ChannelConf) -> None:
        self._channel = channel
        self._held = holds.Holds()  # as of the last look
        self._troubles: dict[str, Outcome] = {}  # the last of each provider, not written yet
        self._templates: dict[str, Outcome] = {}  # by kind
        self._shut: dict[str, float] = {}  # seconds, by provider: known here, not in `_held` yet
        self._probing: set[str] = set()  # half-open providers that have a message of ours
        self._mended: set[str] = set()

    def look(self) -> None:
        """See what is held by now."""
        self._held = holds.current()

    @property
    def stopped(self) -> bool:
        """Whether nothing of this channel may be claimed."""
        return bool(self._held.stops(self._channel.queue)) or self._all(self._closed)

    @property
    def down(self) -> bool:
        """Whether no provider may be used freely: all are held, or may be probed at best."""
        return self._all({*self._closed, *self._held.half_open})

    @property
    def _closed(self) -> set[str]:
        return {*self._held.providers, *self._shut}

    def _all(self, names: set[str]) -> bool:
        providers = self._channel.providers
        return bool(providers) and all(each.name in names for each in providers)

    def is_closed(self, provider: Provider[Any]) -> bool:
        """Whether `provider` must not be given any message that it does not have yet."""
        return provider.name in self._closed and provider.name not in self._probing

    def first(self) -> Provider[Any] | None:
        """The provider that a message goes to now; asks for the probe of one that is half open."""
        closed = self._closed
        for provider in self._channel.providers:
            if provider.name in closed:
                continue
            if provider.name not in self._held.half_open:
                return provider
            # An own probe is not over until its answer is settled.
            if provider.name not in self._probing and holds.probe(
                provider.name, seconds=provider.timeout + PROBE
            ):
                self._probing.add(provider.name)
                logger.info("%s is probed with one message", provider.name)
                return provider
        return None

    def following(self, provider: Provider[Any]) -> Provider[Any] | None:
        """The next provider after one that failed. Never asks the database."""
        closed = {*self._closed, *self._held.half_open}
        providers = self._channel.providers
        rest = providers[providers.index(provider) + 1 :]
        return next((each for each in rest if each.name not in closed), None)

    def hear(self, provider: Provider[Any], outcome: Outcome, *, kind: str) -> bool:
        """Take note of an answer; whether it tells of the provider's own trouble."""
        if outcome.verdict is Verdict.HOLD and outcome.holds:
            self._templates[kind] = outcome
        trouble = breaker.is_trouble(outcome)
        if trouble:
            self._troubles[provider.name] = outcome
            if breaker.is_certain(outcome):
                self._shut.setdefault(provider.name, 0.0)
        elif provider.name in self._probing:
            self._mended.add(provider.name)
        return trouble

    @property
    def has_news(self) -> bool:
        """Whether `settle` has something to write."""
        return bool(self._troubles or self._templates or self._mended)

    def settle(self) -> None:
        """Write what was heard, in the caller's transaction and after the attempts."""
        policy = conf.breaker_policy()
        for name, outcome in self._troubles.items():
            if name in self._probing:
                probes = holds.count_probes(name) + 1
                seconds = breaker.open_seconds(outcome, probes=probes, policy=policy)
                holds.reopen(name, reason=_say(outcome), cause=_cause(outcome), seconds=seconds)
                if probes == LONG_OUTAGE or _cause(outcome) == Hold.Cause.PROVIDER:
                    _tell(self._channel.name, name, outcome)
            elif breaker.is_certain(outcome) or _trips(name, policy):
                seconds = hold_provider(self._channel.name, name, outcome)
            else:
                continue
            self._shut[name] = seconds
        for kind, outcome in self._templates.items():
            hold_template(self._channel.name, kind, outcome)
        for name in self._mended - self._troubles.keys():
            holds.mend(name)

    def pause_of_probe(self, provider: Provider[Any]) -> float:
        """Seconds that the message of a vain probe makes way for others; 0 if it was none."""
        return self._shut.get(provider.name, 0.0) + 1.0 if provider.name in self._probing else 0.0

    def settled(self) -> bool:
        """What was heard is committed. Whether a provider works again."""
        if mended := bool(self._mended):
            rings.ring(self._channel.queue)  # all workers may go on
        self._probing -= {*self._troubles, *self._mended}
        self._troubles.clear()
        self._templates.clear()
        self._mended.clear()
        self._shut.clear()
        holds.forget()
        self.look()
        return mended


def hold_provider(channel: str, provider: str, outcome: Outcome) -> float:
    """Leave `provider` alone after trouble, and tell of what time alone will not mend; for how many
    seconds."""
    seconds = breaker.open_seconds(outcome, probes=0, policy=conf.breaker_policy())
    holds.trip(provider, reason=_say(outcome), cause=_cause(outcome), seconds=seconds)
    if _cause(outcome) == Hold.Cause.PROVIDER:
        _tell(channel, provider, outcome)
    return seconds


def hold_template(channel: str, kind: str, outcome: Outcome) -> None:
    """Hold what is made from a template that the provider refuses, and tell of it. Messages without
    a kind (empty) wait each for itself: which of them are made from it is sealed."""
    if kind:
        holds.hold(
            Hold.Scope.TEMPLATE,
            holds.template_of(channel, kind),
            reason=_say(outcome),
            cause=Hold.Cause.PROVIDER,
            seconds=outcome.retry_after or TEMPLATE,
        )
    whose = f"of the kind {kind}" if kind else "without a kind"
    alerts.alert(
        f"{channel}: the template {outcome.holds} is held",
        f"The provider takes no messages made from the template {outcome.holds}: "
        f"{_say(outcome)}. Those {whose} wait without losing attempts.",
        key=f"template {outcome.holds} {outcome.code}",
        about=channel,
    )


def _tell(channel: str, provider: str, outcome: Outcome) -> None:
    alerts.alert(
        f"{channel}: {provider} is held",
        f"The provider {provider} of the channel {channel} fails: {_say(outcome)}. "
        "Its messages go to the next provider, or wait without losing attempts; one at a time "
        "tries it again.",
        key=f"provider {provider} {outcome.code}",
        about=channel,
    )


def _trips(provider: str, policy: breaker.BreakerPolicy) -> bool:
    """Whether the last attempts at `provider`, those of this transaction included, open it."""
    rows = Attempt.objects.using(router.db_for_write(Notification)).filter(provider=provider)
    newest = rows.order_by("-id").values_list("theirs", flat=True)
    return breaker.trips(newest[: policy.failures], policy)


def _cause(outcome: Outcome) -> Hold.Cause:
    if outcome.verdict is Verdict.HOLD:
        return Hold.Cause.PROVIDER
    return Hold.Cause.OUTAGE if outcome.retry_after is None else Hold.Cause.ASKED


def _say(outcome: Outcome) -> str:
    return " ".join(word for word in (outcome.code, outcome.text or outcome.error) if word)

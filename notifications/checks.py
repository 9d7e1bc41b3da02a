"""Numbered system checks: what is configured wrongly, and what to do about it.

E: the app cannot work so. W: it works, but somebody will be surprised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands
from django.db import DatabaseError, connections, router
from django.utils.module_loading import import_string
from django_rq.connection_utils import get_redis_connection
from redis import RedisCluster
from redis.connection import Connection

from notifications import alerts, clock, conf, kinds, shapes, tasks
from notifications.channels import whatsapp_registry
from notifications.channels.whatsapp_template import WhatsAppTemplate, listed
from notifications.delivery import COMPOSING, SETTLING
from notifications.errors import InvalidAddress
from notifications.models import Notification, RegisteredTemplate
from notifications.providers.base import Provider
from notifications.shapes import Problem
from notifications.worker import Guarded

LONGEST_LEASE = 30.0  # seconds; what a dead worker held goes out this much later

VENDORS = ("postgresql", "sqlite")  # of the databases for which there is a claim statement


@register("notifications")
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """NOTIFICATIONS itself. The other checks read it, so they wait until it is in order."""
    wrong = [
        Error(each.text, hint=each.hint, id="notifications.E001") for each in _settings_errors()
    ]
    if wrong:
        return list(wrong)
    return [
        *_check_queues(),
        *_check_tasks(),
        *_check_times(),
        *_check_providers(),
        *_check_recipients(),
        *_check_alerts(),
        *_check_secrets(),
    ]


@register(Tags.database)
def check_templates(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """WhatsApp templates that code declares, against those that Meta has approved.

    Only where the database may be asked: by `migrate` and `check --database default`.
    """
    if router.db_for_read(RegisteredTemplate) not in (databases or ()):
        return []
    if any(True for _wrong in _settings_errors()):  # which the other checks tell
        return []
    return list(_check_templates())


@register("notifications")
def check_project(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What the app needs of Django, of django-rq and of the servers."""
    return [*_check_worker(), *_check_screens(), *_check_redis(), *_check_database()]


# -- NOTIFICATIONS ------------------------------------------------------------------------------


def _settings_errors() -> Iterator[Problem]:
    wrong = list(shapes.problems(getattr(settings, "NOTIFICATIONS", {})))
    if wrong:
        yield from wrong
        return
    # What each entry may be is known; now whether they fit together, and name what there is.
    for parse in (conf.retry_policy, conf.breaker_policy, conf.channels):
        try:
            parse()
        except ImproperlyConfigured as error:
            yield Problem(str(error), _DEFAULTS)
            return
    yield from _errors_of_alerts()


_DEFAULTS = "What may stand there is told beside its default, in notifications/conf.py."


def _errors_of_alerts() -> Iterator[Problem]:
    where = "NOTIFICATIONS['ALERTS']"
    options = conf.get("ALERTS")
    if options["MAIL"]:
        try:
            import_string(options["MAIL"])
        except ImportError as error:
            yield Problem(
                f"{where}['MAIL']: {error}", 'Name an email backend that is there; "" for no mail.'
            )
    for name, addresses in options["CHANNELS"].items():
        if name not in conf.channels():
            known = ", ".join(conf.channels())
            yield Problem(
                f"{where}['CHANNELS'] names the channel {name!r}; there are: {known}.",
                "Add it to NOTIFICATIONS['CHANNELS'], or tell the administrators otherwise.",
            )
            continue
        for address in addresses:
            try:
                conf.channel(name).channel.clean(address)
            except InvalidAddress as error:
                yield Problem(
                    f"{where}['CHANNELS'][{name!r}]: {address!r} is no address: {error}.",
                    "Mend it: nobody would hear that something broke.",
                )


def _check_queues() -> Iterator[CheckMessage]:
    sending = {name: each for name, each in conf.channels().items() if not each.channel.kept}
    needed = {f"the channel {name}": each.queue for name, each in sending.items()}
    needed["tasks that name no queue"] = conf.get("TASK_QUEUE")
    for who, queue in needed.items():
        if queue not in conf.queue_names():
            yield Error(
                f"The queue {queue!r} of {who} is not in RQ_QUEUES.",
                hint=f"Add {queue!r} to RQ_QUEUES, with the same Redis as the others.",
                id="notifications.E002",
            )
    taken: dict[str, str] = {}
    for name, each in sending.items():
        if each.queue in taken:
            yield Error(
                f"The channels {taken[each.queue]} and {name} share the queue {each.queue!r}.",
                hint='Give each channel a "QUEUE" of its own in NOTIFICATIONS["CHANNELS"].',
                id="notifications.E003",
            )
        taken[each.queue] = name


def _check_tasks() -> Iterator[CheckMessage]:
    longest = conf.get("LONGEST_TASK")
    for name, function in tasks.all_tasks().items():
        queue = function.queue
        channel = conf.channel_of_queue(queue)
        if channel is not None:
            yield Error(
                f"The task {name} waits in {queue!r}, the queue of the channel {channel.name}.",
                hint="Let it wait in a queue of tasks: @task(queue_name=…).",
                id="notifications.E004",
            )
        elif queue not in clock.own_queues():
            yield Error(
                f"The task {name} waits in {queue!r}, which no worker of ours serves.",
                hint=f'Add {queue!r} to RQ_QUEUES and to NOTIFICATIONS["TASK_QUEUES"].',
                id="notifications.E004",
            )
        if function.seconds > longest:
            yield Error(
                f"The task {name} may run {function.seconds:g} s, longer than any task may.",
                hint=f'Shorten its timeout, or raise NOTIFICATIONS["LONGEST_TASK"] ({longest:g}).',
                id="notifications.E005",
            )


def _check_times() -> Iterator[CheckMessage]:
    lease = conf.get("LEASE")
    for name, channel in conf.channels().items():
        # Composing comes before a call and settling after it, all within one lease; where that is
        # not certain nothing begins.
        longest = lease * (1 - COMPOSING) - SETTLING
        if channel.providers and channel.timeout >= longest:
            yield Error(
                f"The channel {name} lets a call take {channel.timeout:g} s, for which a claim of "
                f"{lease:g} s has no room: nothing would be sent.",
                hint=f"Keep its TIMEOUT below {max(longest, 0):g}, or raise "
                'NOTIFICATIONS["LEASE"].',
                id="notifications.E006",
            )
    if lease > LONGEST_LEASE:
        yield Caution(
            f"What a dead worker held goes out {lease:g} s later.",
            hint=f'Keep NOTIFICATIONS["LEASE"] at {LONGEST_LEASE:g} or less.',
            id="notifications.W001",
        )


def _check_providers() -> Iterator[CheckMessage]:
    for name, channel in conf.channels().items():
        if not channel.providers and not channel.channel.kept:
            yield Caution(
                f"The channel {name} has no provider: its messages wait for ever.",
                hint=f'Name one in NOTIFICATIONS["CHANNELS"][{name!r}]["PROVIDERS"].',
                id="notifications.W002",
            )
        for provider in channel.providers:
            yield from provider.check()
            if provider.options.get("BACKEND") == "notifications.backends.QueuedEmailBackend":
                yield Error(
                    f"The provider {provider.name} queues its messages again, for ever.",
                    hint="Give it the backend that really sends.",
                    id="notifications.E007",
                )


def _check_recipients() -> Iterator[CheckMessage]:
    if conf.environment() != "production" and conf.get("RECIPIENTS") is None:
        yield Caution(
            f"Nobody gets a message: this is {conf.environment()!r}, not production.",
            hint='Say who may be written to here, in NOTIFICATIONS["RECIPIENTS"].',
            id="notifications.W003",
        )


def _check_alerts() -> Iterator[CheckMessage]:
    # Elsewhere nobody is on call.
    silent = alerts.untold() if conf.environment() == "production" else []
    if silent:
        yield Caution(
            f"If a provider of {', '.join(silent)} locks its account, the administrators read of "
            "it in the log alone.",
            hint='Give NOTIFICATIONS["ALERTS"] a WEBHOOK, or addresses on another channel in '
            "CHANNELS; or let MAIL be an email backend with a server of its own, and name people "
            "in ADMINS.",
            id="notifications.W009",
        )


def _check_secrets() -> Iterator[CheckMessage]:
    kept = {name for name, each in conf.channels().items() if each.channel.kept}
    for kind in kinds.all_kinds().values():
        if kind.secret and kept & kind.channel_names():
            yield Error(
                f"The kind {kind.name} makes a secret, and would stay in an inbox.",
                hint=f"Leave {', '.join(sorted(kept))} out of its channels.",
                id="notifications.E030",
            )


def _check_templates() -> Iterator[CheckMessage]:
    channel = conf.channels().get("whatsapp")
    uses = [
        (kind.name, template, language)
        for kind in kinds.all_kinds().values()
        for template in listed(kind.whatsapp)
        for language in template.languages or (template.language_for(""),)
    ]
    for provider in channel.providers if channel and uses else ():
        rows = RegisteredTemplate.objects.filter(provider=provider.name)
        try:
            statuses = {(row.name, row.language): row.status for row in rows}
        except DatabaseError:  # not migrated yet
            return
        if statuses:
            yield from _compare_templates(uses, provider.name, statuses)
        elif type(provider).read_templates is not Provider.read_templates:
            yield Caution(
                f"The WhatsApp templates of {provider.name} were never copied: whether those of "
                "the kinds are approved is not known.",
                hint="Give the provider its BUSINESS_ID; then press Copy now at WhatsApp templates "
                "in the admin, or wait for the night.",
                id="notifications.W061",
            )


def _compare_templates(
    uses: Sequence[tuple[str, WhatsAppTemplate, str]],
    provider: str,
    statuses: Mapping[tuple[str, str], str],
) -> Iterator[CheckMessage]:
    """What of the templates that kinds use, in each of their languages, `provider` would refuse."""
    for kind, template, language in uses:
        what = f"The WhatsApp template {template.name} ({language}) of {kind}"
        status = statuses.get((template.name, language))
        if status is None:
            yield Error(
                f"{what} is not registered at {provider}.",
                hint="Submit it for approval in this language, or mend the kind: its name, or its "
                "languages, of which the first is for everybody else.",
                id="notifications.E063",
            )
        elif status != RegisteredTemplate.APPROVED:
            yield Error(
                f"{what} cannot be sent: {provider} has it as {status}.",
                hint="WhatsApp Manager says why. Mend it and have it approved, or leave the "
                "language out of the kind.",
                id="notifications.E066",
            )
        elif told := whatsapp_registry.difference(template, language):
            yield Error(
                f"{what} is not as it was approved: {told}.",
                hint="Mend the kind, or the template and have it approved again.",
                id="notifications.E064",
            )


# -- the project --------------------------------------------------------------------------------


def _check_worker() -> Iterator[CheckMessage]:
    chosen = getattr(settings, "RQ", {}).get("WORKER_CLASS")
    try:
        worker = import_string(chosen) if isinstance(chosen, str) else chosen
    except ImportError:
        worker = None
    if not (isinstance(worker, type) and issubclass(worker, Guarded)):
        yield Caution(
            f"RQ['WORKER_CLASS'] is {chosen!r}: workers would trust whatever is in Redis.",
            hint="RQ = {'WORKER_CLASS': 'notifications.worker.Worker'}",
            id="notifications.W004",
        )
    if get_commands().get("rqworker") != "notifications":
        yield Caution(
            "manage.py rqworker is not ours: typed bare, it serves the default queue only.",
            hint="Put 'notifications' before 'django_rq' in INSTALLED_APPS.",
            id="notifications.W005",
        )


def _check_screens() -> Iterator[CheckMessage]:
    if getattr(settings, "RQ_SHOW_ADMIN_LINK", True):
        yield Caution(
            "Every staff user may empty queues and run jobs on django-rq's screens in the admin.",
            hint="RQ_SHOW_ADMIN_LINK = False. The notifications app's screens ask for permissions.",
            id="notifications.W006",
        )


def _check_redis() -> Iterator[CheckMessage]:
    for name, config in getattr(settings, "RQ_QUEUES", {}).items():
        if str(config.get("URL", "")).startswith(("http://", "https://")):
            yield Error(
                f"The URL of the queue {name!r} is that of a REST service.",
                hint="RQ speaks Redis's own protocol: use the address with rediss:// (or redis://).",
                id="notifications.E008",
            )
            continue
        try:
            redis = get_redis_connection(config)  # opens no socket
        except Exception as error:
            yield Error(
                f"RQ_QUEUES[{name!r}] does not say where Redis is: {type(error).__name__}.",
                hint="Give it a URL; see django-rq's documentation for the other forms.",
                id="notifications.E009",
            )
            continue
        if isinstance(redis, RedisCluster):
            yield Error(
                f"The queue {name!r} is in a Redis Cluster, on which RQ does not work.",
                hint="RQ keeps a job in several keys: use a single Redis, or Sentinel.",
                id="notifications.E008",
            )
        elif _patience(redis.connection_pool.connection_kwargs) is None:
            yield Caution(
                f"The queue {name!r} has no socket timeout: if Redis hangs, so do django-rq's "
                "screens and whoever enqueues jobs of their own.",
                hint="Add ?socket_timeout=5&socket_connect_timeout=5 to its URL, SOCKET_TIMEOUT "
                "for Sentinel, or REDIS_CLIENT_KWARGS beside HOST.",
                id="notifications.W007",
            )


def _patience(kwargs: Mapping[str, Any]) -> float | None:
    """Seconds a client made of `kwargs` waits for an answer; None for ever."""
    seconds: float | None = kwargs.get("socket_timeout", Connection().socket_timeout)  # type: ignore[no-untyped-call]
    return seconds


def _check_database() -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ is False: what is due when would be a matter of time zones.",
            hint="USE_TZ = True",
            id="notifications.E010",
        )
    connection = connections[router.db_for_write(Notification)]
    if connection.vendor not in VENDORS:
        yield Error(
            f"The app does not work on {connection.vendor}.",
            hint="Keep its tables in PostgreSQL 15 or newer, or in SQLite.",
            id="notifications.E011",
        )
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "sqlite" and options.get("transaction_mode", "").upper() not in (
        "IMMEDIATE",
        "EXCLUSIVE",
    ):
        yield Caution(
            'SQLite would answer "database is locked" when workers and web processes meet.',
            hint="DATABASES['default']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE', "
            "'init_command': 'PRAGMA journal_mode=WAL;'}",
            id="notifications.W008",
        )

"""Measurements as Markdown tables, fit for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.measurements import Delivery, Figure

YARDSTICK = "bullmq"  # the system that the others are compared with


def deliveries(measured: Sequence[Delivery]) -> str:
    """The best of each system with one process and with whatever it likes, and ratios."""
    best = {system: _best(measured, system) for system in dict.fromkeys(m.system for m in measured)}
    yardstick = best[YARDSTICK].rate if YARDSTICK in best else None
    rows = []
    for system, top in best.items():
        alone = [each for each in measured if each.system == system and each.cores == 1]
        one = _best(alone, system) if alone else None
        rows.append(
            [
                top.label,
                "yes" if top.keeps_on_disk else "no",
                f"{top.enqueue_us:,.0f}",
                _brief(one) if one else "–",
                _brief(top),
                top.variant,
                f"{top.rate / yardstick:.2f}" if yardstick else "–",
            ]
        )
    return table(
        [
            "system",
            "keeps mails on disk",
            "queueing, µs a call",
            "one process: mails/s · CPU ms/mail · MB",
            "best: mails/s · CPU ms/mail · MB",
            "its best is",
            "× BullMQ's best",
        ],
        rows,
    )


def variants(measured: Iterable[Delivery]) -> str:
    """Every variant that was tried."""
    return table(
        [
            *("system", "variant", "mails", "queueing, µs a call", "mails/s", "CPU ms/mail"),
            *("PSS, MB", "RSS, MB", "doubled"),
        ],
        [
            [
                *(each.label, each.variant, f"{each.mails:,}", f"{each.enqueue_us:,.0f}"),
                *(f"{each.rate:,.0f}", f"{each.cpu_ms:.2f}", f"{each.pss_mb:.0f}"),
                *(f"{each.rss_mb:.0f}", f"{each.doubled:.0f}"),
            ]
            for each in measured
        ],
    )


def figures(measured: Iterable[Figure]) -> str:
    """One line for each figure."""
    return table(
        ["system", "what", "median"],
        [[each.label, each.name, f"{each.value:,.4g} {each.unit}"] for each in measured],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up as plain text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def _best(measured: Iterable[Delivery], system: str) -> Delivery:
    return max((each for each in measured if each.system == system), key=lambda each: each.rate)


def _brief(each: Delivery) -> str:
    return f"{each.rate:,.0f} · {each.cpu_ms:.2f} · {each.pss_mb:.0f}"

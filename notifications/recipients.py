"""Outside production, only people who were named may be written to (DESIGN: a copied database
mails nobody)."""

from __future__ import annotations

from fnmatch import fnmatchcase

from notifications import conf


def permitted(channel: str, address: str) -> str | None:
    """The address a message to `address` goes to in this environment; None if to nobody.

    In production it is the address itself. Elsewhere NOTIFICATIONS["RECIPIENTS"] decides.
    """
    if conf.environment() == "production":
        return address
    rule = conf.get("RECIPIENTS")
    if rule is None:
        return None
    if isinstance(rule, dict):
        redirect: str | None = rule.get("REDIRECT", {}).get(channel)
        return redirect
    patterns = [rule] if isinstance(rule, str) else rule
    if any(fnmatchcase(address.lower(), pattern.lower()) for pattern in patterns):
        return address
    return None

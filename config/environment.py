"""Read the environment. A bad value stops the start with the variable's name and what to write.

Every reader takes the variable's name and a default, and raises ImproperlyConfigured. An empty
variable counts as one that is not set.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import EmailValidator

env = environ.Env()

REDIS_SCHEMES = ("redis", "rediss", "unix")
DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql", "psql", "pgsql")
DATABASE_HINT = (
    'write "sqlite:////path/to/shop.sqlite3" or "postgres://user:password@host:5432/name"'
)


def read_text(name: str, default: str = "", *, needed_for: str = "") -> str:
    """A text without line breaks; it must not be empty when it is `needed_for` something."""
    value = _raw(name) or default
    if needed_for and not value:
        raise _bad(name, f"is not set, and {needed_for}")
    if any(ord(character) < 32 for character in value):
        raise _bad(name, "must be one line without control characters")
    return value


def read_flag(name: str, default: bool) -> bool:
    """true or false, yes or no, on or off, 1 or 0."""
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    value = read_text(name).lower()
    if value and value not in words:
        raise _bad(name, f"is {value!r}; write true or false")
    return words.get(value, default)


def read_number(name: str, default: int, *, least: int = 0, most: int = 10**9) -> int:
    """A whole number between `least` and `most`."""
    value = read_text(name)
    if not value:
        return default
    if not re.fullmatch(r"[+-]?[0-9]+", value) or not least <= int(value) <= most:
        raise _bad(name, f"is {value!r}; write a whole number from {least} to {most}")
    return int(value)


def read_words(name: str, default: Sequence[str], *, among: Sequence[str] = ()) -> list[str]:
    """Words between commas, each one of `among` unless that is empty."""
    words = [word.strip() for word in read_text(name).split(",") if word.strip()] or list(default)
    strange = [word for word in words if among and word not in among]
    if strange:
        raise _bad(name, f"names {', '.join(strange)}; there are: {', '.join(among)}")
    return words


def read_rate(name: str, default: str) -> str:
    """A rate like "10/s" or "300/m"; set but empty means no limit."""
    value = _raw(name) if name in env.ENVIRON else default
    if value and not re.fullmatch(r"[1-9][0-9]*\s*/\s*[smhd]", value):
        raise _bad(name, f'is {value!r}; write "10/s" or "300/m", or leave it empty for no limit')
    return value


def read_address(name: str, default: str) -> str:
    """A bare email address."""
    return _address(name, read_text(name, default))


def read_addresses(name: str) -> list[str]:
    """Bare email addresses between commas."""
    return [_address(name, each) for each in read_words(name, [])]


def read_origin(name: str, default: str) -> str:
    """The origin of a web site, without a path: "https://shop.example.com"."""
    value = read_text(name, default).rstrip("/")
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or value != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        raise _bad(name, f'is {value!r}; write an origin such as "https://shop.example.com"')
    return value


def read_database(name: str, default: str) -> dict[str, Any]:
    """The DATABASES entry of a database URL."""
    url = read_text(name, default)
    if url.partition("://")[0] not in DATABASE_SCHEMES:
        raise _bad(name, f"is no address of a SQLite or PostgreSQL database; {DATABASE_HINT}")
    try:
        entry: dict[str, Any] = env.db_url_config(url)
    except (ValueError, ImproperlyConfigured):
        raise _bad(name, f"cannot be read; {DATABASE_HINT}") from None
    return entry


def read_redis() -> dict[str, object]:
    """Where Redis is, as an RQ_QUEUES entry: REDIS_URL, or else REDIS_HOST and its companions."""
    url = read_text("REDIS_URL")
    if not url:
        return {
            "HOST": read_text("REDIS_HOST", "localhost"),
            "PORT": read_number("REDIS_PORT", 6379, least=1, most=65_535),
            "DB": read_number("REDIS_DB", 0, most=1_000_000),
            "PASSWORD": read_text("REDIS_PASSWORD") or None,
        }
    scheme = url.partition("://")[0]
    if scheme in ("http", "https"):
        raise _bad(
            "REDIS_URL",
            "is the address of a REST service, which cannot wait for jobs; take the service's "
            'Redis address, "rediss://…"',
        )
    if scheme not in REDIS_SCHEMES:
        raise _bad("REDIS_URL", 'must begin with "redis://", "rediss://" (TLS) or "unix://"')
    try:
        parts = urlsplit(url)
        fine = parts.port != 0 and re.fullmatch(r"/?[0-9]*", parts.path or "")
    except ValueError:
        fine = False
    if scheme != "unix" and not fine:
        raise _bad("REDIS_URL", 'must look like "redis://:password@host:6379/0"')
    return {"URL": url}


def read_secret_key(name: str, *, kept_in: Path) -> str:
    """The secret key; where none is set, one that is made once and kept in a file."""
    value = read_text(name)
    if value:
        return value
    try:
        return kept_in.read_text().strip() or _keep_key(kept_in)
    except FileNotFoundError:
        return _keep_key(kept_in)
    except OSError as error:
        raise _bad(name, f"is not set, and {kept_in} cannot be read: {error.strerror}") from None


def _keep_key(path: Path) -> str:
    """Make a key. Of several processes that start together the first one's is taken."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)  # fails if there is one; a half-written key is never seen
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        key = path.read_text().strip()
    except OSError as error:
        raise _bad(
            "SECRET_KEY", f"is not set, and {path} cannot be written: {error.strerror}"
        ) from None
    if not key:
        raise _bad("SECRET_KEY", f"is not set, and {path} is empty; remove that file")
    return key


def _address(name: str, value: str) -> str:
    try:
        EmailValidator(allowlist=["localhost"])(value)
    except ValidationError:
        raise _bad(name, f"is {value!r}; write an address such as shop@example.com") from None
    return value


def _raw(name: str) -> str:
    # Not by env.str, which takes a value that begins with a dollar for the name of another one.
    return str(env.ENVIRON.get(name, "")).strip()


def _bad(name: str, what: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"The environment variable {name} {what}.")

"""The broker's URL: its form, and whether what crosses the network on the way there is guarded. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_BROKERS: Final = ("redis", "rediss", "redis+socket", "amqp", "amqps")
_WITH_TLS: Final = ("rediss", "amqps")
_WANTED: Final = (
    "should be rediss:// or amqps:// with a password for a broker on another host (docs/celery.md), or set "
    "jobs.celery.allow_insecure_broker"
)


def parse_broker_url(value: str) -> str:
    """As it is. The value is not shown, since it may hold a password.

    Raises:
        ValueError: no broker can have that URL.
    """
    wanted = "should be the URL of a broker, such as redis://HOST:6379/0 or amqp://USER:PASSWORD@HOST:5672/"
    if any(character.isspace() for character in str(value)):
        raise ValueError(f"white space in it: {wanted}")
    scheme, _, rest = str(value).partition("://")
    if scheme == "sentinel":
        raise ValueError(f"sentinel:// cannot be used: {wanted}")
    if ";" in str(value):  # a password with it is percent-encoded
        raise ValueError(f"one broker, not several with semicolons: {wanted}")
    if scheme not in _BROKERS or not rest:
        raise ValueError(wanted)
    try:
        _ = urlsplit(str(value)).port
    except ValueError as error:
        raise ValueError(wanted) from error
    return str(value)


def on_this_host(url: str) -> bool:
    """Whether what goes to that broker never leaves this host: loopback, or a socket."""
    parts = urlsplit(url)
    return parts.scheme == "redis+socket" or is_loopback(parts.hostname or "localhost")


def is_loopback(host: str) -> bool:
    """Of a host in a URL, names but `localhost` excepted, which may mean anything tomorrow."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def why_insecure(url: str) -> str:
    """Why nobody should rely on that broker, with what to do; empty when TLS and a password guard it, or
    nothing leaves this host. Messages are sealed anyway: but anybody may empty its queues, and who listens
    learns its password."""
    parts = urlsplit(url)
    if on_this_host(url):
        return ""
    if parts.scheme not in _WITH_TLS:
        return f"no TLS: {_WANTED}"
    if not parts.password:
        return f"no password: {_WANTED}"
    # kombu takes the options of the URL for more than our own, which check every certificate.
    if any(name.startswith("ssl") for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return f"options of TLS in it, which may switch the check of certificates off: {_WANTED}"
    return ""

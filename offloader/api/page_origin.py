"""Whether a request that changes something was sent by the service's own page (RFC 6454, Fetch standard)."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

_PORTS = {"http": 80, "https": 443}


def is_own_origin(request: Request) -> bool:
    """`Origin` names the host and port that the browser has asked; one that is missing names none.

    Before us TLS may end at a proxy, so `https` is fine where we see plain HTTP, never the other way round.
    """
    try:
        origin = urlsplit(request.headers.get("origin", ""))
        asked = urlsplit(f"//{request.headers.get('host', '')}")
        given = [url.port for url in (origin, asked)]
    except ValueError:  # no number, half an IPv6 address
        return False
    if origin.scheme not in _PORTS or (request.url.scheme == "https" and origin.scheme != "https"):
        return False
    ports = [port or _PORTS[origin.scheme] for port in given]
    return bool(origin.hostname) and origin.hostname == asked.hostname and ports[0] == ports[1]


def is_over_tls(request: Request) -> bool:
    """As far as the browser knows: its cookie may then be `Secure`."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")

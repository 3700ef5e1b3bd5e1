"""Looks where a site's name leads, and where connections arrive: a client may send any URL to the service."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from callclient.signaling.proxies import proxy_for
from foundation.addresses import why_forbidden

_RESOLVED_WITHIN_S: Final = 5.0


class SiteRefused(Exception):
    """The site is nowhere a token may be sent to; one plain sentence without the address."""


async def check_site(url: str) -> None:
    """Resolve the host of `url` and look at every address of it.

    Behind a proxy the proxy resolves, so only an address in the URL itself is looked at. A name that cannot
    be resolved is left to whoever connects, who says so better.

    Raises:
        SiteRefused: one of them is a link-local, metadata or otherwise impossible address.
        TimeoutError: nobody answers what the name means.
    """
    host = urlsplit(url).hostname or ""
    _check(host)
    if proxy_for(url) is not None:
        return
    try:
        async with asyncio.timeout(_RESOLVED_WITHIN_S):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):  # the latter: no name at all, such as a..b
        return
    for *_, address in found:
        _check(str(address[0]))


def check_peer(url: str, peer: Any) -> None:
    """Look at where a connection for `url` has arrived, before anything is sent: since `check_site` the name
    may have come to mean another address. `peer`: as sockets tell it; behind a proxy it is the proxy's.

    Raises:
        SiteRefused: as `check_site`.
    """
    if proxy_for(url) is None and isinstance(peer, tuple):
        _check(str(peer[0]))


def _check(address: str) -> None:
    if reason := why_forbidden(address):
        raise SiteRefused(
            f"the site's name leads to an address that no job connects to: {reason}; "
            "the service's jobs.allowed_site_urls can allow the site"
        )

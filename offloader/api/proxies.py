"""Reverse proxies in front of the service: who sent a request that one of them passed on.

`X-Forwarded-For` (and `-Proto`) count only when the connection comes from a proxy that the configuration
names. Each proxy appends whom it was asked by, so the addresses are read from the right, past our own
proxies: whatever stands to the left of the first stranger was made up by somebody.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from clientauth.self_registration import Network, is_in

_LONGEST: Final = 20
"""Addresses that are looked at; no way has so many proxies."""


class TrustedProxies:
    """Those of `api.http.trusted_proxies`."""

    def __init__(self, networks: tuple[Network, ...] = ()) -> None:
        self._networks = networks

    def trust(self, networks: tuple[Network, ...]) -> None:
        """These from now on."""
        self._networks = networks

    def unwrapped(self, scope: Scope) -> Scope:
        """`scope` as if whoever asked the outermost proxy had asked us; another's is left as it is."""
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._networks or not is_in(peer, self._networks):
            return scope
        headers = Headers(scope=scope)
        sender = self._sender(headers.getlist("x-forwarded-for"), peer)
        scheme = headers.get("x-forwarded-proto", "").strip().lower()
        changes = {"scheme": scheme} if scheme in ("http", "https") else {}
        return {**scope, **changes, "client": (sender, 0)}

    def _sender(self, headers: list[str], peer: str) -> str:
        named = [part for header in headers for part in header.split(",")]
        sender = peer
        for text in reversed(named[-_LONGEST:]):
            address = _address_in(text.strip())
            if not address:
                break
            sender = address
            if not is_in(address, self._networks):
                break
        return sender


def _address_in(text: str) -> str:
    """Some proxies write a port behind it. Empty: it is no address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""

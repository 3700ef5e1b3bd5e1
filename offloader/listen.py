"""Binds the service's socket before anything else starts, so that a taken port is a clear error."""

from __future__ import annotations

import errno
import socket

from foundation.layered_config import ConfigError
from offloader.settings import split_address

_SETTING = "api.http.listen_address (API_HTTP_LISTENADDRESS)"


def bind(address: str) -> list[socket.socket]:
    """Listening-ready sockets for `host:port`; an empty host means all interfaces, IPv4 and IPv6.

    Raises:
        ConfigError: the address cannot be had; names the port, who wants it and the setting.
    """
    host, port = split_address(address)
    try:
        if not host:
            return [_any_interface(port)]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, target = found[0]
        return [_bound(family, target)]
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "the port is taken by another process" if taken else error.strerror
        raise ConfigError(
            f"offloader: cannot listen on port {port} (address {address}): {reason}; "
            f"stop the other process or change {_SETTING}"
        ) from error


def _any_interface(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return _bound(socket.AF_INET6, ("::", port), dual=True)
    return _bound(socket.AF_INET, ("0.0.0.0", port))


def _bound(family: int, target: tuple[object, ...], *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(target)
        sock.listen(2048)
    except OSError:
        sock.close()
        raise
    return sock

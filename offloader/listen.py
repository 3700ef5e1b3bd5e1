"""Binds the service's sockets before anything else starts, so that a taken port is a clear error."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from foundation.layered_config import ConfigError
from offloader.setting_values import split_address

_SETTING = "api.http.listen_address (API_HTTP_LISTENADDRESS)"
_LONGEST_SOCKET_PATH = 107
"""sun_path of unix(7), without the NUL at its end."""


def bind(address: str, *, setting: str = _SETTING) -> list[socket.socket]:
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
            f"stop the other process or change {setting}"
        ) from error


def bind_local(path: Path) -> socket.socket:
    """A listening Unix socket for its owner and root only; one that nobody listens on any more is replaced.

    Raises:
        ConfigError: it cannot be had, or another service listens on it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_dead(path)
        return _bound_locally(path)
    except OSError as error:
        reason = error.strerror or str(error)
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            reason = f"the path is longer than {_LONGEST_SOCKET_PATH} bytes"
        raise ConfigError(
            f"offloader: cannot listen on {path}: {reason}; change api.admin_socket (API_ADMINSOCKET)"
        ) from error


def _remove_dead(path: Path) -> None:
    if not path.is_socket():
        return  # whatever else it is, binding will complain of it
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another service listens on it")


def _bound_locally(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set before it exists: nobody else shall get in between. Nothing else runs yet in this process.
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _any_interface(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return _bound(socket.AF_INET6, ("::", port), dual=True)
    return _bound(socket.AF_INET, ("0.0.0.0", port))  # nosec B104  # as configured: ":4545"


def _bound(family: int, target: tuple[object, ...], *, dual: bool = False) -> socket.socket:
    # Named as TCP: asyncio's own loop holds small answers back for 40 ms where it cannot tell.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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

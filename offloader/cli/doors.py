"""Which way leads to the running service: its socket on this host, or its address with the admin's key."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from offloader.cli.failures import BadUsage, CommandFailed, ServiceUnreachable
from offloader.setting_values import split_address
from offloader.settings import ApiSettings

CONNECT_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Door:
    """How to connect, and as whom."""

    shown: str
    """For errors."""
    socket_path: Path | None = None
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    authorization: str = field(default="", repr=False)
    """The header's value; empty on the socket, whose owner is the admin."""

    def connection(self, *, timeout_s: float | None) -> http.client.HTTPConnection:
        """An unconnected connection; `timeout_s` for each wait on it."""
        if self.socket_path is not None:
            return _SocketConnection(self.socket_path, timeout_s)
        if self.tls is not None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout_s, context=self.tls
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)


def find_door(
    api: ApiSettings, *, socket_path: Path | None, url: str | None, ca_file: Path | None
) -> Door:
    """What the options name; else the socket of the settings, else their address with the admin's key.

    Raises:
        BadUsage: both options at once, or a URL of no use.
        CommandFailed: the admin's key is needed and not set, or the CA file cannot be used.
        ServiceUnreachable: there is neither socket nor key.
    """
    if socket_path is not None and url is not None:
        raise BadUsage("--socket and --url: give one of them")
    if url is not None:
        return _door_of_url(url, api, ca_file)
    path = socket_path or api.admin_socket
    if path is not None and (socket_path is not None or _may_be_there(path)):
        return Door(shown=str(path), socket_path=path)
    if api.enable_admin:
        return _door_of_address(api, ca_file)
    raise ServiceUnreachable(
        f"the service has no socket {path or '(api.admin_socket is empty)'}: see that it runs; name its "
        "configuration by --config FILE, its socket by --socket PATH or, for another host, --url URL"
    )


def _may_be_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # not for us to look; connecting says why


def _door_of_url(url: str, api: ApiSettings, ca_file: Path | None) -> Door:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise BadUsage("--url: should be as https://host:4545, without user and password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadUsage("--url: should have no path")
    if parts.scheme == "http" and ca_file is not None:
        raise BadUsage("--ca-cert goes with an https URL")
    return Door(
        shown=url,
        host=parts.hostname,
        port=port or (443 if parts.scheme == "https" else 80),
        tls=_context(ca_file) if parts.scheme == "https" else None,
        authorization=_admin_authorization(api),
    )


def _door_of_address(api: ApiSettings, ca_file: Path | None) -> Door:
    host, port = split_address(api.listen_address)
    host = _reachable(host)
    tls = None
    if api.tls.enable:
        # On its own host the service is known by the very certificate of its configuration.
        tls = _context(ca_file) if ca_file else _context(Path(api.tls.cert_file), pinned=True)
    scheme = "https" if tls else "http"
    shown = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return Door(shown, None, host, port, tls, _admin_authorization(api))


def _reachable(host: str) -> str:
    """Where to find a service that listens on `host`; on all interfaces: the loopback one."""
    if not host:
        return "localhost"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "::1" if address.version == 6 else "127.0.0.1"
    return host


def _admin_authorization(api: ApiSettings) -> str:
    if not (api.enable_admin and api.admin_secret_key):
        raise CommandFailed(
            "the admin's key is needed there: set api.security.enable_admin and "
            "api.security.admin_secret_key in the configuration of the service and in this one"
        )
    credentials = f"admin:{api.admin_secret_key}".encode()
    return "Basic " + base64.b64encode(credentials).decode("ascii")


def _context(ca_file: Path | None, *, pinned: bool = False) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandFailed(f"{ca_file}: no certificates can be read from it: {reason}") from error
    if pinned:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    return context


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

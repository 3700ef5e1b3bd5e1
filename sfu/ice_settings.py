"""Settings of the `rtc` group with a form of their own: addresses, ICE servers, ports (rtcd.md 1.2, 1.3)."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from typing import Any, Final

from foundation.layered_config import ConfigError

MIN_PORT: Final = 80
MAX_PORT: Final = 49151
_STUN: Final = ("stun:", "stuns:")
_TURN: Final = ("turn:", "turns:")


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server under one or several URLs."""

    urls: tuple[str, ...]
    username: str = ""
    credential: str = field(default="", repr=False)

    @property
    def is_stun(self) -> bool:
        return bool(self.urls) and all(url.startswith(_STUN) for url in self.urls)

    @property
    def is_turn(self) -> bool:
        return bool(self.urls) and all(url.startswith(_TURN) for url in self.urls)


@dataclass(frozen=True, slots=True)
class PortOverride:
    """The port that clients are told together with an external address."""

    port: int = 0
    """For every address; 0: none, or by local address."""
    by_address: tuple[tuple[str, int], ...] = ()
    """Local address and port, in the order of the setting."""


def read_addresses(text: str, protocol: str) -> tuple[str, ...]:
    """The IP addresses of a comma-separated setting, trimmed. `protocol`: "UDP" or "TCP".

    Raises:
        ConfigError: one of them is no IP address.
    """
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ConfigError(
                f"invalid ICEAddress{protocol} value: invalid ICEAddress value: "
                f"{address} is not a valid IP address"
            ) from None
    return addresses


def check_port(port: int, name: str) -> None:
    """Raises ConfigError: not in the range that rtcd allows."""
    if not MIN_PORT <= port <= MAX_PORT:
        raise ConfigError(
            f"invalid {name} value: {port} is not in allowed range [{MIN_PORT}, {MAX_PORT}]"
        )


def read_ice_servers(value: Any) -> tuple[IceServer, ...]:
    """A list of texts and tables, or that list as JSON. Raises ConfigError."""
    if isinstance(value, str):
        value = _from_environment(value)
    if not isinstance(value, list):
        raise ConfigError("invalid ICEServers value: should be a list")
    servers = tuple(_ice_server(entry) for entry in value)
    for server in servers:
        _check_ice_server(server)
    return servers


def _ice_server(entry: Any) -> IceServer:
    if isinstance(entry, str):
        return IceServer((entry,))
    if not isinstance(entry, dict):
        raise ConfigError("invalid ICEServers value: should hold texts or tables")
    urls = entry.get("urls") or []
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ConfigError("invalid ICEServers value: urls should be a text or texts")
    return IceServer(
        tuple(urls), str(entry.get("username") or ""), str(entry.get("credential") or "")
    )


def _from_environment(text: str) -> Any:
    try:
        value = json.loads(text or "[]")
    except ValueError:
        raise ConfigError("invalid ICEServers value: should be JSON") from None
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return [{"urls": value}]  # a list of URLs in the environment is one server
    return value


def _check_ice_server(server: IceServer) -> None:
    if not server.urls:
        raise ConfigError("invalid ICEServers value: invalid empty URLs")
    if not all(server.urls):
        raise ConfigError("invalid ICEServers value: invalid empty URL")
    if not server.is_stun and not server.is_turn:
        raise ConfigError("invalid ICEServers value: URL is not a valid STUN/TURN server")


def read_port_override(value: Any) -> PortOverride:
    """A number, its text, or `localIP/port,localIP/port`; empty: none.

    The ports of a map are not checked against the range, as in rtcd. Raises ConfigError.
    """
    name = "ICEHostPortOverride"
    if value == "" or value is None:
        return PortOverride()
    if isinstance(value, int) and not isinstance(value, bool):
        check_port(value, name)
        return PortOverride(value)
    if not isinstance(value, str):
        raise ConfigError(f"invalid {name} value: should be a port, or texts such as 10.0.0.1/8443")
    try:
        port = int(value)
    except ValueError:
        return PortOverride(by_address=_port_map(value))
    check_port(port, name)
    return PortOverride(port)


def _port_map(text: str) -> tuple[tuple[str, int], ...]:
    prefix = "invalid ICEHostPortOverride value: failed to parse mapping: "
    ports: dict[str, int] = {}
    for pair in text.split(","):
        address, slash, port_text = pair.partition("/")
        if not slash or "/" in port_text:
            raise ConfigError(prefix + "invalid map pairing syntax")
        if not port_text.isascii() or not port_text.isdecimal():
            raise ConfigError(
                f"{prefix}failed to parse port number: {port_text!r} is not a whole number"
            )
        port = int(port_text)
        if address in ports:
            raise ConfigError(f"{prefix}duplicate mapping found for {address}")
        if port in ports.values():
            raise ConfigError(f"{prefix}duplicate port found for {port}")
        ports[address] = port
    return tuple(ports.items())

"""STUN and TURN servers as configurations name them: RTCIceServer with URLs of RFC 7064 and RFC 7065."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rtc.errors import RtcError

LinkKind = Literal["udp", "tcp", "tls"]
_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):"
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?)"
    r"(?::(?P<port>\d{1,5}))?(?:\?transport=(?P<transport>udp|tcp))?",
    re.IGNORECASE,
)
_MAX_SERVERS = 16
_LINK_ORDER: tuple[LinkKind, ...] = ("udp", "tcp", "tls")


class ServerUrlError(RtcError, ValueError):
    """A URL of a STUN or TURN server cannot be used; the message has the URL and the wanted form."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """One way to one server."""

    turn: bool
    """Else a STUN server."""
    host: str
    port: int
    link: LinkKind

    @classmethod
    def parse(cls, url: str) -> ServerUrl:
        """Raises ServerUrlError."""
        match = _URL.fullmatch(url.strip())
        if match is None:
            raise ServerUrlError(
                f"ICE server URL {url[:100]!r}: wanted (stun|turn|turns):host[:port][?transport=udp|tcp]"
            )
        scheme = match["scheme"].lower()
        secure = scheme in ("stuns", "turns")
        transport = (match["transport"] or ("tcp" if secure else "udp")).lower()
        if secure and transport == "udp":
            raise ServerUrlError(f"ICE server URL {url[:100]!r}: DTLS is not supported, wanted tcp")
        port = int(match["port"] or (5349 if secure else 3478))
        if not 0 < port < 65536:
            raise ServerUrlError(f"ICE server URL {url[:100]!r}: port {port} is none")
        link: LinkKind = "tls" if secure else "tcp" if transport == "tcp" else "udp"
        return cls(scheme.startswith("turn"), match["host"].strip("[]"), port, link)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "turn" if self.turn else "stun"
        return f"{scheme} {host}:{self.port} over {self.link.upper()}"


@dataclass(frozen=True, slots=True)
class IceServer:
    """A server under one or several URLs; credentials for TURN."""

    urls: tuple[ServerUrl, ...]
    username: str = ""
    credential: str = field(default="", repr=False)

    @property
    def has_credentials(self) -> bool:
        return bool(self.username and self.credential)


def read_servers(value: Any) -> tuple[list[IceServer], list[str]]:
    """What JSON says of servers: `[{"urls": str or [str], "username"?, "credential"?}]` or null.

    Returns the usable ones, 16 at most, and what is wrong with the others. URLs with a port that has a
    meaning elsewhere are as good as any.
    """
    servers: list[IceServer] = []
    problems: list[str] = []
    entries = value if isinstance(value, list) else []
    for entry in entries[:_MAX_SERVERS]:
        if not isinstance(entry, dict):
            problems.append("an ICE server is no object")
            continue
        listed = entry.get("urls")
        texts = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
        urls: list[ServerUrl] = []
        for text in texts[:_MAX_SERVERS]:
            try:
                urls.append(ServerUrl.parse(str(text)))
            except ServerUrlError as error:
                problems.append(str(error))
        if urls:
            username, credential = entry.get("username"), entry.get("credential")
            servers.append(IceServer(tuple(urls), str(username or ""), str(credential or "")))
    return servers, problems


def turn_urls(servers: Sequence[IceServer]) -> list[tuple[ServerUrl, IceServer]]:
    """The ways to TURN servers that have credentials: UDP before TCP before TLS, else as configured."""
    ways = [(url, server) for server in servers if server.has_credentials for url in server.urls]
    turn = [way for way in ways if way[0].turn]
    return sorted(turn, key=lambda way: _LINK_ORDER.index(way[0].link))


def stun_urls(servers: Sequence[IceServer]) -> list[ServerUrl]:
    """STUN servers that can be asked over UDP; a TURN server answers binding requests too."""
    found = [url for server in servers for url in server.urls if url.link == "udp"]
    return sorted(dict.fromkeys(found), key=lambda url: url.turn)

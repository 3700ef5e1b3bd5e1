"""Between a transport (one peer's ICE agent) and the sockets that carry its datagrams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rtc.ice.candidate import Candidate
from rtc.ice.credentials import IceCredentials
from rtc.ice.path import Address, Path


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """What we announce, and the `local` of paths behind it."""

    candidate: Candidate
    base: Address


@dataclass(frozen=True, slots=True)
class Route:
    """How the fan-out sends on a path: see `rtc.fanout.Egress`."""

    send: Callable[..., Any]
    address: Address | None


class Attached(Protocol):
    """What a network tells a transport; called from the loop."""

    on_data: Callable[[bytes], None]
    """Takes what is not STUN and came over a bound path."""

    def stun_received(self, datagram: bytes, path: Path) -> None: ...

    def flow_opened(self, path: Path) -> None: ...

    def flow_lost(self, path: Path, reason: str = "closed") -> None: ...


class Network(Protocol):
    """Owner of sockets that one or many transports use. Nothing here blocks or raises."""

    def candidates(self) -> Sequence[LocalCandidate]: ...

    def new_credentials(self) -> IceCredentials:
        """Fresh ones that this network can tell from those of others."""

    def register(self, ufrag: str, transport: Attached) -> None:
        """STUN requests to `ufrag` are this transport's."""

    def send(self, path: Path, datagram: bytes, transport: Attached) -> None:
        """Send; dropped where the path is gone."""

    def route(self, path: Path) -> Route | None: ...

    def bind(self, path: Path, transport: Attached) -> None:
        """What comes over `path` belongs to this transport: it proved to know the password."""

    def release(self, path: Path, transport: Attached) -> None: ...

    def connect(self, path: Path, transport: Attached) -> None:
        """Open a TCP flow; ends in the transport's `flow_opened` or `flow_lost`."""

    def forget(self, transport: Attached) -> None:
        """Everything of this transport: ufrags, paths, flows."""

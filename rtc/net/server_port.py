"""What the ports of servers have in common, whether one process reads them or several do.

A STUN request belongs to the transport that its ufrag names, the answer to a check of ours to the one that
asked; TCP flows begin with such a request. How UDP is read and sent is the subclass's.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from foundation.newest import keep_newest
from rtc.ice.bounds import IceBounds
from rtc.ice.credentials import IceCredentials
from rtc.ice.path import Address, Path
from rtc.ice.timings import IceTimings
from rtc.net.announced import Announced, local_candidates
from rtc.net.flows import Flows
from rtc.net.network import Attached, LocalCandidate, Route
from rtc.net.tcp_flow import BACKLOG_BYTES, FrameReader
from rtc.net.transport import IceTransport
from rtc.stun import request_ufrag

SERVER_TIMINGS = IceTimings(pace_ns=5_000_000)
"""All peers share the socket: nothing is gained by pacing their first checks apart."""
SERVER_BOUNDS = IceBounds(checks_per_s=20, link_local=False)
"""Whoever may join says where our checks go: they must be no flood, and find nothing that is only ours."""
MAX_UFRAGS = 4
"""Of one transport: each ICE restart brings another, and only the last two are in use."""
_ASKED_LIMIT = 8192
_REQUEST = b"\x00\x01"


class ServerPort(ABC):
    """A `Network` for many transports that are controlled by their peers."""

    def __init__(
        self, *, bounds: IceBounds = SERVER_BOUNDS, tcp_queue_bytes: int = BACKLOG_BYTES
    ) -> None:
        """`bounds` hold for each peer; `tcp_queue_bytes` may wait for the reader of each TCP flow."""
        self._bounds = bounds
        self._flows = Flows(backlog_bytes=tcp_queue_bytes)
        self._by_ufrag: dict[str, Attached] = {}
        self._asked: dict[bytes, Attached] = {}
        """By transaction id."""
        self._candidates: list[LocalCandidate] = []
        self.udp_port = 0
        """Once open."""
        self.tcp_port = 0
        """Once open; 0 without TCP."""
        self.dropped_datagrams = 0
        """Datagrams that belong to nobody."""

    def announce(self, announced: Sequence[Announced]) -> None:
        """Tell these addresses to peers that come from now on; their local ones must be open."""
        self._candidates = local_candidates(announced, self.udp_port, self.tcp_port)

    def create_transport(
        self,
        *,
        controlling: bool,
        on_data: Callable[[bytes], None],
        on_selected: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> IceTransport:
        """A transport over this port; close it to forget its peer."""
        return IceTransport(
            self,
            controlling=controlling,
            on_data=on_data,
            on_selected=on_selected,
            on_lost=on_lost,
            timings=SERVER_TIMINGS,
            bounds=self._bounds,
        )

    @property
    def tcp_queue_drops(self) -> int:
        """Datagrams that were dropped because the reader of their TCP flow was too slow."""
        return self._flows.dropped

    # Network

    def candidates(self) -> Sequence[LocalCandidate]:
        return self._candidates

    def new_credentials(self) -> IceCredentials:
        return IceCredentials.generate()

    def register(self, ufrag: str, transport: Attached) -> None:
        own = [u for u, owner in self._by_ufrag.items() if owner is transport]
        if len(own) >= MAX_UFRAGS:
            del self._by_ufrag[own[0]]
        self._by_ufrag[ufrag] = transport

    def send(self, path: Path, datagram: bytes, transport: Attached) -> None:
        if path.transport == "tcp":
            self._flows.send(path, datagram)
        else:
            self._send_udp(path, datagram, transport)

    def route(self, path: Path) -> Route | None:
        return self._flows.route(path) if path.transport == "tcp" else self._route_udp(path)

    def bind(self, path: Path, transport: Attached) -> None:
        if path.transport == "tcp":
            self._flows.bind(path)
        else:
            self._bind_udp(path, transport)

    def release(self, path: Path, transport: Attached) -> None:
        if path.transport == "tcp":
            self._flows.release(path)
        else:
            self._release_udp(path, transport)

    def connect(self, path: Path, transport: Attached) -> None:  # noqa: B027 - of every server
        """Servers open no flows: their TCP candidates are passive."""

    def forget(self, transport: Attached) -> None:
        for ufrag in [u for u, owner in self._by_ufrag.items() if owner is transport]:
            del self._by_ufrag[ufrag]
        for transaction_id in [i for i, owner in self._asked.items() if owner is transport]:
            del self._asked[transaction_id]
        self._forget_udp(transport)
        self._flows.forget(transport)

    # of the subclass

    @abstractmethod
    def _send_udp(self, path: Path, datagram: bytes, transport: Attached) -> None: ...

    @abstractmethod
    def _route_udp(self, path: Path) -> Route | None: ...

    @abstractmethod
    def _bind_udp(self, path: Path, transport: Attached) -> None: ...

    @abstractmethod
    def _release_udp(self, path: Path, transport: Attached) -> None: ...

    @abstractmethod
    def _forget_udp(self, transport: Attached) -> None: ...

    # for the subclass

    def _remember_check(self, datagram: bytes, transport: Attached) -> None:
        """If `datagram` asks, its answer is for `transport`."""
        if datagram.startswith(_REQUEST):
            keep_newest(self._asked, datagram[8:20], transport, most=_ASKED_LIMIT)

    def _asker(self, answer: bytes) -> Attached | None:
        """Whose check this answers."""
        return self._asked.pop(answer[8:20], None)

    def _flow_began(
        self, sock: socket.socket, frames: list[bytes], reader: FrameReader, remote: Address
    ) -> bool:
        """Take a non-blocking connection whose first frames have come; False when it is nobody's."""
        ufrag = request_ufrag(frames[0]) if frames else None
        transport = None if ufrag is None else self._by_ufrag.get(ufrag)
        if transport is None:
            return False
        name = sock.getsockname()
        path = Path("tcp", (name[0], name[1]), remote)
        self._flows.adopt(sock, path, transport, reader, frames)
        return True

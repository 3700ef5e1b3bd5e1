"""One UDP and one TCP port for all peers of a server.

A datagram finds its peer by the address that STUN proved (RFC 8445 section 7.3); a STUN request by the local
ufrag in its USERNAME, and only after its MESSAGE-INTEGRITY held is the address bound to that peer; the
answer to a check of ours by its transaction id.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from rtc.errors import PortTaken
from rtc.ice.bounds import IceBounds
from rtc.ice.path import Address, Path
from rtc.net.announced import Announced, Listening
from rtc.net.network import Attached, Route
from rtc.net.server_port import SERVER_BOUNDS, ServerPort
from rtc.net.tcp_door import TcpDoor
from rtc.net.tcp_flow import BACKLOG_BYTES
from rtc.net.udp_socket import UdpSocket, bind_udp
from rtc.stun import request_ufrag


class SharedPort(ServerPort):
    """Owns the sockets; `open`, then `create_transport` for each peer, `close` in the end."""

    def __init__(
        self, *, bounds: IceBounds = SERVER_BOUNDS, tcp_queue_bytes: int = BACKLOG_BYTES
    ) -> None:
        """See `ServerPort`."""
        super().__init__(bounds=bounds, tcp_queue_bytes=tcp_queue_bytes)
        self._sockets: dict[Address, _SharedSocket] = {}
        self._doors: list[TcpDoor] = []

    def open(
        self,
        announced: Sequence[Announced],
        *,
        udp_port: int,
        tcp_port: int,
        listening: Sequence[Listening] = (),
    ) -> None:
        """Bind `listening`, by default what stands behind `announced`; port 0 takes a free one.

        Raises:
            PortTaken: somebody else has a port, or an address is not ours.
        """
        self.udp_port, self.tcp_port = udp_port, tcp_port
        try:
            for entry in listening or [Listening(a.transport, a.bind_host) for a in announced]:
                if entry.transport == "udp":
                    self._open_udp(entry.host)
                else:
                    self._open_tcp(entry.host)
        except PortTaken:
            self.close()
            raise
        self.announce(announced)

    def close(self) -> None:
        """Close all sockets; transports must have been closed before."""
        for shared in self._sockets.values():
            shared.udp.close()
        for door in self._doors:
            door.close()
        self._sockets.clear()
        self._doors.clear()

    @property
    def peers(self) -> int:
        """How many transports share the port now."""
        return len({id(transport) for transport in self._by_ufrag.values()})

    @property
    def unsendable(self) -> int:
        """Datagrams that the kernel did not take."""
        return sum(shared.udp.unsendable for shared in self._sockets.values())

    @property
    def refused_flows(self) -> int:
        """TCP connections that did not say whose they are, or lied."""
        return sum(door.refused for door in self._doors)

    def stun_received(self, shared: _SharedSocket, data: bytes, source: Address) -> None:
        ufrag = request_ufrag(data)
        if ufrag is not None:
            transport = self._by_ufrag.get(ufrag)
        else:
            transport = shared.by_source.get(source) or self._asker(data)
        if transport is None:
            self.dropped_datagrams += 1
            return
        transport.stun_received(data, Path("udp", shared.udp.local, source))

    # internals

    def _send_udp(self, path: Path, datagram: bytes, transport: Attached) -> None:
        shared = self._sockets.get(path.local)
        if shared is not None:
            if path.remote not in shared.by_source:
                self._remember_check(datagram, transport)
            shared.udp.send(datagram, path.remote)

    def _route_udp(self, path: Path) -> Route | None:
        shared = self._sockets.get(path.local)
        return None if shared is None else Route(shared.udp.sendto, path.remote)

    def _bind_udp(self, path: Path, transport: Attached) -> None:
        shared = self._sockets.get(path.local)
        if shared is not None:
            shared.by_source[path.remote] = transport

    def _release_udp(self, path: Path, transport: Attached) -> None:
        shared = self._sockets.get(path.local)
        if shared is not None and shared.by_source.get(path.remote) is transport:
            del shared.by_source[path.remote]

    def _forget_udp(self, transport: Attached) -> None:
        for shared in self._sockets.values():
            for source in [s for s, owner in shared.by_source.items() if owner is transport]:
                del shared.by_source[source]

    def _open_udp(self, host: str) -> None:
        if any(local[0] == host for local in self._sockets):
            return
        shared = _SharedSocket(self, bind_udp(host, self.udp_port))
        self.udp_port = shared.udp.local[1]
        self._sockets[shared.udp.local] = shared

    def _open_tcp(self, host: str) -> None:
        if any(door.local[0] == host for door in self._doors):
            return
        door = TcpDoor(host, self.tcp_port, on_first_frames=self._flow_began)
        self.tcp_port = door.local[1]
        self._doors.append(door)


class _SharedSocket:
    """One UDP socket and whose addresses it knows."""

    __slots__ = ("_owner", "by_source", "udp")

    def __init__(self, owner: SharedPort, sock: socket.socket) -> None:
        self._owner = owner
        self.by_source: dict[Address, Attached] = {}
        self.udp = UdpSocket(sock, self._received)

    def _received(self, data: bytes, source: Address) -> None:
        if data and data[0] > 3:
            transport = self.by_source.get(source)
            if transport is not None:
                transport.on_data(data)
                return
        elif data:
            self._owner.stun_received(self, data, source)
            return
        self._owner.dropped_datagrams += 1

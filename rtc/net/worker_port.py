"""The media port as a worker process has it: a share of it, by sockets of its own for each known source."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from rtc.ice.bounds import IceBounds
from rtc.ice.credentials import IceCredentials
from rtc.ice.path import Address, Path
from rtc.net.announced import Announced, Listening
from rtc.net.connected import ConnectedSockets
from rtc.net.handover import HandoverReceiver, Kind
from rtc.net.network import Attached, Route
from rtc.net.server_port import SERVER_BOUNDS, ServerPort
from rtc.net.tcp_flow import BACKLOG_BYTES, FrameReader
from rtc.stun import request_ufrag


class WorkerPort(ServerPort):
    """Serves the transports of one worker; the port itself is the owner's (`rtc.net.doorman`)."""

    def __init__(
        self,
        *,
        tag: str,
        handover: socket.socket,
        udp_sockets: Sequence[socket.socket],
        tcp_port: int,
        bounds: IceBounds = SERVER_BOUNDS,
        tcp_queue_bytes: int = BACKLOG_BYTES,
    ) -> None:
        """`udp_sockets`: the owner's, by index, to send with what has no connected socket yet."""
        super().__init__(bounds=bounds, tcp_queue_bytes=tcp_queue_bytes)
        self._tag = tag
        self._udp = list(udp_sockets)
        self._locals: list[Address] = [s.getsockname()[:2] for s in self._udp]
        self.udp_port = self._locals[0][1] if self._locals else 0
        self.tcp_port = tcp_port
        self._handover = HandoverReceiver(handover, self._handed_over)
        self._connected = ConnectedSockets()
        self._by_path: dict[Path, tuple[Attached, socket.socket | None]] = {}
        """The socket is missing where none could be had: such a path goes through the owner's."""
        self.unsendable = 0
        self.refused_flows = 0

    def open(
        self,
        announced: Sequence[Announced],
        *,
        udp_port: int,
        tcp_port: int,
        listening: Sequence[Listening] = (),
    ) -> None:
        """The owner has bound everything; only candidates are to be known."""
        self.announce(announced)

    def close(self) -> None:
        """Transports must have been closed before."""
        self._handover.close()
        self._connected.close()
        for sock in self._udp:
            sock.close()

    def new_credentials(self) -> IceCredentials:
        return IceCredentials.generate(self._tag)

    # internals

    def _send_udp(self, path: Path, datagram: bytes, transport: Attached) -> None:
        try:
            bound = self._by_path.get(path)
            if bound is not None and bound[1] is not None:
                bound[1].send(datagram)
                return
            self._remember_check(datagram, transport)
            self._udp[self._locals.index(path.local)].sendto(datagram, path.remote)
        except (OSError, ValueError):
            self.unsendable += 1

    def _route_udp(self, path: Path) -> Route | None:
        bound = self._by_path.get(path)
        if bound is not None and bound[1] is not None:
            return Route(bound[1].send, None)
        if path.local not in self._locals:
            return None
        return Route(self._udp[self._locals.index(path.local)].sendto, path.remote)

    def _bind_udp(self, path: Path, transport: Attached) -> None:
        bound = self._by_path.get(path)
        if bound is not None and bound[0] is transport:
            return
        self._unbind(path)
        sock: socket.socket | None = None
        with contextlib.suppress(OSError):  # no descriptors left: slower, but it works
            sock = self._connected.connect(
                path.local, path.remote, lambda data: self._received(path, data)
            )
        self._by_path[path] = transport, sock

    def _release_udp(self, path: Path, transport: Attached) -> None:
        bound = self._by_path.get(path)
        if bound is not None and bound[0] is transport:
            self._unbind(path)

    def _forget_udp(self, transport: Attached) -> None:
        for path in [p for p, bound in self._by_path.items() if bound[0] is transport]:
            self._unbind(path)

    def _unbind(self, path: Path) -> None:
        bound = self._by_path.pop(path, None)
        if bound is not None and bound[1] is not None:
            self._connected.disconnect(bound[1])

    def _handed_over(
        self, kind: Kind, index: int, source: Address, data: bytes, flow: socket.socket | None
    ) -> None:
        if flow is not None:
            self._flow_handed_over(flow, source, data)
        elif kind == "udp" and data:  # a TCP flow without descriptor: none was free here
            self._received(Path("udp", self._locals[index], source), data)

    def _received(self, path: Path, data: bytes) -> None:
        bound = self._by_path.get(path)
        if data[0] > 3:
            if bound is not None:
                bound[0].on_data(data)
            else:
                self.dropped_datagrams += 1
            return
        ufrag = request_ufrag(data)
        if ufrag is not None:
            transport = self._by_ufrag.get(ufrag)
        else:
            transport = self._asker(data) or (bound[0] if bound else None)
        if transport is None:
            self.dropped_datagrams += 1
        else:
            transport.stun_received(data, path)

    def _flow_handed_over(self, sock: socket.socket, source: Address, begun: bytes) -> None:
        sock.setblocking(False)
        reader = FrameReader()
        if not self._flow_began(sock, reader.push(begun), reader, source):
            self.refused_flows += 1
            sock.close()

"""One UDP socket for all peers of a server.

A datagram finds its peer by the address that STUN proved (RFC 8445 section 7.3); a STUN request by the
local ufrag in its USERNAME, and only after its MESSAGE-INTEGRITY held is the address bound to that
peer; a STUN response by its transaction id.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

import aioice
import aioice.ice
from aioice import stun

from rtc.errors import PortTaken
from rtc.ice import IceCredentials, IceTransport, MuxedConnection

Address = tuple[str, int]
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024


class UdpMux(asyncio.DatagramProtocol):
    """Owns the socket; hands out transports that share it."""

    def __init__(self) -> None:
        self._socket: asyncio.DatagramTransport | None = None
        self._by_ufrag: dict[str, _MuxedProtocol] = {}
        self._by_address: dict[Address, _MuxedProtocol] = {}
        self._by_transaction: dict[bytes, _MuxedProtocol] = {}
        self._candidates: list[aioice.Candidate] = []
        self.port = 0
        """The bound port, once open."""
        self.dropped_datagrams = 0
        """Datagrams that belong to nobody."""

    async def open(
        self, *, bind: str, port: int, advertised: Sequence[tuple[str, int]] | None = None
    ) -> None:
        """Bind the socket and remember which (address, port) pairs peers are told.

        `port` 0 takes a free one; `advertised` None tells just what was bound.

        Raises:
            PortTaken: somebody else has the port, or it cannot be bound.
        """
        sock = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
            sock.setblocking(False)
            sock.bind((bind, port))
        except OSError as error:
            sock.close()
            raise PortTaken(f"UDP {bind}:{port} cannot be bound: {error.strerror}") from error
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._socket, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        self._candidates = [
            _host_candidate(host, announced_port, preference=65535 - index)
            for index, (host, announced_port) in enumerate(advertised or [(bind, self.port)])
        ]

    def create_transport(
        self, *, controlling: bool, on_data: Callable[[bytes], None], on_lost: Callable[[], None]
    ) -> IceTransport:
        """A transport over the shared socket. Close it to forget its peer."""
        connection = MuxedConnection(
            controlling=controlling,
            credentials=IceCredentials.generate(),
            on_data=on_data,
            candidates=self._candidates,
            protocol_factory=self._register,
        )
        return IceTransport(connection, on_lost=on_lost)

    def close(self) -> None:
        """Close the socket; transports must have been closed before."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def peers(self) -> int:
        """How many transports share the socket now."""
        return len(self._by_ufrag)

    # asyncio.DatagramProtocol

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        address: Address = (addr[0], addr[1])
        if data and data[0] > 3:
            protocol = self._by_address.get(address)
            if protocol is None:
                self.dropped_datagrams += 1
            else:
                protocol.connection.data_received(data, 1)
        else:
            self._stun_received(data, address)

    def error_received(self, exc: Exception) -> None:
        """ICMP errors say nothing about which peer is gone; consent checks find out."""

    # for the protocols

    def sendto(self, data: bytes, address: Address) -> None:
        if self._socket is not None:
            self._socket.sendto(data, address)

    def expect_response(self, transaction_id: bytes, protocol: _MuxedProtocol) -> None:
        self._by_transaction[transaction_id] = protocol

    def forget_response(self, transaction_id: bytes) -> None:
        self._by_transaction.pop(transaction_id, None)

    def unregister(self, protocol: _MuxedProtocol) -> None:
        self._by_ufrag.pop(protocol.connection.local_username, None)
        for address in [a for a, owner in self._by_address.items() if owner is protocol]:
            del self._by_address[address]

    def _register(self, connection: MuxedConnection) -> _MuxedProtocol:
        protocol = _MuxedProtocol(connection, self)
        # Pairs need one local candidate; the socket is the same behind all of them.
        protocol.local_candidate = self._candidates[0]
        protocol.connection_made(_SharedTransport(self, protocol))
        self._by_ufrag[connection.local_username] = protocol
        return protocol

    def _stun_received(self, data: bytes, address: Address) -> None:
        try:
            message = stun.parse_message(data)
        except ValueError:
            self.dropped_datagrams += 1
            return
        protocol: _MuxedProtocol | None
        if message.message_class == stun.Class.REQUEST:
            username = str(message.attributes.get("USERNAME", ""))
            protocol = self._by_ufrag.get(username.partition(":")[0])
            if protocol is not None and message.check_message_integrity(
                protocol.connection.local_password.encode()
            ):
                self._by_address[address] = protocol
        else:
            protocol = self._by_transaction.get(message.transaction_id)
        if protocol is None:
            self.dropped_datagrams += 1
            return
        protocol.datagram_received(data, address)


class _MuxedProtocol(aioice.ice.StunProtocol):
    """The STUN endpoint of one peer on the shared socket."""

    def __init__(self, connection: MuxedConnection, mux: UdpMux) -> None:
        super().__init__(connection)
        self.connection = connection
        self._mux = mux

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        self._mux.expect_response(request.transaction_id, self)
        try:
            return await super().request(request, addr, integrity_key, retransmissions)
        finally:
            self._mux.forget_response(request.transaction_id)


class _SharedTransport(asyncio.DatagramTransport):
    """What a peer's STUN endpoint takes for its socket."""

    def __init__(self, mux: UdpMux, protocol: _MuxedProtocol) -> None:
        super().__init__()
        self._mux = mux
        self._protocol = protocol
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._mux.sendto(data, addr)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._mux.unregister(self._protocol)
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.close()


def _host_candidate(host: str, port: int, *, preference: int) -> aioice.Candidate:
    return aioice.Candidate(
        foundation=aioice.candidate.candidate_foundation("host", "udp", host),
        component=1,
        transport="udp",
        priority=aioice.candidate.candidate_priority(1, "host", preference),
        host=host,
        port=port,
        type="host",
    )

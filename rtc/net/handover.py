"""What the process that owns the media port hands to its workers: first datagrams, and TCP flows.

One sequenced-packet socket for each worker; a TCP flow's descriptor travels beside its message.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Literal

from rtc.ice.path import Address

Kind = Literal["udp", "tcp"]
_HEAD = struct.Struct("!BBHB")
_KINDS: tuple[Kind, ...] = ("udp", "tcp")
_MAX_MESSAGE_BYTES = 16 * 1024
_BURST = 64
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024


def handover_pair() -> tuple[socket.socket, socket.socket]:
    """(the owner's end, the worker's end), both non-blocking."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    for end in (ours, theirs):
        end.setblocking(False)
    return ours, theirs


class HandoverSender:
    """The owner's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.dropped = 0
        """Messages that the worker was too slow for, or did not live for."""

    def datagram(self, index: int, source: Address, datagram: bytes) -> None:
        """What came to UDP socket number `index` is this worker's."""
        try:
            self._socket.send(_head(0, index, source) + datagram)
        except OSError:
            self.dropped += 1

    def flow(self, index: int, source: Address, begun: bytes, sock: socket.socket) -> bool:
        """An accepted connection is this worker's; `begun` is what was read of it. False: it is not taken."""
        try:
            socket.send_fds(self._socket, [_head(1, index, source) + begun], [sock.fileno()])
        except OSError:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        self._socket.close()


class HandoverReceiver:
    """The worker's end. `on_message(kind, index, source, data, socket)`: the socket is there for TCP."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Kind, int, Address, bytes, socket.socket | None], None],
    ) -> None:
        self._socket = sock
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """Idempotent."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(_BURST):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._socket, _MAX_MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                message, descriptors = b"", []
            if not message:
                self.close()  # the owner is gone; so will we be, by the control link
                return
            flow = socket.socket(fileno=descriptors[0]) if descriptors else None
            kind, index, port, size = _HEAD.unpack_from(message)
            begin = _HEAD.size + size
            host = str(ipaddress.ip_address(message[_HEAD.size : begin]))
            self._on_message(_KINDS[kind], index, (host, port), message[begin:], flow)


def _head(kind: int, index: int, source: Address) -> bytes:
    address = ipaddress.ip_address(source[0]).packed
    return _HEAD.pack(kind, index, source[1], len(address)) + address

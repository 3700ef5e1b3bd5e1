"""A worker's connected UDP sockets: one for each authenticated source, all on the media port.

The kernel finds a connected socket by its four-tuple before it looks at the owner's unconnected one. One
epoll object for all of them costs the loop one callback, however many are readable.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

from rtc.ice.path import Address
from rtc.net.udp_socket import SOCKET_BUFFER_BYTES
from rtc.srtp import MAX_PACKET_BYTES

_READY = 256


class _Connected:
    __slots__ = ("on_datagram", "remote", "socket")

    def __init__(
        self, sock: socket.socket, remote: Address, on_datagram: Callable[[bytes], None]
    ) -> None:
        self.socket = sock
        self.remote = remote
        self.on_datagram = on_datagram


class ConnectedSockets:
    """Opens, reads and closes them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._open: dict[int, _Connected] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._readable)
        self.misdelivered = 0
        """Datagrams of others that came between bind and connect; dropped, their senders repeat them."""

    def __len__(self) -> int:
        return len(self._open)

    def connect(
        self, local: Address, remote: Address, on_datagram: Callable[[bytes], None]
    ) -> socket.socket:
        """A socket for what goes between `local` and `remote`.

        Raises:
            OSError: no descriptors left, or the address is not reachable.
        """
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
            sock.bind(local)
            sock.connect(remote)
        except OSError:
            sock.close()
            raise
        self._open[sock.fileno()] = _Connected(sock, remote, on_datagram)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return sock

    def disconnect(self, sock: socket.socket) -> None:
        """Close one; idempotent."""
        descriptor = sock.fileno()
        if self._open.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            sock.close()

    def close(self) -> None:
        """Close all; idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        for connected in self._open.values():
            connected.socket.close()
        self._open.clear()

    def _readable(self) -> None:
        for descriptor, _ in self._epoll.poll(0, _READY):
            connected = self._open.get(descriptor)
            if connected is not None:
                self._read(connected)

    def _read(self, connected: _Connected) -> None:
        """One datagram: when there are more, the next round finds the socket readable again."""
        sock, remote = connected.socket, connected.remote
        try:
            data, source = sock.recvfrom(MAX_PACKET_BYTES)
        except OSError:
            return  # nothing there, or an ICMP error; consent finds out who is gone
        if source[1] != remote[1] or source[0] != remote[0]:
            self.misdelivered += 1
        elif data:
            connected.on_datagram(data)

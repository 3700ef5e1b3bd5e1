"""One bound UDP socket, read in bursts without a queue or a task."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from rtc.errors import PortTaken
from rtc.ice.path import Address
from rtc.srtp import MAX_PACKET_BYTES

SOCKET_BUFFER_BYTES = 16 * 1024 * 1024
"""Asked for in both directions; the kernel gives what net.core.{r,w}mem_max allow."""
_BURST = 64
"""Datagrams read in one go before other callbacks get their turn."""
_SINGLES = 15
"""Where a wake-up found one datagram alone, so many further ones read one each and do not look for a second:
to find nothing costs a system call and an exception, and if there is one, the loop comes back at once."""


class UdpSocket:
    """Hands each datagram to `on_datagram(data, source)` in the loop's read callback."""

    def __init__(self, sock: socket.socket, on_datagram: Callable[[bytes, Address], None]) -> None:
        """Takes over `sock`: bound and non-blocking."""
        self.socket = sock
        name = sock.getsockname()
        self.local: Address = (name[0], name[1])
        self.sendto = sock.sendto
        """The bare system call, for the fan-out: raises OSError."""
        self.unsendable = 0
        """Datagrams that the kernel did not take: buffer full, or no way there."""
        self._on_datagram = on_datagram
        self._singles = 0
        """Wake-ups that read one datagram, from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        return self.socket.fileno() < 0

    def send(self, data: bytes, address: Address) -> None:
        """Send, or drop and count as a network would."""
        try:
            self.socket.sendto(data, address)
        except OSError:
            self.unsendable += 1

    def close(self) -> None:
        """Idempotent."""
        if not self.closed:
            self._loop.remove_reader(self.socket.fileno())
            self.socket.close()

    def _readable(self) -> None:
        receive, deliver = self.socket.recvfrom, self._on_datagram
        burst = _BURST
        if self._singles:
            self._singles -= 1
            burst = 1
        for number in range(burst):
            try:
                data, source = receive(MAX_PACKET_BYTES)
            except BlockingIOError:
                if number == 1:
                    self._singles = _SINGLES
                return
            except OSError:
                if self.closed:
                    return
                # An ICMP error of some earlier datagram; consent finds out who is gone. libuv has stopped to
                # poll for it.
                self._loop.remove_reader(self.socket.fileno())
                self._loop.add_reader(self.socket.fileno(), self._readable)
                continue
            deliver(data, (source[0], source[1]))
            if self.closed:
                return


def bind_udp(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking socket with large buffers; `port` 0 takes a free one.

    Raises:
        PortTaken: somebody else has the port, or the address is not ours.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise PortTaken(f"UDP {host}:{port} cannot be bound: {error.strerror}") from error
    return sock

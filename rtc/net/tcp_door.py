"""The TCP listener of a server: waits for each connection's first frame, which says whose it is."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable

from rtc.errors import PortTaken
from rtc.ice.path import Address
from rtc.net.tcp_flow import FrameReader

FIRST_FRAME_TIMEOUT_S = 30.0
"""As the original waits for the first binding (rtcd.md 3.11)."""
MAX_WAITING = 512
"""Connections that have said nothing yet; when one more comes, the oldest is dropped."""
_ACCEPT_BURST = 32
_FIRST_READ_BYTES = 4096
_PAUSE_S = 1.0

FirstFrames = Callable[[socket.socket, list[bytes], FrameReader, Address], bool]
"""(socket, first datagrams, what follows them, remote): True when the socket was taken over."""


class _Waiting:
    __slots__ = ("reader", "remote", "socket", "timer")

    def __init__(self, sock: socket.socket, remote: Address, timer: asyncio.TimerHandle) -> None:
        self.socket = sock
        self.remote = remote
        self.timer = timer
        self.reader = FrameReader()


class TcpDoor:
    """Accepts until `close`."""

    def __init__(self, host: str, port: int, *, on_first_frames: FirstFrames) -> None:
        """`port` 0 takes a free one.

        Raises:
            PortTaken: somebody else has the port, or the address is not ours.
        """
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._socket.family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setblocking(False)
            self._socket.bind((host, port))
            self._socket.listen(1024)
        except OSError as error:
            self._socket.close()
            raise PortTaken(f"TCP {host}:{port} cannot be bound: {error.strerror}") from error
        name = self._socket.getsockname()
        self.local: Address = (name[0], name[1])
        self.refused = 0
        """Connections that ended before they said whose they are, or lied."""
        self._on_first_frames = on_first_frames
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._acceptable)

    @property
    def waiting(self) -> int:
        """Connections that have not said yet whose they are."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop accepting and drop who still waits; idempotent."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for descriptor in list(self._waiting):
            self._refuse(descriptor)

    def _acceptable(self) -> None:
        for _ in range(_ACCEPT_BURST):
            try:
                sock, name = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it went away while it waited
            except OSError:
                # No descriptors left, say: the listener stays readable, so look again only later.
                self._loop.remove_reader(self._socket.fileno())
                self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                return
            sock.setblocking(False)
            while len(self._waiting) >= MAX_WAITING:
                self._refuse(next(iter(self._waiting)))
            descriptor = sock.fileno()
            timer = self._loop.call_later(FIRST_FRAME_TIMEOUT_S, self._refuse, descriptor)
            self._waiting[descriptor] = _Waiting(sock, (name[0], name[1]), timer)
            self._loop.add_reader(descriptor, self._readable, descriptor)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket.fileno(), self._acceptable)

    def _readable(self, descriptor: int) -> None:
        waiting = self._waiting[descriptor]
        try:
            data = waiting.socket.recv(_FIRST_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            frames = waiting.reader.push(data) if data else None
        except ValueError:
            frames = None
        if frames is None:
            self._refuse(descriptor)
        elif frames:
            self._forget(descriptor)
            if not self._on_first_frames(waiting.socket, frames, waiting.reader, waiting.remote):
                self.refused += 1
                waiting.socket.close()

    def _refuse(self, descriptor: int) -> None:
        self.refused += 1
        self._forget(descriptor).socket.close()

    def _forget(self, descriptor: int) -> _Waiting:
        waiting = self._waiting.pop(descriptor)
        waiting.timer.cancel()
        self._loop.remove_reader(descriptor)
        return waiting

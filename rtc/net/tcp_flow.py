"""One TCP flow of ICE: datagrams framed by their length (RFC 4571, RFC 6544 section 3)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from rtc.srtp import MAX_PACKET_BYTES

BACKLOG_BYTES = 256 * 1024
"""What may wait for a slow reader: a second and a half of screen. Beyond, packets are dropped as on a
full link, because late media is worth nothing and memory is."""
_READ_BYTES = 64 * 1024


class FrameReader:
    """Cuts a byte stream into frames. Sans-IO."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def rest(self) -> bytes:
        """The start of a frame that is not complete."""
        return self._buffer

    def push(self, data: bytes) -> list[bytes]:
        """The frames that are complete now.

        Raises:
            ValueError: a frame is longer than any packet of ours: this is not ICE-TCP.
        """
        buffer = self._buffer + data if self._buffer else data
        frames: list[bytes] = []
        position, total = 0, len(buffer)
        while total - position >= 2:
            size = buffer[position] << 8 | buffer[position + 1]
            if size > MAX_PACKET_BYTES:
                raise ValueError(f"a frame of {size} bytes, wanted at most {MAX_PACKET_BYTES}")
            end = position + 2 + size
            if end > total:
                break
            frames.append(buffer[position + 2 : end])
            position = end
        self._buffer = buffer[position:]
        return frames


class TcpFlow:
    """`on_frame(datagram)` for each frame, `on_closed()` once when the other side or an error ends it."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        reader: FrameReader,
        on_frame: Callable[[bytes], None],
        on_closed: Callable[[], None],
        backlog_bytes: int = BACKLOG_BYTES,
    ) -> None:
        """Takes over `sock`: connected and non-blocking. `reader` may hold the start of a frame.

        `backlog_bytes`: what may wait besides what the kernel has taken.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._reader = reader
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._backlog_limit_bytes = backlog_bytes
        self.dropped = 0
        """Datagrams that found the backlog full."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def send(self, data: bytes | memoryview) -> None:
        """Send one datagram, or drop and count it when the other side does not read."""
        frame = len(data).to_bytes(2, "big") + data
        if self.closed:
            return
        if self._backlog:
            if self._backlog_bytes + len(frame) > self._backlog_limit_bytes:
                self.dropped += 1
                return
            self._keep(frame)
            return
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost()
            return
        if sent < len(frame):
            self._keep(frame[sent:])
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def close(self) -> None:
        """Close without telling; idempotent."""
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._backlog.clear()

    def _keep(self, frame: bytes) -> None:
        self._backlog.append(frame)
        self._backlog_bytes += len(frame)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        try:
            frames = self._reader.push(data)
        except ValueError:
            self._lost()
            return
        for frame in frames:
            if self.closed:
                return
            self._on_frame(frame)

    def _writable(self) -> None:
        while self._backlog:
            frame = self._backlog[0]
            try:
                sent = self._socket.send(frame)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._backlog_bytes -= sent
            if sent < len(frame):
                self._backlog[0] = frame[sent:]
                return
            self._backlog.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _lost(self) -> None:
        if not self.closed:
            self.close()
            self._loop.call_soon(self._on_closed)

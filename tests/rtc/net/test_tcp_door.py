"""The TCP listener: whose is a connection, and what of those that never say."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator

import pytest

from rtc.errors import PortTaken
from rtc.ice.path import Address
from rtc.net.tcp_door import TcpDoor
from rtc.net.tcp_flow import FrameReader

pytestmark = pytest.mark.usefixtures("nothing_left")


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


class Owner:
    """Takes connections, or does not."""

    def __init__(self) -> None:
        self.takes = True
        self.taken: list[tuple[socket.socket, list[bytes], bytes, Address]] = []
        self.door = TcpDoor("127.0.0.1", 0, on_first_frames=self._first_frames)

    def _first_frames(
        self, sock: socket.socket, frames: list[bytes], reader: FrameReader, remote: Address
    ) -> bool:
        if self.takes:
            self.taken.append((sock, frames, reader.rest, remote))
        return self.takes

    def close(self) -> None:
        self.door.close()
        self.door.close()
        for sock, *_ in self.taken:
            sock.close()


@pytest.fixture
async def owner(nothing_left: None) -> AsyncIterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


async def dial(owner: Owner) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, owner.door.local)
    return sock


async def hung_up(sock: socket.socket) -> bool:
    async with asyncio.timeout(25):
        try:
            return await asyncio.get_running_loop().sock_recv(sock, 100) == b""
        except ConnectionResetError:
            return True


async def test_the_first_frame_may_come_in_pieces(owner: Owner, until) -> None:
    with await dial(owner) as sock:
        for byte in framed(b"hello"):
            sock.send(bytes([byte]))
            await asyncio.sleep(0.001)
        await until(lambda: owner.taken)
        [(_, frames, rest, remote)] = owner.taken
        assert (frames, rest, remote) == ([b"hello"], b"", sock.getsockname())
        assert owner.door.waiting == 0


async def test_what_follows_the_first_frame_is_handed_on(owner: Owner, until) -> None:
    with await dial(owner) as sock:
        sock.send(framed(b"one", b"two") + b"\x00\x09half")
        await until(lambda: owner.taken)
        assert owner.taken[0][1:3] == ([b"one", b"two"], b"\x00\x09half")


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(100), b"\xff" * 5]
)
async def test_junk_is_shown_the_door(owner: Owner, said: bytes) -> None:
    with await dial(owner) as sock:
        sock.send(said)
        assert await hung_up(sock)
    assert (owner.door.waiting, owner.door.refused) == (0, 1)


async def test_whom_nobody_knows_is_hung_up_on(owner: Owner) -> None:
    owner.takes = False
    with await dial(owner) as sock:
        sock.send(framed(b"who am I"))
        assert await hung_up(sock)
    assert owner.door.refused == 1


async def test_who_leaves_without_a_word_is_forgotten(owner: Owner, until) -> None:
    sock = await dial(owner)
    await until(lambda: owner.door.waiting == 1)
    sock.close()
    await until(lambda: owner.door.waiting == 0)
    assert owner.door.refused == 1


async def test_silence_times_out(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtc.net.tcp_door.FIRST_FRAME_TIMEOUT_S", 0.05)
    with await dial(owner) as sock:
        sock.send(b"\x00")  # a beginning is not enough
        assert await hung_up(sock)
    assert owner.door.waiting == 0


async def test_of_many_who_wait_the_oldest_goes_and_who_speaks_is_served(
    owner: Owner, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtc.net.tcp_door.MAX_WAITING", 5)
    silent = [await dial(owner) for _ in range(8)]
    await until(lambda: owner.door.refused == 3)
    assert owner.door.waiting == 5
    for sock in silent[:3]:
        assert await hung_up(sock)
    silent[3].send(framed(b"still here"))
    await until(lambda: owner.taken)
    for sock in silent:
        sock.close()


async def test_without_descriptors_it_looks_again_later(
    owner: Owner, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtc.net.tcp_door._PAUSE_S", 0.05)
    listener = owner.door._socket
    looked_s: list[float] = []

    class Exhausted:
        def accept(self) -> None:
            looked_s.append(time.monotonic())
            raise OSError(errno.EMFILE, "Too many open files")

        def fileno(self) -> int:
            return listener.fileno()

        def close(self) -> None:
            listener.close()

    owner.door._socket = Exhausted()
    with await dial(owner) as sock:
        await until(lambda: len(looked_s) == 2)
        assert looked_s[1] - looked_s[0] >= 0.05  # no busy loop though the listener stays readable
        owner.door._socket = listener
        sock.send(framed(b"hello"))
        await until(lambda: owner.taken)


async def test_a_connection_that_is_gone_again_stops_nobody(
    owner: Owner, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtc.net.tcp_door._PAUSE_S", 3600)  # of those who really wait
    listener = owner.door._socket
    aborted = iter([True])

    class Aborting:
        def accept(self) -> tuple[socket.socket, Address]:
            if next(aborted, False):
                raise ConnectionAbortedError(errno.ECONNABORTED, "gone")
            return listener.accept()

        def fileno(self) -> int:
            return listener.fileno()

        def close(self) -> None:
            listener.close()

    owner.door._socket = Aborting()
    with await dial(owner) as sock:
        sock.send(framed(b"hello"))
        await until(lambda: owner.taken)


async def test_close_hangs_up_on_those_who_wait(until) -> None:
    owner = Owner()
    sock = await dial(owner)
    await until(lambda: owner.door.waiting == 1)
    owner.close()
    assert await hung_up(sock)
    sock.close()


async def test_a_taken_port_is_named(owner: Owner) -> None:
    port = owner.door.local[1]
    with pytest.raises(PortTaken, match=rf"TCP 127\.0\.0\.1:{port} cannot be bound"):
        TcpDoor("127.0.0.1", port, on_first_frames=lambda *_: False)

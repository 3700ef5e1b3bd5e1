"""What tests of sockets share."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from rtc.ice.path import Path


@dataclass
class Recorded:
    """A transport that keeps what a network tells it."""

    stun: list[tuple[bytes, Path]] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    opened: list[Path] = field(default_factory=list)
    lost: list[tuple[Path, str]] = field(default_factory=list)

    def on_data(self, datagram: bytes) -> None:
        self.data.append(datagram)

    def stun_received(self, datagram: bytes, path: Path) -> None:
        self.stun.append((datagram, path))

    def flow_opened(self, path: Path) -> None:
        self.opened.append(path)

    def flow_lost(self, path: Path, reason: str = "closed") -> None:
        self.lost.append((path, reason))


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Afterwards there are as many descriptors and tasks as before."""
    tasks, descriptors = len(asyncio.all_tasks()), _descriptors()
    yield
    async with asyncio.timeout(25):
        while len(asyncio.all_tasks()) > tasks or _descriptors() > descriptors:
            gc.collect()
            await asyncio.sleep(0.01)


@pytest.fixture
def recorded() -> Callable[[], Recorded]:
    return Recorded


@pytest.fixture
def until() -> Callable[..., object]:
    """Wait until something holds; five seconds at most."""

    async def wait(holds: Callable[[], object]) -> None:
        async with asyncio.timeout(25):
            while not holds():
                await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def tcp_pair() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Two ends of a TCP connection, non-blocking."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
        for end in (near, far):
            end.setblocking(False)
            made.append(end)
        return near, far

    yield make
    for end in made:
        end.close()


@pytest.fixture
def udp_client() -> Iterator[Callable[[], socket.socket]]:
    """A UDP socket on loopback."""
    made: list[socket.socket] = []

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(2)
        made.append(sock)
        return sock

    yield make
    for sock in made:
        sock.close()

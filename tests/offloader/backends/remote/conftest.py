"""A backend behind a real HTTP door, and the client that speaks to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from offloader.backends.base import Backend
from offloader.backends.remote.client import RemoteBackend
from offloader.backends.remote.door import backend_router
from offloader.backends.remote.wire import WorkerCard
from offloader.http_server import HttpServer
from offloader.models import Workload
from offloader.settings import TlsSettings
from offloader.store.secret_key import Cipher
from offloader.worker.door import door_app

CIPHER = Cipher("k" * 32)
CARD = WorkerCard(
    name="w1",
    url="http://w1:4546",
    version="1",
    labels=("gpu",),
    slots=3,
    recording=1,
    transcribing=2,
    transcribe_slots=1,
    draining=False,
    free_disk_bytes=None,
    usable="",
)


class OpenDoor:
    """Serves a backend until it is closed."""

    def __init__(self, backend: Backend, tls: TlsSettings | None = None) -> None:
        self.closing = asyncio.Event()
        self.lowered: list[Workload] = []
        self.launching_for_looks = 0
        app = door_app(
            cipher=CIPHER,
            card=lambda: CARD,
            routers=[
                backend_router(
                    backend,
                    cipher=CIPHER,
                    closing=self.closing,
                    lowered=self.lowered.append,
                    launching=self._launching,
                )
            ],
        )
        self._server = HttpServer(app, tls=tls)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    def client(
        self, key_text: str = "k" * 32, trust: ssl.SSLContext | None = None
    ) -> RemoteBackend:
        return RemoteBackend(self.url, cipher=Cipher(key_text), tls=trust)

    def _launching(self) -> bool:
        """For as many looks as was said."""
        self.launching_for_looks -= bool(self.launching_for_looks)
        return bool(self.launching_for_looks)

    async def close(self) -> None:
        self.closing.set()
        self._server.should_exit = True
        await self._task
        self._socket.close()


@pytest.fixture
async def behind_a_door() -> AsyncIterator[Callable[..., Awaitable[tuple[Any, OpenDoor]]]]:
    """Puts backends behind doors; gives the client and the door."""
    async with AsyncExitStack() as stack:

        async def open_door(
            backend: Backend,
            *,
            key_text: str = "k" * 32,
            tls: TlsSettings | None = None,
            trust: ssl.SSLContext | None = None,
        ) -> tuple[RemoteBackend, OpenDoor]:
            door = OpenDoor(backend, tls)
            stack.push_async_callback(door.close)
            client = door.client(key_text, trust)
            stack.push_async_callback(client.aclose)
            return client, door

        yield open_door

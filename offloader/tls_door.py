"""Where TLS begins: a thread with an event loop of its own, so that no handshake waits for the service's.

The Go client of the plugin gives a handshake one second (calls-plugin.md 6.2). The thread accepts, shakes
hands (OpenSSL computes without Python's lock) and passes plain bytes through a socket pair to the service's
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, cast

from offloader.tls_order import MOST_WAITING, NewestFirst

Address = tuple[str, int]
Adopt = Callable[[socket.socket, Address], Coroutine[Any, Any, None]]
"""Takes over the plain end of a connection, on the service's loop."""

HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 2.0
_JOIN_S: Final = 5.0
_NO_DESCRIPTORS_S: Final = 0.2
_ACCEPTED_AT_ONCE: Final = 32
_SWITCH_S: Final = 0.0005
"""How long a busy thread keeps Python's lock when another one wants it. A handshake lets go of it a dozen
times: with the usual 5 ms each time, a flood of requests to the service would hold up every handshake."""


class TlsDoor:
    """`open` and `aclose` are called on the service's loop."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        *,
        adopt: Adopt,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._sockets = sockets
        self._context = context
        self._adopt = adopt
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._run, name="tls-door", daemon=True)
        self._service: asyncio.AbstractEventLoop | None = None
        self._acceptors: list[asyncio.Task[None]] = []
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        """Connected, and have not said anything yet; oldest first."""
        self._waiting: NewestFirst[socket.socket] = NewestFirst()
        self._somebody_waits = asyncio.Event()
        self._shaking: set[asyncio.Task[None]] = set()
        self._passages: set[_Outside] = set()

    def show(self, context: ssl.SSLContext) -> None:
        """Handshakes that begin from now on use it. In any thread."""
        self._context = context

    async def open(self) -> None:
        """Accept connections. Raises OSError."""
        self._service = asyncio.get_running_loop()
        self._thread.start()
        await self._in_thread(self._listen())

    async def stop_accepting(self) -> None:
        """Connections that are open stay. Idempotent."""
        await self._in_thread(self._stop_listening())

    async def aclose(self) -> None:
        """End every connection and the thread."""
        await self._in_thread(self._stop_listening())
        await self._in_thread(self._end_passages())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, _JOIN_S)

    def connect(self, plain: socket.socket, peer: Address) -> None:
        """Give the plain end of a new connection to the service (called in the thread)."""
        assert self._service is not None
        asyncio.run_coroutine_threadsafe(self._adopt(plain, peer), self._service)

    async def _in_thread(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _run(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _listen(self) -> None:
        for sock in self._sockets:
            sock.setblocking(False)
            self._acceptors.append(self._loop.create_task(self._accept(sock)))
        self._acceptors.append(self._loop.create_task(self._begin_handshakes()))

    async def _accept(self, sock: socket.socket) -> None:
        """Many at once of those who knock: the system's own queue is first come, first served."""
        while True:
            try:
                self._let_in(*await self._loop.sock_accept(sock))
                for _ in range(_ACCEPTED_AT_ONCE - 1):
                    self._let_in(*sock.accept())
                await asyncio.sleep(0)
            except BlockingIOError:
                continue
            except OSError:
                await asyncio.sleep(_NO_DESCRIPTORS_S)

    def _let_in(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)
        if len(self._silent) >= MOST_WAITING:
            self._turn_out(next(iter(self._silent)))
        timer = self._loop.call_later(HANDSHAKE_S, self._turn_out, connection)
        self._silent[connection] = timer
        self._loop.add_reader(connection, self._let_wait, connection, str(address[0]))

    def _turn_out(self, connection: socket.socket) -> None:
        self._heard(connection)
        connection.close()

    def _heard(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        self._silent.pop(connection).cancel()

    def _let_wait(self, connection: socket.socket, address: str) -> None:
        """It has begun to speak, so that the costly part of its handshake comes with the next reading."""
        self._heard(connection)
        if (dropped := self._waiting.add(address, connection)) is not None:
            dropped.close()
        self._somebody_waits.set()

    async def _begin_handshakes(self) -> None:
        """One by one: whoever is connected already is served between two of a thousand handshakes."""
        while True:
            await self._somebody_waits.wait()
            task = self._loop.create_task(self._shake_hands(self._waiting.take()))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)
            if not self._waiting:
                self._somebody_waits.clear()
            await asyncio.sleep(0)

    async def _shake_hands(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Outside(self, self._passages),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError: the client's own affair
            connection.close()

    async def _stop_listening(self) -> None:
        tasks = [*self._acceptors, *self._shaking]
        self._acceptors.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in tuple(self._silent):
            self._turn_out(connection)
        while self._waiting:
            self._waiting.take().close()
        for sock in self._sockets:
            sock.close()

    async def _end_passages(self) -> None:
        for passage in tuple(self._passages):
            passage.abort()
        await asyncio.sleep(0)


class _Outside(asyncio.Protocol):
    """The client's side of a connection, after its handshake."""

    def __init__(self, door: TlsDoor, passages: set[_Outside]) -> None:
        self._door = door
        self._passages = passages
        self._inside = _Inside(self)
        self._early = bytearray()
        self._connecting: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is of no such class
        self._passages.add(self)
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

    def data_received(self, data: bytes) -> None:
        if self._inside.transport is None:
            self._early += data  # what came along with the end of the handshake
        else:
            self._inside.transport.write(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._passages.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._inside.transport is not None:
            self._inside.transport.close()

    def pause_writing(self) -> None:
        if self._inside.transport is not None:
            self._inside.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._inside.transport is not None:
            self._inside.transport.resume_reading()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def _connect(self) -> None:
        assert self.transport is not None
        ours, plain = socket.socketpair()
        for end in (ours, plain):
            end.setblocking(False)
        name = self.transport.get_extra_info("peername") or ("", 0)
        self._door.connect(plain, (str(name[0]), int(name[1])))
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self._inside, sock=ours)
        except OSError:
            ours.close()
            self.abort()
            return
        assert self._inside.transport is not None
        if self._early:
            self._inside.transport.write(bytes(self._early))
        if self.transport.is_closing():
            self._inside.transport.close()
        else:
            self.transport.resume_reading()


class _Inside(asyncio.Protocol):
    """The service's side of a connection: plain bytes."""

    def __init__(self, outside: _Outside) -> None:
        self._outside = outside
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._outside.transport is not None:
            self._outside.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._outside.transport is not None:
            self._outside.transport.close()

    def pause_writing(self) -> None:
        if self._outside.transport is not None:
            self._outside.transport.pause_reading()

    def resume_writing(self) -> None:
        with contextlib.suppress(RuntimeError):  # closing meanwhile
            if self._outside.transport is not None:
                self._outside.transport.resume_reading()

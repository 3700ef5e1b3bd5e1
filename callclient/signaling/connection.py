"""The WebSocket of one session through all its losses (calls-plugin.md 1).

Opens, waits for `hello`, sends in turn, pings, and after a loss comes back under the same session: at once,
then with growing waits, for as long as the server keeps the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import websockets
from websockets.asyncio.client import ClientConnection

from callclient.errors import SignalingFailed
from callclient.signaling import wire
from callclient.signaling.outbox import Outbox
from callclient.signaling.server_clock import ServerClock
from callclient.signaling.wire import WireError, WireEvent, WireReply
from foundation.clock import SystemClock
from foundation.groups import unwrapped
from foundation.logs import get_logger

_HELLO_TIMEOUT_S: Final = 5.0
"""A bad token still upgrades; only the missing `hello` tells (trap 14)."""
_PING_INTERVAL_S: Final = 5.0
_PING_TIMEOUT_S: Final = 10.0
_GOODBYE_TIMEOUT_S: Final = 2.0
_RETRY_STEP_S: Final = 0.5
_RETRY_MAX_S: Final = 2.0
_LOST: Final = (OSError, websockets.WebSocketException, TimeoutError)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and as whom."""

    site_url: str
    """`http(s)://host[:port]`, no trailing slash."""
    auth_token: str = field(repr=False)
    channel_id: str
    ca_file: Path | None
    """Extra CA bundle for wss."""
    reconnect_grace_s: float
    """How long the server keeps a session without its WebSocket (calls-plugin.md 1.5)."""

    @property
    def url(self) -> str:
        return self.site_url.replace("http", "ws", 1) + "/api/v4/websocket"


class SignalingConnection:
    """`run` once, in a task of the owner; the rest may be called at any time on the loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_event: Callable[[WireEvent], Awaitable[None]],
        on_lost: Callable[[], None],
        on_restored: Callable[[], None],
    ) -> None:
        """`on_event` gets every event but `hello`, in order; the next one waits for it."""
        self._endpoint = endpoint
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_restored = on_restored
        self.id = ""
        """The connection's newest id, from its `hello`."""
        self.session_id = ""
        """Set by `keep_session`: from then on a loss is survived."""
        self.clock = ServerClock()
        self._outbox = Outbox(SystemClock())
        self._socket: ClientConnection | None = None
        self._hello = asyncio.Event()
        self._seq = 0
        self._pings: dict[int, int] = {}
        """Sequence number to monotonic sending time, ns; at most one."""
        self._log = get_logger(component="signaling")

    # what the call client uses

    async def until_hello(self) -> None:
        """Wait for the first `hello`: authenticated."""
        await self._hello.wait()

    def keep_session(self) -> str:
        """Make this connection's id the session's; returns it. Call after `until_hello`, before the join."""
        self.session_id = self.id
        return self.session_id

    def control(self, action: str, data: dict[str, Any] | None) -> None:
        """Queue an action. Raises OverflowError, see Outbox."""
        self._outbox.control(lambda: self._send_action(action, data))

    def description(self, packed: bytes) -> None:
        """Queue an `sdp` action with a deflated description."""

        async def send() -> None:
            await self._connected().send(wire.sdp_action(self._next_seq(), packed))

        self._outbox.control(send)

    def caption(self, data: dict[str, Any]) -> None:
        """Queue a caption; old ones give way when too many wait."""
        self._outbox.caption(lambda: self._send_action("caption", data))

    async def say_goodbye(self) -> None:
        """Tell the server at once that the session leaves, if it can be told."""
        with contextlib.suppress(*_LOST, SignalingFailed):
            if self.session_id:
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await self._send_action("leave", None)

    async def run(self) -> NoReturn:
        """Stay connected until cancelled.

        Raises:
            SignalingFailed: no connection or no `hello` at the beginning, or away for longer than the server
                waits.
        """
        with unwrapped(SignalingFailed):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ping_forever(), name="signaling-ping")
                await self._stay_connected()
        raise AssertionError("only an error ends it")

    # staying connected

    async def _stay_connected(self) -> NoReturn:
        lost_at_ns = 0
        attempt = 0
        while True:
            try:
                await self._connect_and_serve()
                reason = "the server closed it"
            except _LOST as error:
                reason = type(error).__name__
            self._log.warning("signaling.closed", reason=reason)
            if self._hello.is_set():  # it had worked: this is a fresh loss
                lost_at_ns, attempt = time.monotonic_ns(), 0
                self._hello.clear()
                if self.session_id:
                    self._on_lost()
            if not self.session_id:
                raise SignalingFailed(f"the WebSocket could not be used: {reason}")
            away_s = (time.monotonic_ns() - lost_at_ns) / 1e9
            if away_s > self._endpoint.reconnect_grace_s:
                raise SignalingFailed(
                    f"the WebSocket was away for more than {self._endpoint.reconnect_grace_s:g} s"
                )
            if attempt:
                await asyncio.sleep(min(_RETRY_STEP_S * attempt, _RETRY_MAX_S))
            attempt += 1

    async def _connect_and_serve(self) -> None:
        endpoint = self._endpoint
        async with websockets.connect(
            endpoint.url,
            additional_headers={"Authorization": f"Bearer {endpoint.auth_token}"},
            ssl=_ssl_context(endpoint) if endpoint.url.startswith("wss") else None,
            max_size=1 << 20,
            open_timeout=_HELLO_TIMEOUT_S,
            close_timeout=2,
            ping_interval=_PING_INTERVAL_S,
            ping_timeout=_PING_TIMEOUT_S,
        ) as socket:
            self._socket = socket
            try:
                if self.session_id:
                    # Before the new hello, or the server may give the session up (section 1.5).
                    await socket.send(self._reconnect_action())
                with unwrapped(*_LOST):
                    async with asyncio.TaskGroup() as tasks:
                        sender = tasks.create_task(self._send_forever(), name="signaling-send")
                        await self._receive_all(socket)
                        sender.cancel()
            finally:
                self._socket = None

    async def _receive_all(self, socket: ClientConnection) -> None:
        async with asyncio.timeout(_HELLO_TIMEOUT_S) as until_hello:
            async for frame in socket:
                await self._frame_received(frame)
                if self._hello.is_set():
                    until_hello.reschedule(None)

    async def _send_forever(self) -> None:
        # Nothing but the reconnect may go out before the hello.
        await self._hello.wait()
        while True:
            send = await self._outbox.next()
            try:
                await send()
            except _LOST:
                # A closed socket refuses before it writes: the message is still to be sent.
                self._outbox.again(send)
                raise

    async def _frame_received(self, frame: str | bytes) -> None:
        try:
            message = wire.parse_frame(frame)
        except WireError as error:
            self._log.warning("frame.refused", reason=str(error))
            return
        if isinstance(message, WireReply):
            self._reply_received(message)
        elif isinstance(message, WireEvent):
            if message.name == "hello" and not message.is_call_event:
                self._hello_received(message)
            else:
                await self._on_event(message)

    def _hello_received(self, event: WireEvent) -> None:
        self.id = event.text("connection_id")
        self._hello.set()
        if self.session_id:
            # Events of the gap are gone; the state is not (trap 12).
            self.control("call_state", {"channelID": self._endpoint.channel_id})
            self._on_restored()

    def _reconnect_action(self) -> str:
        data = {
            "channelID": self._endpoint.channel_id,
            "originalConnID": self.session_id,
            "prevConnID": self.id,
        }
        return wire.call_action("reconnect", self._next_seq(), data)

    # the server's clock

    async def _ping_forever(self) -> NoReturn:
        """The core `ping` tells the server's time; the first few come quickly."""
        waits = [0.0, 0.2, 0.4]
        while True:
            await asyncio.sleep(waits.pop(0) if waits else _PING_INTERVAL_S)
            await self._hello.wait()
            if self._socket is None:
                continue
            seq = self._next_seq()
            self._pings = {seq: time.monotonic_ns()}
            with contextlib.suppress(websockets.WebSocketException):
                await self._socket.send(wire.core_action("ping", seq))

    def _reply_received(self, reply: WireReply) -> None:
        sent_ns = self._pings.pop(reply.seq_reply, None)
        server_time = reply.data.get("server_time")
        if sent_ns is not None and isinstance(server_time, int | float):
            self.clock.measured(int(server_time), sent_ns=sent_ns, received_ns=time.monotonic_ns())

    # helpers

    async def _send_action(self, action: str, data: dict[str, Any] | None) -> None:
        await self._connected().send(wire.call_action(action, self._next_seq(), data))

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            raise ConnectionError("the WebSocket is not connected")
        return self._socket

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


def _ssl_context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if endpoint.ca_file is not None:
        context.load_verify_locations(cafile=endpoint.ca_file)
    return context

"""The WebSocket of one session through all its losses (calls-plugin.md 1).

Opens, waits for `hello`, sends in turn, pings, and after a loss comes back under the same session: at once,
then with growing waits, until the limit. Media goes on meanwhile: it does not need a WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from callclient.errors import NotAuthenticated, SignalingFailed
from callclient.signaling import wire
from callclient.signaling.backoff import Backoff
from callclient.signaling.liveness import PING_INTERVAL_S, Liveness
from callclient.signaling.outbox import Outbox
from callclient.signaling.server_clock import ServerClock
from callclient.signaling.socket import (
    Endpoint,
    OpenSocket,
    Socket,
    SocketLost,
    WebSocketOpener,
)
from callclient.signaling.wire import WireError, WireEvent, WireReply
from foundation.clock import Clock, SystemClock
from foundation.groups import until_one_ends
from foundation.logs import get_logger

_OPEN_TIMEOUT_S: Final = 5.0
_HELLO_TIMEOUT_S: Final = 5.0
"""A bad token still upgrades; only the missing `hello` tells (trap 14)."""
_FIRST_PINGS_S: Final = (0.2, 0.4)
"""The first answers come quickly: what time it is there must be known when the recording starts."""
_GOODBYE_TIMEOUT_S: Final = 2.0
_NO_HELLO: Final = f"no hello within {_HELLO_TIMEOUT_S:g} s"


class SignalingConnection:
    """`run` once, in a task of the owner; the rest may be called at any time on the loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        channel_id: str,
        reconnect_limit_s: float,
        on_event: Callable[[WireEvent], Awaitable[None]],
        on_lost: Callable[[], None],
        on_restored: Callable[[], None],
        open_socket: OpenSocket | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """`on_event` gets every event but `hello`, in order; the next one waits for it.

        `open_socket`, `clock` and `backoff` are the real ones unless a test brings its own.
        """
        self._endpoint = endpoint
        self._channel_id = channel_id
        self._reconnect_limit_s = reconnect_limit_s
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._open_socket = open_socket or WebSocketOpener()
        self._time = clock or SystemClock()
        self._backoff = backoff or Backoff()
        self.id = ""
        """The connection's newest id, from its `hello`."""
        self.session_id = ""
        """Set by `keep_session`: from then on a loss is survived."""
        self.clock = ServerClock()
        self.frames_refused = 0
        """Too large to be sent, or not readable."""
        self._outbox = Outbox(self._time)
        self._socket: Socket | None = None
        self._hello = asyncio.Event()
        self._liveness = Liveness()
        self._seq = 0
        self._pings: dict[int, int] = {}
        """Sequence number to monotonic sending time, ns; at most one."""
        self._log = get_logger(component="signaling")

    # what the call client uses

    async def until_hello(self) -> None:
        """Wait for the first `hello`: authenticated."""
        await self._hello.wait()

    def keep_session(self) -> str:
        """Make this connection's id the session's; returns it. Call when the join was accepted."""
        self.session_id = self.id
        return self.session_id

    @property
    def captions_dropped(self) -> int:
        return self._outbox.captions_dropped

    def control(self, action: str, data: dict[str, Any] | None) -> None:
        """Queue an action. Raises SignalingFailed when far too many wait."""
        self._queue(lambda seq: wire.call_action(action, seq, data))

    def description(self, packed: bytes) -> None:
        """Queue an `sdp` action with a deflated description. Raises SignalingFailed as `control`."""
        self._queue(lambda seq: wire.sdp_action(seq, packed))

    def takes_now(self, packed: bytes) -> bool:
        """Would a deflated description go out at once? Not while away, not in a rush, not when too large."""
        return (
            self._hello.is_set()
            and not self._outbox.congested
            and len(packed) <= wire.MAX_PACKED_SDP_BYTES
        )

    def caption(self, data: dict[str, Any]) -> None:
        """Queue a caption; old ones give way when too many wait."""
        self._outbox.caption(lambda seq: wire.call_action("caption", seq, data))

    def metric(self, data: dict[str, Any]) -> None:
        """Queue a `metric` action; it matters no more than a caption."""
        self._outbox.caption(lambda seq: wire.call_action("metric", seq, data))

    async def say_goodbye(self) -> None:
        """Tell the server at once that the session leaves, if it can be told."""
        with contextlib.suppress(SocketLost, TimeoutError):
            if self.session_id and self._socket is not None:
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await self._socket.send(wire.call_action("leave", self._next_seq(), None))

    async def run(self) -> NoReturn:
        """Stay connected until cancelled.

        Raises:
            NotAuthenticated: no `hello` at the beginning.
            SignalingFailed: no connection at the beginning, lost before `keep_session`, away for longer than
                the limit, or much more to say than the server takes.
        """
        lost_ns = self._time.monotonic_ns()
        while True:
            began_ns = self._time.monotonic_ns()
            reason = await self._serve_once()
            self._log.warning("signaling.closed", reason=reason)
            now_ns = self._time.monotonic_ns()
            if not self.session_id:
                raise self._failure(reason)
            if self._hello.is_set():  # it had worked: this is a fresh loss
                self._hello.clear()
                lost_ns = now_ns
                self._backoff.lived((now_ns - began_ns) / 1e9)
                self._on_lost()
            wait_s = self._backoff.next_s()
            if (now_ns - lost_ns) / 1e9 + wait_s > self._reconnect_limit_s:
                raise SignalingFailed(
                    f"the WebSocket was away for more than {self._reconnect_limit_s:g} s: {reason}"
                )
            await asyncio.sleep(wait_s)

    # one connection

    def _failure(self, reason: str) -> SignalingFailed:
        if self._hello.is_set():
            return SignalingFailed(f"the WebSocket was lost before the join was answered: {reason}")
        if reason == _NO_HELLO:
            return NotAuthenticated(f"the server said {reason}: it does not accept the job's token")
        return SignalingFailed(f"the WebSocket could not be used: {reason}")

    async def _serve_once(self) -> str:
        """From opening to the loss; returns why it was lost."""
        try:
            socket = await self._open_socket(self._endpoint, _OPEN_TIMEOUT_S)
        except SocketLost as error:
            return str(error)
        try:
            if self.session_id:
                # Before the new hello, or the server may give the session up (section 1.5).
                await socket.send(self._reconnect_action())
            self._socket, self._liveness = socket, Liveness()
            await until_one_ends(
                receive=self._receive_forever(socket),
                send=self._send_forever(socket),
                ping=self._keep_alive(socket),
            )
        except SocketLost as error:
            socket.abort()
            return str(error)
        finally:
            self._socket = None
            with contextlib.suppress(SocketLost):
                await socket.close()
        raise AssertionError("only a loss ends it")

    async def _receive_forever(self, socket: Socket) -> NoReturn:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S) as until_hello:
                while True:
                    frame = await socket.receive()
                    self._liveness.heard()
                    await self._frame_received(frame)
                    if self._hello.is_set():
                        until_hello.reschedule(None)
        except TimeoutError:
            raise SocketLost(_NO_HELLO) from None

    async def _send_forever(self, socket: Socket) -> NoReturn:
        # Nothing but the reconnect may go out before the hello.
        await self._hello.wait()
        while True:
            message = await self._outbox.next()
            try:
                frame = message.frame(self._next_seq())
            except WireError as error:
                self.frames_refused += 1
                self._log.error("message.dropped", reason=str(error))
                continue
            try:
                await socket.send(frame)
            except SocketLost:
                # A closed socket refuses before it writes: the message is still to be sent.
                self._outbox.again(message)
                raise

    async def _keep_alive(self, socket: Socket) -> NoReturn:
        """The core `ping` proves that somebody is there, and tells the server's time."""
        await self._hello.wait()
        waits = [] if self.clock.measured_once else list(_FIRST_PINGS_S)
        while True:
            if not self._liveness.tick():
                raise SocketLost("the server has fallen silent")
            seq = self._next_seq()
            self._pings = {seq: self._time.monotonic_ns()}
            with contextlib.suppress(
                TimeoutError
            ):  # nobody reads at the other end: the ticks count on
                async with asyncio.timeout(PING_INTERVAL_S):
                    await socket.send(wire.core_action("ping", seq))
            await asyncio.sleep(waits.pop(0) if waits else PING_INTERVAL_S)

    async def _frame_received(self, frame: str | bytes) -> None:
        try:
            message = wire.parse_frame(frame)
        except WireError as error:
            self.frames_refused += 1
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
            self.control("call_state", {"channelID": self._channel_id})
            self._on_restored()

    def _reply_received(self, reply: WireReply) -> None:
        sent_ns = self._pings.pop(reply.seq_reply, None)
        server_ms = wire.whole_number(reply.data.get("server_time"))
        if sent_ns is not None and server_ms:
            received_ns = self._time.monotonic_ns()
            self.clock.measured(server_ms, sent_ns=sent_ns, received_ns=received_ns)

    # helpers

    def _queue(self, frame: Callable[[int], str | bytes]) -> None:
        try:
            self._outbox.control(frame)
        except OverflowError as error:
            raise SignalingFailed(str(error)) from None

    def _reconnect_action(self) -> str:
        data = {
            "channelID": self._channel_id,
            "originalConnID": self.session_id,
            "prevConnID": self.id,
        }
        return wire.call_action("reconnect", self._next_seq(), data)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

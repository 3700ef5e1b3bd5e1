"""One WebSocket of a client: the plugin drives its sessions through it (rtcd.md 2)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fastapi import WebSocket, WebSocketDisconnect

from foundation.channel import Channel, ChannelClosed
from foundation.clock import Clock
from foundation.identifiers import new_id
from foundation.logs import get_logger
from sfu.drain import Drain
from sfu.flood import FloodLimits, TokenBucket
from sfu.media_port import JoinError, MediaServer, SessionConfig
from sfu.messages import (
    Close,
    Hello,
    Join,
    Leave,
    Message,
    MessageError,
    Reconnect,
    Rtc,
    Vad,
    decode,
    encode,
)
from sfu.metrics import SfuMetrics

SEND_CAPACITY: Final = 5000
WRITE_TIMEOUT_S: Final = 10.0
_COMPLAINTS_PER_S: Final = 10.0
_COMPLAINTS_AT_ONCE: Final = 100.0
_REFUSALS: Final = ("invalid", "flood", "drain", "failed", "calls", "sessions")
"""Of joins. They are told from the start, as 0: a rise from nothing is none to who watches."""


@dataclass(frozen=True, slots=True)
class Control:
    """What all connections share."""

    media: MediaServer
    metrics: SfuMetrics
    drain: Drain
    floods: FloodLimits
    clock: Clock


class PluginConnection:
    """Decodes, checks ownership, hands on; sends from one bounded queue."""

    def __init__(self, socket: WebSocket, client_id: str, control: Control) -> None:
        self._socket = socket
        self._client_id = client_id
        self._control = control
        self._media = control.media
        self._metrics = control.metrics
        self._outgoing: Channel[bytes] = Channel(SEND_CAPACITY)
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._complaints = TokenBucket(
            _COMPLAINTS_PER_S, _COMPLAINTS_AT_ONCE, now_ns=control.clock.monotonic_ns()
        )
        self._log = get_logger(component="control")

    async def serve(self) -> None:
        """Until the socket closes or cannot be written; sessions live on without it (rtcd.md 2.3)."""
        self._send(Hello(self._client_id, new_id()))
        self._metrics.ws_connection_opened(self._client_id)
        for reason in _REFUSALS:
            self._metrics.add("rtcd_ws_joins_refused_total", self._client_id, reason, amount=0)
        try:
            async with asyncio.TaskGroup() as tasks:
                ends = [
                    tasks.create_task(self._read(tasks), name="ws-read"),
                    tasks.create_task(self._write(), name="ws-write"),
                ]
                try:
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._outgoing.close()
                    for task in ends:
                        task.cancel()
        finally:
            self._outgoing.close()
            self._metrics.ws_connection_closed(self._client_id)

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                frame = await self._socket.receive()
            except RuntimeError:
                return
            if frame["type"] == "websocket.disconnect":
                return
            data = frame.get("bytes")
            if data is None:
                self._drop("invalid", "a text frame")
                continue
            try:
                message = decode(data)
            except MessageError as error:
                self._drop("invalid", str(error))
                continue
            try:
                await self._handle(message, tasks)
            except Exception:  # noqa: BLE001  # one session's fault must not cut off all the others
                self._log.exception("ws.message_failed", type=type(message).__name__)

    async def _handle(self, message: Message, tasks: asyncio.TaskGroup) -> None:
        self._metrics.ws_message(self._client_id, type(message).__name__.lower(), "in")
        match message:
            case Join():
                await self._join(message)
            case Rtc(inner):
                if not self._owns(inner.session_id):
                    return
                if self._control.floods.message(inner.session_id):
                    await self._media.handle(inner.session_id, inner)
                else:
                    self._drop("flood", "the session sends too much", inner.session_id)
            case Leave(session_id):
                if self._owns(session_id) and session_id not in self._leaving:
                    # Beside the others' messages, which must not wait until its peer is closed.
                    task = tasks.create_task(self._leave(session_id), name="leave")
                    self._leaving[session_id] = task
                    task.add_done_callback(lambda _: self._leaving.pop(session_id, None))
            case Reconnect(session_id):
                if self._owns(session_id):
                    self._media.rebind(session_id, self._deliver)
            case _:
                self._drop("invalid", "only the SFU sends this type")

    async def _join(self, message: Join) -> None:
        leaving = self._leaving.get(message.session_id)
        if leaving is not None:
            await asyncio.wait([leaving])
        if not self._control.floods.join(self._client_id):
            self._refuse_join(message, "flood", "too many joins at once")
            return
        if self._control.drain.refuses(self._client_id, message.call_id):
            self._refuse_join(message, "drain", "this server is being drained")
            return
        config = SessionConfig(
            group_id=self._client_id,  # whatever the client says (rtcd.md 2.2)
            call_id=message.call_id,
            user_id=message.user_id,
            session_id=message.session_id,
            channel_id=message.channel_id,
            av1_support=message.av1_support,
            dc_signaling=message.dc_signaling,
        )
        try:
            await self._media.join(config, self._deliver)
        except JoinError as error:
            self._refuse_join(message, error.reason, str(error))
        except Exception:
            self._refuse_join(message, "failed", "see the error that follows")
            raise

    async def _leave(self, session_id: str) -> None:
        try:
            await self._media.leave(session_id)
        except Exception:  # noqa: BLE001  # as in `_read`
            self._log.exception("ws.message_failed", type="Leave")

    def _refuse_join(self, message: Join, reason: str, text: str) -> None:
        self._metrics.add("rtcd_ws_joins_refused_total", self._client_id, reason)
        self._complain("join.refused", reason=text, session_id=message.session_id)
        # The original says nothing, and its client waits 15 s; but a live session of the same id
        # must not hear that it ended.
        if message.session_id and self._media.session(message.session_id) is None:
            self._send(Close(message.session_id))

    def _owns(self, session_id: str) -> bool:
        config = self._media.session(session_id)
        if config is None or config.group_id != self._client_id:
            self._drop("unknown_session", "no such session of this client", session_id)
            return False
        return True

    def _deliver(self, message: Rtc | Vad | Close) -> None:
        """The outlet of every session that is bound to this connection."""
        if isinstance(message, Close):
            self._control.floods.forget(message.session_id)
        else:
            kind = "rtc" if isinstance(message, Rtc) else "vad"
            self._metrics.ws_message(self._client_id, kind, "out")
        self._send(message)

    def _send(self, message: Message) -> None:
        try:
            if not self._outgoing.offer(encode(message)):
                self._drop("queue", "the send queue is full")
        except ChannelClosed:
            return  # the plugin is away; its sessions go on

    def _drop(self, reason: str, text: str, session_id: str = "") -> None:
        self._metrics.add("rtcd_ws_messages_dropped_total", self._client_id, reason)
        self._complain("ws.message_dropped", reason=text, session_id=session_id)

    def _complain(self, event: str, **fields: str) -> None:
        """A log line, unless there were too many: whoever floods us must not fill the disk."""
        if self._complaints.take(self._control.clock.monotonic_ns()):
            self._log.warning(event, **fields)

    async def _write(self) -> None:
        try:
            async for frame in self._outgoing:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._socket.send_bytes(frame)
        except TimeoutError:
            self._log.warning("ws.write_timeout", waited_s=WRITE_TIMEOUT_S)
        except (WebSocketDisconnect, RuntimeError):
            return  # the peer is gone; reading tells the same

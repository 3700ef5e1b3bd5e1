"""CallClient: one stay in one call.

Owns the WebSocket with its reconnects, the join, and the tasks; the media half is in callclient.media.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import string
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from callclient.errors import CallError, JoinRefused, MediaFailed, SignalingFailed
from callclient.events import (
    CallEnded,
    CallEvent,
    Joined,
    ParticipantLeft,
    SignalingLost,
    SignalingRestored,
)
from callclient.media import CallMedia
from callclient.publish import LocalTrack
from callclient.signaling import wire
from callclient.signaling.outbox import Outbox
from callclient.signaling.translate import Translator
from callclient.signaling.wire import WireError, WireEvent, WireReply
from callclient.state import CallState
from foundation.channel import Channel, ChannelClosed
from foundation.clock import SystemClock
from foundation.groups import unwrapped
from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError
from rtc.negotiation import LocalMedia
from rtc.sdp import Msid

_EVENT_CAPACITY = 16384
_HELLO_TIMEOUT_S = 5.0
"""A bad token still upgrades; only the missing `hello` tells (trap 14)."""
_PING_INTERVAL_S = 5.0
_PING_TIMEOUT_S = 10.0
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class CallClientConfig:
    """Whom to call and as whom."""

    site_url: str
    """`http(s)://host[:port]`, no trailing slash."""
    auth_token: str = field(repr=False)
    channel_id: str
    """What jobs get as CALL_ID."""
    job_id: str = ""
    """The plugin's job id; needed by the bot user, empty for people."""
    ca_file: Path | None = None
    """Extra CA bundle for https and wss."""
    join_timeout_s: float = 20.0
    """From opening the WebSocket to connected media."""
    reconnect_grace_s: float = 10.0
    """How long the server keeps a session without its WebSocket (calls-plugin.md 1.5)."""


class CallClient:
    """Joins the call, keeps the connection, tells what happens. `run` once, in a task of the owner."""

    def __init__(self, config: CallClientConfig) -> None:
        self.config = config
        self.state = CallState()
        self.session_id = ""
        """Our own session, once joined."""
        self._clock = SystemClock()
        self._events: Channel[CallEvent] = Channel(_EVENT_CAPACITY)
        self._translator = Translator(
            channel_id=config.channel_id, job_id=config.job_id, state=self.state
        )
        self._outbox = Outbox(self._clock)
        self._socket: ClientConnection | None = None
        self._media: CallMedia | None = None
        self._connection_id = ""
        self._seq = 0
        self._joined: asyncio.Future[None] | None = None
        self._hello = asyncio.Event()
        self._over = asyncio.Event()
        self._leaving = False
        self._clock_offset_ns: int | None = None
        self._best_round_trip_ns = 1 << 62
        self._pings: dict[int, int] = {}
        self._voice: LocalTrack | None = None
        self._screen_ssrcs: list[int] = []
        self._log = get_logger(component="call")

    # what jobs and bots use

    async def run(self) -> None:
        """Stay in the call until `leave`, or until the call ends (then `CallEnded` was the last event).

        Raises:
            JoinRefused, SignalingFailed, MediaFailed: see callclient.errors.
        """
        try:
            with unwrapped(CallError):
                async with asyncio.TaskGroup() as tasks:
                    workers = [
                        tasks.create_task(self._stay_connected(), name="signaling"),
                        tasks.create_task(self._join_and_receive(), name="join"),
                        tasks.create_task(self._ping_forever(), name="signaling-ping"),
                    ]
                    await self._over.wait()
                    for worker in workers:
                        worker.cancel()
        finally:
            await self._close()

    async def leave(self) -> None:
        """Say goodbye and let `run` return; idempotent."""
        if not self._leaving:
            self._leaving = True
            with contextlib.suppress(websockets.WebSocketException, TimeoutError):
                if self._socket is not None and self.session_id:
                    async with asyncio.timeout(2):
                        await self._socket.send(wire.call_action("leave", self._next_seq(), None))
        self._over.set()

    def events(self) -> AsyncIterator[CallEvent]:
        """Everything that happens, in order, to exactly one reader; ends when `run` ends."""
        return self._events

    def server_ms_to_monotonic_ns(self, server_ms: int) -> int:
        """A time on the server's clock as this host's monotonic clock.

        The offset comes from the fastest of the `ping` replies so far (trap 43); before the first one
        the clocks are taken to agree.
        """
        offset_ns = self._clock_offset_ns
        if offset_ns is None:
            offset_ns = time.time_ns() - time.monotonic_ns()
        return server_ms * _NS_PER_MS - offset_ns

    async def send_caption(self, *, session_id: str, text: str, new_audio_len_ms: float) -> None:
        """Queue a live caption of that speaker (bot only)."""
        data = {
            "session_id": session_id,
            "text": text,
            "new_audio_len_ms": float(new_audio_len_ms),
        }
        self._outbox.caption(lambda: self._send_action("caption", data))

    async def send_metric(self, name: str, *, session_id: str) -> None:
        """Queue a `metric` action (bot only)."""
        self._control("metric", {"metric_name": name, "session_id": session_id})

    async def publish_voice(self) -> LocalTrack:
        """Offer a voice track (48 kHz Opus clock). Send `set_muted(False)` before talking."""
        self._voice = await self._published_media().publish(
            "audio", self._local_media(_stream_id())
        )
        return self._voice

    async def set_muted(self, muted: bool) -> None:
        self._control("mute" if muted else "unmute", None)

    async def start_screen(
        self, *, with_audio: bool = False
    ) -> tuple[LocalTrack, LocalTrack | None]:
        """Announce and offer a screen track (90 kHz VP8), and its sound if wanted."""
        media = self._published_media()
        stream_id = _stream_id()
        # The SFU must know what the stream is before its first packet (calls-plugin.md 4.6).
        self._control("screen_on", {"data": json.dumps({"screenStreamID": stream_id})})
        screen = await media.publish("video", self._local_media(stream_id))
        self._screen_ssrcs = [screen.ssrc]
        sound = None
        if with_audio:
            sound = await media.publish("audio", self._local_media(stream_id))
            self._screen_ssrcs.append(sound.ssrc)
        return screen, sound

    async def stop_screen(self) -> None:
        self._control("screen_off", None)
        for ssrc in self._screen_ssrcs:
            self._published_media().unpublish(ssrc)
        self._screen_ssrcs = []

    async def raise_hand(self, raised: bool) -> None:
        self._control("raise_hand" if raised else "unraise_hand", None)

    async def react(self, *, name: str, unified: str) -> None:
        self._control("react", {"data": json.dumps({"name": name, "unified": unified})})

    # joining

    async def _join_and_receive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.config.join_timeout_s):
                await self._hello.wait()
                self.session_id = self._connection_id
                self._joined = loop.create_future()
                self._control(
                    "join",
                    {
                        "channelID": self.config.channel_id,
                        "jobID": self.config.job_id,
                        "av1Support": False,
                        "dcSignaling": False,
                    },
                )
                await self._joined
        except TimeoutError:
            raise SignalingFailed(
                f"no answer to the join within {self.config.join_timeout_s:g} s"
            ) from None
        self._media = CallMedia(
            own_session_id=self.session_id,
            send_description=self._queue_description,
            emit=self._emit,
            connect_timeout_s=self.config.join_timeout_s,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._media.run(), name="media")
            await self._media.offer()
            try:
                async with asyncio.timeout(self.config.join_timeout_s):
                    await self._media.ready.wait()
            except TimeoutError:
                raise MediaFailed(
                    f"no media connection within {self.config.join_timeout_s:g} s"
                ) from None
            self._emit(Joined(self.session_id))

    def _queue_description(self, kind: str, text: str) -> None:
        packed = calls_dc.pack_sdp(kind, text)

        async def send() -> None:
            await self._connected_socket().send(wire.sdp_action(self._next_seq(), packed))

        self._outbox.control(send)

    # the WebSocket

    async def _stay_connected(self) -> None:
        """Keep a socket open; after a loss reconnect at once, then with growing waits (section 1.5)."""
        lost_at_ns = 0
        attempt = 0
        while True:
            try:
                await self._connect_and_serve()
            except (OSError, websockets.WebSocketException, TimeoutError) as error:
                self._log.warning("signaling.closed", reason=type(error).__name__)
                if not self.session_id:
                    raise SignalingFailed(
                        f"the WebSocket could not be used: {type(error).__name__}"
                    ) from error
            if self._over.is_set():
                return
            if self._hello.is_set():  # it had worked: this is a fresh loss
                lost_at_ns, attempt = time.monotonic_ns(), 0
                self._hello.clear()
                self._emit(SignalingLost())
            elif not self.session_id:
                raise SignalingFailed("the server closed the WebSocket before the hello")
            away_s = (time.monotonic_ns() - lost_at_ns) / 1e9
            if away_s > self.config.reconnect_grace_s:
                raise SignalingFailed(
                    f"the WebSocket was away for more than {self.config.reconnect_grace_s:g} s"
                )
            if attempt:
                await asyncio.sleep(min(0.5 * attempt, 2.0))
            attempt += 1

    async def _connect_and_serve(self) -> None:
        url = self.config.site_url.replace("http", "ws", 1) + "/api/v4/websocket"
        async with websockets.connect(
            url,
            additional_headers={"Authorization": f"Bearer {self.config.auth_token}"},
            ssl=_ssl_context(self.config) if url.startswith("wss") else None,
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
                with unwrapped(websockets.WebSocketException, OSError):
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
                if self._over.is_set():
                    return

    async def _send_forever(self) -> None:
        while True:
            # Nothing but the reconnect may go out before the hello.
            await self._hello.wait()
            send = await self._outbox.next()
            await send()

    async def _frame_received(self, frame: str | bytes) -> None:
        try:
            message = wire.parse_frame(frame)
        except WireError as error:
            self._log.warning("frame.refused", reason=str(error))
            return
        if isinstance(message, WireReply):
            self._reply_received(message)
        elif isinstance(message, WireEvent):
            await self._event_received(message)

    async def _event_received(self, event: WireEvent) -> None:
        if not event.is_call_event:
            if event.name == "hello":
                self._hello_received(event)
            return
        if event.name in ("join", "error", "signal"):
            # For one connection: ours is named by its current id or by the session's (section 3.1).
            if event.connection_id() in (self._connection_id, self.session_id):
                await self._connection_event(event)
            return
        for call_event in self._translator.translate(event):
            if isinstance(call_event, ParticipantLeft) and self._media is not None:
                self._media.participant_left(call_event.session_id)
            self._emit(call_event)
            if isinstance(call_event, CallEnded):
                self._over.set()

    async def _connection_event(self, event: WireEvent) -> None:
        joined = self._joined
        if event.name == "join" and joined is not None and not joined.done():
            joined.set_result(None)
        elif event.name == "error":
            reason = event.text("data")
            if joined is not None and not joined.done():
                joined.set_exception(JoinRefused(reason))
            else:
                self._log.warning("server.error_event")
        elif event.name == "signal" and self._media is not None:
            await self._signal_received(event.text("data"), self._media)

    async def _signal_received(self, text: str, media: CallMedia) -> None:
        try:
            value: Any = json.loads(text)
            if value.get("type") == "candidate":
                await media.candidate_received(str(value["candidate"]["candidate"]))
                return
            kind, sdp = calls_dc.read_sdp_json(text)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, DcError):
            self._log.warning("signal.refused")
            return
        media.description_received(kind, sdp)

    def _hello_received(self, event: WireEvent) -> None:
        again = bool(self.session_id)
        self._connection_id = event.text("connection_id")
        self._hello.set()
        if again:
            # Events of the gap are gone; the state is not (trap 12).
            self._control("call_state", {"channelID": self.config.channel_id})
            self._emit(SignalingRestored())

    def _reconnect_action(self) -> str:
        data = {
            "channelID": self.config.channel_id,
            "originalConnID": self.session_id,
            "prevConnID": self._connection_id,
        }
        return wire.call_action("reconnect", self._next_seq(), data)

    # clock and liveness

    async def _ping_forever(self) -> None:
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
        if sent_ns is None or not isinstance(server_time, int | float):
            return
        now_ns = time.monotonic_ns()
        if now_ns - sent_ns <= self._best_round_trip_ns:
            self._best_round_trip_ns = now_ns - sent_ns
            middle_ns = (now_ns + sent_ns) // 2
            self._clock_offset_ns = int(server_time) * _NS_PER_MS - middle_ns

    # helpers

    def _control(self, action: str, data: dict[str, Any] | None) -> None:
        self._outbox.control(lambda: self._send_action(action, data))

    async def _send_action(self, action: str, data: dict[str, Any] | None) -> None:
        await self._connected_socket().send(wire.call_action(action, self._next_seq(), data))

    def _connected_socket(self) -> ClientConnection:
        if self._socket is None:
            raise SignalingFailed("the WebSocket is not connected")
        return self._socket

    def _published_media(self) -> CallMedia:
        if self._media is None:
            raise MediaFailed("not joined yet")
        return self._media

    def _local_media(self, stream_id: str) -> LocalMedia:
        return LocalMedia(
            msid=Msid(stream_id, _stream_id()), ssrc=secrets.randbits(32), cname=self.session_id
        )

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _emit(self, event: CallEvent) -> None:
        try:
            if not self._events.offer(event):
                self._log.error("event.dropped", kind=type(event).__name__)
        except ChannelClosed:
            return

    async def _close(self) -> None:
        self._over.set()
        if self._media is not None:
            await self._media.close()
        self._events.close()


def _stream_id() -> str:
    alphabet = string.ascii_lowercase + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(20))


def _ssl_context(config: CallClientConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if config.ca_file is not None:
        context.load_verify_locations(cafile=config.ca_file)
    return context

"""CallClient: one stay in one call.

Owns the join and the tasks; the WebSocket is in callclient.signaling.connection, media in callclient.media.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from callclient.config import CallClientConfig as CallClientConfig  # for callers
from callclient.errors import CallError, JoinRefused, MediaFailed, SignalingFailed
from callclient.events import (
    CallEnded,
    CallEvent,
    Joined,
    ParticipantLeft,
    ParticipantRemoved,
    ScreenShareChanged,
    SignalingLost,
    SignalingRestored,
)
from callclient.ice_servers import fetch_patiently
from callclient.media import CallMedia
from callclient.publish import LocalTrack, new_local_media, new_stream_id
from callclient.signaling.connection import SignalingConnection
from callclient.signaling.signal import CANDIDATE, read_signal
from callclient.signaling.socket import Endpoint, OpenSocket
from callclient.signaling.translate import Translator
from callclient.signaling.wire import WireEvent
from callclient.state import CallState
from callclient.transport import MediaTransport
from foundation.channel import Channel, ChannelClosed
from foundation.clock import Clock
from foundation.groups import unwrapped
from foundation.logs import get_logger
from foundation.spans import step
from rtc import calls_dc
from rtc.calls_dc import DcError

_EVENT_CAPACITY = 16384


class CallClient:
    """Joins the call, keeps the connection, tells what happens. `run` once, in a task of the owner."""

    def __init__(
        self,
        config: CallClientConfig,
        *,
        open_socket: OpenSocket | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`open_socket` and `clock` are the real ones unless a test brings its own."""
        self.config = config
        self.state = CallState()
        self.session_id = ""
        """Our own session, once joined."""
        self._events: Channel[CallEvent] = Channel(_EVENT_CAPACITY)
        self._translator = Translator(
            channel_id=config.channel_id, job_id=config.job_id, state=self.state
        )
        self._signaling = SignalingConnection(
            Endpoint(
                site_url=config.site_url,
                auth_token=config.auth_token,
                ca_file=config.ca_file,
                site_is_allowed=config.site_is_allowed,
            ),
            channel_id=config.channel_id,
            reconnect_limit_s=config.reconnect_limit_s,
            on_event=self._event_received,
            on_lost=lambda: self._emit(SignalingLost()),
            on_restored=self._signaling_restored,
            open_socket=open_socket,
            clock=clock,
        )
        self._media: CallMedia | None = None
        self._joined: asyncio.Future[None] | None = None
        self._over = asyncio.Event()
        self._leaving = False
        self._voice: LocalTrack | None = None
        self._screen_ssrcs: list[int] = []
        self._camera_ssrc: int | None = None
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
                        tasks.create_task(self._signaling.run(), name="signaling"),
                        tasks.create_task(self._join_and_receive(), name="join"),
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
            await self._signaling.say_goodbye()
        self._over.set()

    def events(self) -> AsyncIterator[CallEvent]:
        """Everything that happens, in order, to exactly one reader; ends when `run` ends."""
        return self._events

    def server_ms_to_monotonic_ns(self, server_ms: int) -> int:
        """A time on the server's clock as this host's monotonic clock (trap 43)."""
        return self._signaling.clock.to_monotonic_ns(server_ms)

    async def send_caption(self, *, session_id: str, text: str, new_audio_len_ms: float) -> None:
        """Queue a live caption of that speaker (bot only)."""
        data = {
            "session_id": session_id,
            "text": text,
            "new_audio_len_ms": float(new_audio_len_ms),
        }
        self._signaling.caption(data)

    async def send_metric(self, name: str, *, session_id: str) -> None:
        """Queue a `metric` action (bot only)."""
        self._signaling.metric({"metric_name": name, "session_id": session_id})

    async def publish_voice(self) -> LocalTrack:
        """Offer a voice track (48 kHz Opus clock). Send `set_muted(False)` before talking."""
        voice = new_local_media(new_stream_id(), cname=self.session_id)
        self._voice = await self._published_media().publish("audio", voice)
        return self._voice

    async def set_muted(self, muted: bool) -> None:
        self._signaling.control("mute" if muted else "unmute", None)

    async def start_screen(
        self, *, with_audio: bool = False
    ) -> tuple[LocalTrack, LocalTrack | None]:
        """Announce and offer a screen track (90 kHz VP8), and its sound if wanted."""
        media = self._published_media()
        stream_id = new_stream_id()
        # The SFU must know what the stream is before its first packet (calls-plugin.md 4.6).
        self._signaling.control("screen_on", {"data": json.dumps({"screenStreamID": stream_id})})
        picture = new_local_media(stream_id, cname=self.session_id)
        screen = await media.publish("video", picture)
        self._screen_ssrcs = [screen.ssrc]
        sound = None
        if with_audio:
            heard = new_local_media(stream_id, cname=self.session_id)
            sound = await media.publish("audio", heard)
            self._screen_ssrcs.append(sound.ssrc)
        return screen, sound

    async def stop_screen(self) -> None:
        self._signaling.control("screen_off", None)
        for ssrc in self._screen_ssrcs:
            self._published_media().unpublish(ssrc)
        self._screen_ssrcs = []

    async def start_camera(self) -> LocalTrack:
        """Announce and offer a camera's track (90 kHz VP8)."""
        media = self._published_media()
        stream_id = new_stream_id()
        # As for a screen: first what it is, then its packets.
        self._signaling.control("video_on", {"data": json.dumps({"videoStreamID": stream_id})})
        picture = new_local_media(stream_id, cname=self.session_id)
        camera = await media.publish("video", picture)
        self._camera_ssrc = camera.ssrc
        return camera

    async def stop_camera(self) -> None:
        self._signaling.control("video_off", None)
        if self._camera_ssrc is not None:
            self._published_media().unpublish(self._camera_ssrc)
        self._camera_ssrc = None

    async def raise_hand(self, raised: bool) -> None:
        self._signaling.control("raise_hand" if raised else "unraise_hand", None)

    async def react(self, *, name: str, unified: str) -> None:
        self._signaling.control("react", {"data": json.dumps({"name": name, "unified": unified})})

    # joining

    async def _join(self) -> None:
        loop = asyncio.get_running_loop()
        config = self.config
        try:
            async with asyncio.timeout(config.join_timeout_s):
                await self._signaling.until_hello()
                self._joined = loop.create_future()
                self._signaling.control(
                    "join",
                    {
                        "channelID": config.channel_id,
                        "jobID": config.job_id,
                        "av1Support": config.av1_support,
                        "dcSignaling": config.dc_signaling,
                    },
                )
                # No reply would tell of a join that was lost on the way (trap 8).
                await self._joined
        except TimeoutError:
            raise SignalingFailed(
                f"no answer to the join within {config.join_timeout_s:g} s"
            ) from None

    async def _join_and_receive(self) -> None:
        with step("join"):
            await self._join()
        config = self.config
        self._media = CallMedia(
            own_session_id=self.session_id,
            send_description=self._queue_description,
            can_send=self._can_send,
            emit=self._emit,
            connect_timeout_s=config.join_timeout_s,
            latency=config.latency,
            av1=config.av1_support,
            transport=self._media_transport(),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._media.run(), name="media")
            with step("media"):
                await self._media.offer()
                try:
                    async with asyncio.timeout(config.join_timeout_s):
                        await self._media.ready.wait()
                except TimeoutError:
                    reason = f"no media connection within {config.join_timeout_s:g} s"
                    raise MediaFailed(self._media.explain(reason)) from None
            self._emit(Joined(self.session_id))

    def _queue_description(self, kind: str, text: str) -> None:
        self._signaling.description(calls_dc.pack_sdp(kind, text))

    def _media_transport(self) -> MediaTransport:
        config = self.config
        return MediaTransport(
            policy=config.ice_transport,
            fetch_servers=lambda: fetch_patiently(
                site_url=config.site_url,
                auth_token=config.auth_token,
                ca_file=config.ca_file,
                site_is_allowed=config.site_is_allowed,
            ),
            send_candidate=self._queue_candidate,
            ca_file=config.ca_file,
        )

    def _queue_candidate(self, line: str) -> None:
        candidate = {"candidate": f"candidate:{line}", "sdpMid": "0", "sdpMLineIndex": 0}
        self._signaling.control("ice", {"data": json.dumps(candidate)})

    def _can_send(self, text: str) -> bool:
        return self._signaling.takes_now(calls_dc.pack_sdp("answer", text))

    # events

    def _signaling_restored(self) -> None:
        self._translator.events_were_missed()
        self._emit(SignalingRestored())

    async def _event_received(self, event: WireEvent) -> None:
        if not event.is_call_event:
            return
        if event.name in ("join", "error", "signal"):
            # For one connection: ours is named by its current id or by the session's (section 3.1).
            named = event.connection_id()
            if named and named in (self._signaling.id, self.session_id):
                await self._connection_event(event)
            return
        for call_event in self._translator.translate(event):
            if isinstance(call_event, ParticipantLeft) and self._media is not None:
                self._media.participant_left(call_event.session_id)
            elif isinstance(call_event, ScreenShareChanged) and self._media is not None:
                self._media.screen_shared_by(call_event.session_id)
            self._emit(call_event)
            if isinstance(call_event, CallEnded):
                self._over.set()
            elif isinstance(call_event, ParticipantRemoved):
                await self._removed(call_event.session_id)

    async def _removed(self, session_id: str) -> None:
        """Who a host removes has 3 s to go (calls-plugin.md 3.2); then the server closes the media."""
        if session_id and session_id == self.session_id:
            self._emit(CallEnded("a host removed this session from the call"))
            await self.leave()

    async def _connection_event(self, event: WireEvent) -> None:
        joined = self._joined
        if event.name == "join" and joined is not None and not joined.done():
            self.session_id = self._signaling.keep_session()
            joined.set_result(None)
        elif event.name == "error":
            reason = event.text("data")
            if joined is not None and not joined.done():
                joined.set_exception(JoinRefused.of(reason))
            else:
                self._log.warning("server.error_event")
        elif event.name == "signal" and self._media is not None:
            await self._signal_received(event.text("data"), self._media)

    async def _signal_received(self, text: str, media: CallMedia) -> None:
        try:
            kind, content = read_signal(text)
        except DcError:
            self._log.warning("signal.refused")
            return
        if kind == CANDIDATE:
            await media.candidate_received(content)
        else:
            media.description_received(kind, content)

    # helpers

    def _published_media(self) -> CallMedia:
        if self._media is None:
            raise MediaFailed("not joined yet")
        return self._media

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

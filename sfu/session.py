"""One participant's peer connection at the SFU: negotiation, data channel, publishing, subscribing."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass
from typing import Literal

from foundation.channel import Channel, ChannelClosed
from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError, DcMessage, DcType
from rtc.errors import RtcError
from rtc.negotiation import LocalMedia
from rtc.peer import IceFactory, Peer
from rtc.rtp import KeyFrameRequest, Nack, build_pli, parse_rtcp
from rtc.sctp import DataChannel
from rtc.sdp import Msid
from sfu.call import Call
from sfu.capabilities import CAPABILITIES
from sfu.forwarding.tracks import DownTrack, UpTrack
from sfu.lock import SignalingLock
from sfu.media_port import SessionConfig, SessionOutlet
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad
from sfu.publishing import Publisher

FIRST_OFFER_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 5.0
_SIGNALING_CAPACITY = 64
_TRACK_CAPACITY = 4096


@dataclass(frozen=True, slots=True)
class _TrackChange:
    action: Literal["add", "remove"]
    track: UpTrack


class Session:
    """Made by a join; `run` until it returns, then `close`."""

    def __init__(
        self,
        config: SessionConfig,
        *,
        call: Call,
        ice: IceFactory,
        send: SessionOutlet,
        connect_timeout_s: float = 30.0,
    ) -> None:
        self.config = config
        self._call = call
        self._outlet = send
        self._peer = Peer(
            ice=ice, capabilities=CAPABILITIES, events=self, connect_timeout_s=connect_timeout_s
        )
        self._signaling: Channel[tuple[str, str, bool]] = Channel(_SIGNALING_CAPACITY)
        self._answers: Channel[str] = Channel(_SIGNALING_CAPACITY)
        self._changes: Channel[_TrackChange] = Channel(_TRACK_CAPACITY)
        self._lock = SignalingLock()
        self._channel: DataChannel | None = None
        self._channel_open = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._downs: dict[int, DownTrack] = {}
        self._publisher = Publisher(
            session_id=config.session_id,
            call=call,
            request_key_frame=self._send_pli,
            voice_changed=self._voice_changed,
        )
        self._log = get_logger(component="session", session_id=config.session_id)

    @property
    def ready(self) -> bool:
        return self._channel_open.is_set()

    def bind(self, send: SessionOutlet) -> None:
        """Send this session's messages somewhere else from now on."""
        self._outlet = send

    async def run(self) -> str:
        """Serve the session; returns the reason of its end."""
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._negotiate_for_client(), name="client-offers"),
                tasks.create_task(self._change_tracks(), name="track-changes"),
            ]
            reason = await self._ended
            for worker in workers:
                worker.cancel()
        return reason

    def end(self, reason: str) -> None:
        """Let `run` return; idempotent."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def close(self) -> None:
        """Free everything and send the last message; the call was left before."""
        for channel in (self._signaling, self._answers, self._changes):
            channel.close()
        for down in self._downs.values():
            if down in down.up.downs:
                down.up.downs.remove(down)
        await self._peer.close()
        self._outlet(Close(session_id=self.config.session_id))

    # messages from the plugin

    async def handle(self, message: RtcMessage) -> None:
        """One message; what cannot be understood is logged without its content."""
        match message.type:
            case RtcType.ICE:
                await self._remote_candidate(message.data)
            case RtcType.SDP:
                self._description_received(message.data, over_channel=False)
            case RtcType.MUTE | RtcType.UNMUTE:
                self._publisher.set_voice_enabled(message.type is RtcType.UNMUTE)
            case RtcType.SCREEN_ON:
                stream_id = _json_text(message.data, "screenStreamID")
                if not self._call.start_screen(self.config.session_id, stream_id):
                    self._log.warning("screen.refused", reason="somebody else is sharing")
            case RtcType.SCREEN_OFF:
                if self._call.stop_screen(self.config.session_id):
                    self._publisher.forget_ended_tracks()
                else:
                    self._log.warning("screen.off_refused", reason="this session does not share")
            case RtcType.VIDEO_ON:
                self._publisher.video_stream_id = _json_text(message.data, "videoStreamID")
            case RtcType.VIDEO_OFF:
                pass  # clients detach the track themselves (rtcd.md 3.6)
            case _:
                self._log.warning("message.unexpected", type=int(message.type))

    async def _remote_candidate(self, data: bytes) -> None:
        line = _json_text(data, "candidate")
        if line:
            await self._peer.add_remote_candidate(line)

    def _description_received(self, data: bytes, *, over_channel: bool) -> None:
        try:
            kind, text = (calls_dc.unpack_sdp if over_channel else calls_dc.read_sdp_json)(data)
        except DcError as error:
            self._log.warning("sdp.refused", reason=str(error))
            return
        try:
            if kind == "answer":
                accepted = self._answers.offer(text)
            else:
                accepted = self._signaling.offer((kind, text, over_channel))
        except ChannelClosed:
            return
        if not accepted:
            self._log.warning("sdp.dropped", reason="queue is full", kind=kind)

    # negotiation started by the client

    async def _negotiate_for_client(self) -> None:
        try:
            async with asyncio.timeout(FIRST_OFFER_TIMEOUT_S):
                _, text, over_channel = await self._signaling.receive()
        except TimeoutError:
            self.end(f"no offer within {FIRST_OFFER_TIMEOUT_S:g} s")
            return
        try:
            answer = await self._peer.accept_offer(text)
        except RtcError as error:
            self.end(f"the first offer cannot be used: {error}")
            return
        self._send_description("answer", answer, over_channel=over_channel)
        self._publisher.announced(self._peer.negotiation.remote_media())
        for candidate in self._peer.local_candidates:
            self._send_candidate(candidate)
        # Nothing of the client's is negotiated before its data channel is open (rtcd.md 3.1).
        await self._channel_open.wait()
        async for _, text, over_channel in self._signaling:
            await self._answer_later_offer(text, over_channel=over_channel)

    async def _answer_later_offer(self, text: str, *, over_channel: bool) -> None:
        if self._peer.negotiation.offering:
            self._log.info("offer.ignored", reason="an offer of ours is open")
            return
        try:
            answer = await self._peer.accept_offer(text)
        except RtcError as error:
            self._log.warning("offer.refused", reason=str(error))
            return
        self._send_description("answer", answer, over_channel=over_channel)
        self._publisher.announced(self._peer.negotiation.remote_media())

    # negotiation started by us

    def subscribe(self, track: UpTrack) -> None:
        self._queue_change(_TrackChange("add", track))

    def unsubscribe(self, track: UpTrack) -> None:
        self._queue_change(_TrackChange("remove", track))

    def _queue_change(self, change: _TrackChange) -> None:
        try:
            if not self._changes.offer(change):
                self._log.error("track.dropped", track_id=change.track.track_id)
        except ChannelClosed:
            return

    async def _change_tracks(self) -> None:
        await self._channel_open.wait()
        async for change in self._changes:
            if change.action == "add":
                await self._add_down_track(change.track)
            else:
                await self._remove_down_track(change.track)

    async def _add_down_track(self, track: UpTrack) -> None:
        if track not in self._call.tracks:
            return  # it ended while it was queued
        await self._take_lock()
        try:
            down = self._new_down_track(track)
            if not await self._offer():
                self._log.warning("track.not_answered", track_id=track.track_id)
                down.section.local = None
                return
            payload_type = down.section.payload_type(track.codec)
            if payload_type is None:
                self._log.warning("track.codec_refused", track_id=track.track_id)
                down.section.local = None
                return
            down.payload_type = payload_type
            self._downs[down.ssrc] = down
            if track in self._call.tracks:
                track.downs.append(down)
                if track.kind == "video":
                    track.request_key_frame(time.monotonic_ns())
        finally:
            self._lock.release_by_server()

    def _new_down_track(self, track: UpTrack) -> DownTrack:
        media = LocalMedia(
            msid=Msid(track.session_id, track.track_id),
            ssrc=secrets.randbits(32),
            cname=track.session_id,
        )
        section = self._peer.negotiation.add_sender(track.kind, media)
        return DownTrack(up=track, section=section, ssrc=media.ssrc, send=self._peer.send_rtp)

    async def _remove_down_track(self, track: UpTrack) -> None:
        down = next((d for d in self._downs.values() if d.up is track), None)
        if down is None:
            return
        del self._downs[down.ssrc]
        if down in track.downs:
            track.downs.remove(down)
        down.section.local = None
        if track.kind == "audio":
            return  # its end is told by the plugin; the section waits for the next voice
        await self._take_lock()
        try:
            await self._offer()
        finally:
            self._lock.release_by_server()

    async def _take_lock(self) -> None:
        while not await self._lock.acquire_for_server(timeout_s=LOCK_TIMEOUT_S):
            # The original drops the change here; keeping it costs nothing but patience.
            self._log.warning("lock.timeout", waited_s=LOCK_TIMEOUT_S)

    async def _offer(self) -> bool:
        """One offer and its answer; False when no usable answer came in time."""
        text = await self._peer.create_offer()
        self._send_media_map()
        self._send_description("offer", text, over_channel=self.config.dc_signaling)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    answer = await self._answers.receive()
                    try:
                        await self._peer.accept_answer(answer)
                    except RtcError as error:
                        # Possibly the late answer to an earlier offer: wait for ours.
                        self._log.warning("answer.refused", reason=str(error))
                        continue
                    self._publisher.announced(self._peer.negotiation.remote_media())
                    return True
        except TimeoutError:
            self._peer.negotiation.withdraw_offer()
            return False

    def _send_media_map(self) -> None:
        media_map = {
            down.section.mid: {"type": down.up.type.value, "sender_id": down.up.session_id}
            for down in self._downs.values()
        }
        for section in self._peer.negotiation.sections:
            if section.local is not None and section.mid not in media_map:
                kind = section.local.msid.track_id.partition("_")[0]
                media_map[section.mid] = {"type": kind, "sender_id": section.local.msid.stream_id}
        self._send_on_channel(DcMessage(DcType.MEDIA_MAP, media_map))

    # to the client

    def _send_description(self, kind: str, text: str, *, over_channel: bool) -> None:
        if over_channel and self._channel is not None and self._channel.open:
            self._send_on_channel(DcMessage(DcType.SDP, calls_dc.pack_sdp(kind, text)))
        else:
            data = json.dumps({"type": kind, "sdp": text}).encode()
            self._outlet(Rtc(self._message(RtcType.SDP, data)))

    def _send_candidate(self, candidate: str) -> None:
        init = {
            "candidate": f"candidate:{candidate}",
            "sdpMid": "",
            "sdpMLineIndex": 0,
            "usernameFragment": None,
        }
        data = json.dumps({"type": "candidate", "candidate": init}).encode()
        self._outlet(Rtc(self._message(RtcType.ICE, data)))

    def _message(self, kind: RtcType, data: bytes = b"") -> RtcMessage:
        return RtcMessage(
            type=kind,
            session_id=self.config.session_id,
            data=data,
            group_id=self.config.group_id,
            user_id=self.config.user_id,
            call_id=self.config.call_id,
        )

    def _send_on_channel(self, message: DcMessage) -> None:
        if self._channel is not None:
            self._channel.send(calls_dc.encode(message))

    # PeerEvents

    def peer_connected(self) -> None:
        self._log.info("session.connected")

    def peer_failed(self, reason: str) -> None:
        self.end(reason)

    def channel_opened(self, channel: DataChannel) -> None:
        if self._channel is None:
            self._channel = channel
            self._channel_open.set()
            self._call.session_ready(self)

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        if message in ("ping", b"ping"):
            channel.send("pong")  # old mobile clients (rtcd.md 3.3)
            return
        try:
            parsed = calls_dc.decode(message if isinstance(message, bytes) else message.encode())
        except DcError as error:
            self._log.warning("channel.message_refused", reason=str(error))
            return
        match parsed.type:
            case DcType.PING:
                self._send_on_channel(DcMessage(DcType.PONG))
            case DcType.LOCK:
                self._send_on_channel(DcMessage(DcType.LOCK, self._lock.try_for_client()))
            case DcType.UNLOCK:
                if not self._lock.release_by_client():
                    self._log.info("lock.unlock_ignored")
            case DcType.SDP:
                self._description_received(parsed.payload, over_channel=True)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        self._publisher.rtp_received(packet, arrival_ns)

    def rtcp_received(self, compound: bytes) -> None:
        for message in parse_rtcp(compound):
            if isinstance(message, Nack):
                down = self._downs.get(message.media_ssrc)
                if down is not None:
                    down.repeat(message.sequences)
            elif isinstance(message, KeyFrameRequest):
                down = self._downs.get(message.media_ssrc)
                if down is not None:
                    down.up.request_key_frame(time.monotonic_ns())

    def _voice_changed(self, active: bool) -> None:
        kind = RtcType.VOICE_ON if active else RtcType.VOICE_OFF
        self._outlet(Vad(self._message(kind)))

    def _send_pli(self, ssrc: int) -> None:
        self._peer.send_rtcp(build_pli(sender_ssrc=1, media_ssrc=ssrc))


def _json_text(data: bytes, key: str) -> str:
    """A text member of a JSON object, or empty."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) else ""

"""The media half of a call client: one peer connection to the SFU, tracks in and out.

Signaling hands in what the server sent and takes what must go back; nothing here knows the WebSocket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from callclient.errors import MediaFailed
from callclient.events import CallEvent, TrackAdded, TrackEnded
from callclient.publish import LocalTrack
from callclient.receive.receiver import TrackReceiver
from callclient.receive.tracks import Codec, RemoteTrack, TrackSource
from foundation.channel import Channel, ChannelClosed
from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError, DcMessage, DcType
from rtc.errors import RtcError
from rtc.ice import IceTransport
from rtc.negotiation import Capabilities, LocalMedia, RemoteMedia, Section
from rtc.peer import Peer
from rtc.rtp import (
    KeyFrameRequest,
    build_nack,
    build_pli,
    build_receiver_report,
    parse_rtcp,
    parse_rtp,
)
from rtc.sctp import DataChannel
from rtc.sdp import CodecDescription, MediaKind

AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1"),),
    video_codecs=(CodecDescription(96, "VP8", 90_000, feedback=("nack", "nack pli")),),
    audio_extensions=(AUDIO_LEVEL,),
)
"""No AV1: we say `av1Support:false` (trap 24)."""
_TICK_S = 0.02
_REPORT_EVERY_TICKS = 50
_PLI_INTERVAL_NS = 1_000_000_000
_AUDIO_WAIT_NS = 120_000_000
_VIDEO_WAIT_NS = 400_000_000
_LOCK_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.1
_ANSWER_TIMEOUT_S = 10.0
_DESCRIPTION_CAPACITY = 64
_UNKNOWN_SSRC_LIMIT = 256


@dataclass(frozen=True, slots=True)
class _Description:
    kind: str
    text: str
    over_channel: bool


class CallMedia:
    """Made for one join. `run` in a task; `offer` first; `close` in the end."""

    def __init__(
        self,
        *,
        own_session_id: str,
        send_description: Callable[[str, str], None],
        emit: Callable[[CallEvent], None],
        connect_timeout_s: float,
    ) -> None:
        """`send_description(type, sdp)` goes out over the WebSocket."""
        self._own_session_id = own_session_id
        self._send_description = send_description
        self._emit = emit
        self._peer = Peer(
            ice=lambda on_data, on_lost: IceTransport.over_own_sockets(
                controlling=True, on_data=on_data, on_lost=on_lost
            ),
            capabilities=CAPABILITIES,
            events=self,
            channel_label=calls_dc.CHANNEL_LABEL,
            connect_timeout_s=connect_timeout_s,
        )
        self._descriptions: Channel[_Description] = Channel(_DESCRIPTION_CAPACITY)
        self._channel: DataChannel | None = None
        self._channel_open = asyncio.Event()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._receivers: dict[int, TrackReceiver] = {}
        self._local: dict[int, LocalTrack] = {}
        self._lock_replies: Channel[bool] = Channel(8)
        self._answered: asyncio.Future[None] | None = None
        self._publishing = asyncio.Lock()
        self._unknown_ssrcs: set[int] = set()
        self._pli_sent_ns: dict[int, int] = {}
        self._log = get_logger(component="media")

    @property
    def ready(self) -> asyncio.Event:
        """Set when the data channel is open: from then on the SFU announces tracks."""
        return self._channel_open

    async def run(self) -> None:
        """Negotiate, repair and report until cancelled.

        Raises:
            MediaFailed: the connection did not come up, or was lost.
        """
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._negotiate(), name="negotiation"),
                tasks.create_task(self._tick_forever(), name="media-tick"),
            ]
            reason = await self._failed
            for worker in workers:
                worker.cancel()
        raise MediaFailed(reason)

    async def offer(self) -> None:
        """Send the first offer: a data channel and no media (trap 16)."""
        self._peer.negotiation.add_data_section()
        self._send_description("offer", await self._peer.create_offer())

    def description_received(self, kind: str, text: str, *, over_channel: bool = False) -> None:
        """An offer or answer of the SFU; all are handled in order by one worker (trap 17)."""
        try:
            if not self._descriptions.offer(_Description(kind, text, over_channel)):
                self._log.error("description.dropped", reason="64 wait already")
        except ChannelClosed:
            return

    async def candidate_received(self, line: str) -> None:
        await self._peer.add_remote_candidate(line)

    def participant_left(self, session_id: str) -> None:
        """The end of a voice track is only that its speaker left (trap 21)."""
        for receiver in list(self._receivers.values()):
            if receiver.track.session_id == session_id:
                self._end_receiver(receiver)

    async def close(self) -> None:
        """End all tracks and free the connection."""
        self._descriptions.close()
        for receiver in list(self._receivers.values()):
            self._end_receiver(receiver)
        await self._peer.close()

    # publishing

    async def publish(self, kind: MediaKind, media: LocalMedia) -> LocalTrack:
        """Offer one more track under the signaling lock (calls-plugin.md 4.4).

        Raises:
            MediaFailed: no lock, or no usable answer in time.
        """
        async with self._publishing:
            await self._take_lock()
            try:
                section = await self._offer_section(kind, media)
            finally:
                self._send_on_channel(DcMessage(DcType.UNLOCK))
        codec = "opus" if kind == "audio" else "VP8"
        payload_type = section.payload_type(codec)
        if payload_type is None:
            raise MediaFailed(f"the SFU does not take {codec}")
        track = LocalTrack(
            ssrc=media.ssrc,
            payload_type=payload_type,
            clock_rate_hz=48_000 if kind == "audio" else 90_000,
            audio_level_id=section.extensions.get(AUDIO_LEVEL),
            send_rtp=self._peer.send_rtp,
        )
        self._local[media.ssrc] = track
        return track

    def unpublish(self, ssrc: int) -> None:
        """Stop using a track's section; the next offer tells."""
        self._local.pop(ssrc, None)
        for section in self._peer.negotiation.sections:
            if section.local is not None and section.local.ssrc == ssrc:
                section.local = None

    async def _offer_section(self, kind: MediaKind, media: LocalMedia) -> Section:
        section = self._peer.negotiation.add_sender(kind, media)
        self._answered = asyncio.get_running_loop().create_future()
        self._send_description("offer", await self._peer.create_offer())
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await self._answered
        except TimeoutError:
            self._peer.negotiation.withdraw_offer()
            raise MediaFailed(f"no answer to our offer within {_ANSWER_TIMEOUT_S:g} s") from None
        return section

    async def _take_lock(self) -> None:
        try:
            async with asyncio.timeout(_LOCK_TIMEOUT_S):
                while True:
                    self._send_on_channel(DcMessage(DcType.LOCK))
                    if await self._lock_replies.receive():
                        return
                    await asyncio.sleep(_LOCK_RETRY_S)
        except TimeoutError:
            raise MediaFailed(f"no signaling lock within {_LOCK_TIMEOUT_S:g} s") from None

    # negotiation

    async def _negotiate(self) -> None:
        async for description in self._descriptions:
            try:
                await self._apply(description)
            except RtcError as error:
                self._log.warning("description.refused", reason=str(error), kind=description.kind)

    async def _apply(self, description: _Description) -> None:
        if description.kind == "answer":
            await self._peer.accept_answer(description.text)
            if self._answered is not None and not self._answered.done():
                self._answered.set_result(None)
        else:
            answer = await self._peer.accept_offer(description.text)
            if description.over_channel and self._channel is not None and self._channel.open:
                packed = calls_dc.pack_sdp("answer", answer)
                self._send_on_channel(DcMessage(DcType.SDP, packed))
            else:
                self._send_description("answer", answer)
        self._match_tracks(self._peer.negotiation.remote_media())

    def _match_tracks(self, announced: list[RemoteMedia]) -> None:
        """Identity is msid and SSRC of the newest description, never the mid (trap 20)."""
        wanted = {ssrc: media for media in announced for ssrc in media.ssrcs}
        for ssrc, receiver in list(self._receivers.items()):
            media = wanted.get(ssrc)
            gone = media is None or media.msid.track_id != receiver.track.track_id
            # A speaker's section loses its track when she leaves; video says so by itself.
            if gone and not receiver.track.source.is_audio:
                self._end_receiver(receiver)
        for ssrc, media in wanted.items():
            if ssrc not in self._receivers:
                self._start_receiver(ssrc, media)

    def _start_receiver(self, ssrc: int, media: RemoteMedia) -> None:
        parts = media.msid.track_id.split("_")
        try:
            source = TrackSource(parts[0])
        except ValueError:
            self._log.warning("track.ignored", reason="unknown type in its id")
            return
        if len(parts) != 3 or source.is_audio != (media.kind == "audio"):
            self._log.warning("track.ignored", reason="its id is not type_session_suffix")
            return
        if parts[1] == self._own_session_id:
            return
        track = RemoteTrack(
            track_id=media.msid.track_id,
            session_id=parts[1],
            source=source,
            codec=Codec.OPUS if source.is_audio else Codec.VP8,
            request_key_frame=None if source.is_audio else lambda: self._request_key_frame(ssrc),
        )
        wait_ns = _AUDIO_WAIT_NS if source.is_audio else _VIDEO_WAIT_NS
        self._receivers[ssrc] = TrackReceiver(track, ssrc=ssrc, max_wait_ns=wait_ns)
        self._log.info("track.added", track_id=track.track_id, ssrc=ssrc)
        self._emit(TrackAdded(track))

    def _end_receiver(self, receiver: TrackReceiver) -> None:
        self._receivers.pop(receiver.ssrc, None)
        receiver.finish()
        receiver.track.end()
        self._emit(TrackEnded(receiver.track))

    # timers

    async def _tick_forever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            now_ns = time.monotonic_ns()
            for receiver in self._receivers.values():
                missing = receiver.tick(now_ns)
                if missing:
                    self._peer.send_rtcp(
                        build_nack(sender_ssrc=1, media_ssrc=receiver.ssrc, sequences=missing)
                    )
            if ticks % _REPORT_EVERY_TICKS == 0:
                self._report()

    def _report(self) -> None:
        """Once a second: receiver and sender reports, and a ping as other clients send it."""
        self._send_on_channel(DcMessage(DcType.PING))
        blocks = [receiver.report() for receiver in self._receivers.values()]
        for start in range(0, len(blocks), 31):
            self._peer.send_rtcp(build_receiver_report(ssrc=1, blocks=blocks[start : start + 31]))
        for track in self._local.values():
            report = track.sender_report(time.time_ns(), time.monotonic_ns())
            if report is not None:
                self._peer.send_rtcp(report)

    def _request_key_frame(self, ssrc: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._pli_sent_ns.get(ssrc, -_PLI_INTERVAL_NS) < _PLI_INTERVAL_NS:
            return
        self._pli_sent_ns[ssrc] = now_ns
        receiver = self._receivers.get(ssrc)
        if receiver is not None:
            receiver.track.statistics.key_frames_requested += 1
            self._peer.send_rtcp(build_pli(sender_ssrc=1, media_ssrc=ssrc))

    def _send_on_channel(self, message: DcMessage) -> None:
        if self._channel is not None:
            self._channel.send(calls_dc.encode(message))

    # PeerEvents

    def peer_connected(self) -> None:
        self._log.info("media.connected")

    def peer_failed(self, reason: str) -> None:
        if not self._failed.done():
            self._failed.set_result(reason)

    def channel_opened(self, channel: DataChannel) -> None:
        self._channel = channel
        self._channel_open.set()

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        if isinstance(message, str):
            return
        try:
            parsed = calls_dc.decode(message)
            if parsed.type is DcType.LOCK:
                self._lock_replies.offer(bool(parsed.payload))
            elif parsed.type is DcType.SDP:
                kind, text = calls_dc.unpack_sdp(parsed.payload)
                self.description_received(kind, text, over_channel=True)
        except DcError as error:
            self._log.warning("channel.message_refused", reason=str(error))

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        header = parse_rtp(packet)
        if header is None:
            return
        receiver = self._receivers.get(header.ssrc)
        if receiver is not None:
            receiver.packet_received(packet, header, arrival_ns)
        elif header.ssrc not in self._unknown_ssrcs and (
            len(self._unknown_ssrcs) < _UNKNOWN_SSRC_LIMIT
        ):
            self._unknown_ssrcs.add(header.ssrc)
            self._log.warning("rtp.unknown_ssrc", ssrc=header.ssrc)

    def rtcp_received(self, compound: bytes) -> None:
        for message in parse_rtcp(compound):
            if isinstance(message, KeyFrameRequest):
                track = self._local.get(message.media_ssrc)
                if track is not None:
                    track.key_frame_requested()

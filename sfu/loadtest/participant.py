"""One simulated participant: joins, publishes its part, receives, leaves."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from foundation.channel import Channel, ChannelClosed
from rtc import calls_dc
from rtc.calls_dc import DcError
from rtc.errors import RtcError
from rtc.peer import Peer
from rtc.rtcp import KeyFrameRequest, Nack, build_pli, parse_rtcp
from rtc.sctp import DataChannel
from rtc.sections import Section
from sfu.loadtest.capabilities import AUDIO_LEVEL, client_capabilities
from sfu.loadtest.negotiator import Negotiator
from sfu.loadtest.plan import Participation
from sfu.loadtest.receiving import Receiver
from sfu.loadtest.reports import Reports
from sfu.loadtest.shared import ParticipantFailed, Shared
from sfu.loadtest.sources import Source, VideoSource, VoiceSource
from sfu.loadtest.stamp import SCREEN, VOICE, kind_of, track_number
from sfu.loadtest.transport import ice_factory, lossy_send
from sfu.messages import Join, Leave, Rtc, RtcMessage, RtcType

_CANDIDATES_CAPACITY: Final = 64
_SPREAD_NS: Final = 20_000_000


class Participant:
    """`run` in a task, `leave`, then `close`."""

    def __init__(self, part: Participation, shared: Shared) -> None:
        plan = shared.plan
        self.part = part
        self.session_id = f"{plan.session_prefix}{part.number:06d}"
        self.failure: str | None = None
        """Why it is not (or no longer) in the call."""
        self.sources: list[Source] = []
        own = {track_number(part.number, kind) for kind in (VOICE, SCREEN)}
        self.expected = plan.tracks_of_call(part.call) - own
        self._shared = shared
        self._plan = plan
        self.receiver = Receiver(
            expected=self.expected,
            window=shared.window,
            delays=shared.delays,
            delay_every=plan.delay_every,
            on_first=self._first_packet,
        )
        loss = plan.loss_percent / 100
        self._loss_up = loss if plan.loss_direction in ("up", "both") else 0.0
        self._peer = Peer(
            ice=ice_factory(
                plan.local_address,
                tcp=plan.tcp,
                loss=loss if plan.loss_direction in ("down", "both") else 0.0,
            ),
            capabilities=client_capabilities(transport_cc=plan.transport_cc),
            events=self,
            certificate=shared.certificate,
            channel_label=calls_dc.CHANNEL_LABEL,
            connect_timeout_s=plan.join_timeout_s,
        )
        # The hot path ends in the receiver, without a stop here.
        self.rtp_received: Callable[[bytes, int], None] = self.receiver.packet_received
        self._negotiator = Negotiator(
            self.session_id,
            self._peer,
            shared,
            on_transport_cc=self.receiver.report_arrivals,
            on_answer=self._answered,
        )
        self._reports = Reports(
            self.receiver,
            self.sources,
            send_rtcp=self._peer.send_rtcp,
            send_on_channel=self._negotiator.send_on_channel,
            hears_voice=any(kind_of(track) == VOICE for track in self.expected),
        )
        self._candidates: Channel[str] = Channel(_CANDIDATES_CAPACITY)
        self._opened = asyncio.Event()
        self._leaving = asyncio.Event()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stage = "no answer to the first offer"
        self._join_ns = self._opened_ns = 0
        self._heard_anybody = False
        self._over = False

    @property
    def joined(self) -> bool:
        """Its data channel has been open."""
        return self._opened_ns > 0

    @property
    def settled(self) -> bool:
        """It publishes what it should and hears everybody it should, or has failed."""
        wanted = self.part.unmuted + self.part.shares_screen
        complete = len(self.sources) == wanted and len(self.receiver.tracks) == len(self.expected)
        return self.failure is not None or (self.joined and complete)

    async def run(self) -> None:
        """From the join to `leave`; a failure ends it early and is kept in `failure`."""
        working = [
            asyncio.create_task(self._take_part(), name="participant"),
            asyncio.create_task(self._negotiator.run(), name="participant-negotiation"),
            asyncio.create_task(self._add_candidates(), name="participant-candidates"),
        ]
        try:
            waiting: list[asyncio.Future[Any]] = [*working, self._failed]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self.failure = self._failed.result()
            for task in working:
                if task.done():
                    await task
        except (ParticipantFailed, RtcError) as error:
            self.failure = str(error)
        finally:
            if self.failure is not None:
                self._stop_sending()
            for task in working:
                task.cancel()
            await asyncio.wait(working)

    def leave(self) -> None:
        """Let `run` return."""
        self._leaving.set()

    async def close(self) -> None:
        """Tell the SFU and free the connection."""
        self._over = self._reports.stopped = True
        self._stop_sending()
        if self._join_ns:
            self._shared.connection.send(Leave(self.session_id))
        self._negotiator.close()
        self._candidates.close()
        await self._peer.close()

    # its course

    async def _take_part(self) -> None:
        await self._join()
        if self.part.unmuted:
            await self._publish_voice()
        if self.part.shares_screen:
            await self._publish_screen()
        await self._leaving.wait()

    async def _join(self) -> None:
        plan = self._plan
        self._peer.negotiation.add_data_section()
        offer = await self._peer.create_offer()
        self._join_ns = time.monotonic_ns()
        call_id = plan.call_id(self.part.call)
        self._shared.connection.send(
            Join(
                call_id=call_id,
                user_id=self.session_id,
                session_id=self.session_id,
                channel_id=call_id,
                dc_signaling=plan.dc_signaling,
            )
        )
        self._negotiator.send_first_offer(offer)
        try:
            async with asyncio.timeout(plan.join_timeout_s):
                await self._opened.wait()
        except TimeoutError:
            raise ParticipantFailed(f"{self._stage} within {plan.join_timeout_s:g} s") from None
        hears_video = any(kind_of(track) == SCREEN for track in self.expected)
        self._reports.start(self._shared.pacer, feedback=hears_video or plan.transport_cc)

    async def _publish_voice(self) -> None:
        ssrc, section = await self._negotiator.publish("audio", f"voice{secrets.token_hex(8)}")
        self._tell(RtcType.UNMUTE)
        self._start(
            VoiceSource(
                track=track_number(self.part.number, VOICE),
                ssrc=ssrc,
                payload_type=_payload_type(section, "opus"),
                level_id=section.extensions.get(AUDIO_LEVEL),
                payload_bytes=self._plan.audio_bytes,
                send=self._way_out(),
                window=self._shared.window,
            )
        )

    async def _publish_screen(self) -> None:
        stream_id = f"screen{secrets.token_hex(8)}"
        self._tell(RtcType.SCREEN_ON, {"screenStreamID": stream_id})
        ssrc, section = await self._negotiator.publish("video", stream_id)
        self._start(
            VideoSource(
                track=track_number(self.part.number, SCREEN),
                ssrc=ssrc,
                payload_type=_payload_type(section, "VP8"),
                packet_bytes=self._plan.video_packet_bytes,
                rate_bps=self._plan.video_bps,
                frames_per_s=self._plan.video_frames_per_s,
                send=self._way_out(),
                window=self._shared.window,
            )
        )

    def _way_out(self) -> Callable[[bytes], None]:
        send = self._peer.send_rtp
        return lossy_send(send, self._loss_up) if self._loss_up else send

    def _start(self, source: Source) -> None:
        self.sources.append(source)
        # Not all in the same moment of the 20 ms.
        first_ns = time.monotonic_ns() + random.randrange(_SPREAD_NS)
        self._shared.pacer.add(first_ns, source.send_due)

    async def _add_candidates(self) -> None:
        async for line in self._candidates:
            await self._peer.add_remote_candidate(line)

    # from the SFU, by the plugin's connection

    def message_received(self, message: RtcMessage) -> None:
        try:
            if message.type is RtcType.SDP:
                kind, text = calls_dc.read_sdp_json(message.data)
                self._negotiator.description_received(kind, text, over_channel=False)
            elif message.type is RtcType.ICE:
                candidate = json.loads(message.data)["candidate"]["candidate"]
                self._candidates.offer(str(candidate))
        except (DcError, ValueError, KeyError, TypeError) as error:
            self._shared.refused[f"{message.type.name}: {type(error).__name__}"] += 1
        except ChannelClosed:
            return

    def closed_by_server(self) -> None:
        """The SFU ended the session."""
        if not self._over:
            when = "while in the call" if self._opened_ns else f"before the call ({self._stage})"
            self.peer_failed(f"the SFU closed the session {when}")

    # PeerEvents

    def peer_connected(self) -> None:
        self._stage = "no data channel"
        self._time_since_join("connected")

    def peer_failed(self, reason: str) -> None:
        if not self._failed.done():
            self._failed.set_result(reason)

    def channel_opened(self, channel: DataChannel) -> None:
        self._negotiator.channel = channel
        self._opened_ns = time.monotonic_ns()
        self._time_since_join("join")
        self._opened.set()

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        self._negotiator.channel_message(message)

    def rtcp_received(self, compound: bytes) -> None:
        for message in parse_rtcp(compound):
            if isinstance(message, KeyFrameRequest | Nack):
                for source in self.sources:
                    if source.ssrc == message.media_ssrc and isinstance(source, VideoSource):
                        if isinstance(message, Nack):
                            source.repeat(message.sequences)
                        else:
                            source.request_key_frame()

    # helpers

    def _stop_sending(self) -> None:
        for source in self.sources:
            source.stopped = True

    def _answered(self) -> None:
        self._stage = "no connection (ICE, DTLS)"
        self._time_since_join("answer")

    def _first_packet(self, track: int, started_ns: int, arrival_ns: int) -> None:
        self._shared.timings["track_start"].record(arrival_ns - max(started_ns, self._opened_ns))
        if not self._heard_anybody and started_ns <= self._join_ns:
            self._shared.timings["first_media"].record(arrival_ns - self._join_ns)
        self._heard_anybody = True
        if kind_of(track) == SCREEN:  # as Go clients do (rtcd.md 3.8)
            ssrc = self.receiver.tracks[track].ssrc
            self._peer.send_rtcp(build_pli(sender_ssrc=1, media_ssrc=ssrc))

    def _time_since_join(self, name: str) -> None:
        self._shared.timings[name].record(time.monotonic_ns() - self._join_ns)

    def _tell(self, kind: RtcType, value: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode() if value is not None else b""
        self._shared.connection.send(Rtc(RtcMessage(kind, self.session_id, data)))


def _payload_type(section: Section, codec: str) -> int:
    number = section.payload_type(codec)
    if number is None:
        raise ParticipantFailed(f"the SFU does not take {codec}")
    return number

"""The media half of a call client: one peer connection to the SFU, tracks in and out.

Signaling hands in what the server sent and takes what must go back; nothing here knows the WebSocket.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from callclient.errors import MediaFailed
from callclient.events import CallEvent
from callclient.lock import LockClient
from callclient.network_reports import REPORT_INTERVAL_S, NetworkReports, StreamCounters
from callclient.path_keeper import PathKeeper
from callclient.publish import LocalTrack
from callclient.publishing import AUDIO_LEVEL, Publishing
from callclient.receive.latency import CAPTIONS, LatencyBudget
from callclient.receive.receiving import Receiving
from callclient.receive.routing import MID, RID
from callclient.transport import MediaTransport
from foundation.channel import Channel, ChannelClosed
from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import MAX_INFLATED_SDP_BYTES, DcError, DcMessage, DcType
from rtc.errors import RtcError
from rtc.negotiation import Capabilities
from rtc.peer import Peer
from rtc.rtcp import KeyFrameRequest, SenderReport, parse_rtcp
from rtc.sctp import DataChannel
from rtc.sdp import CodecDescription, MediaKind
from rtc.sections import LocalMedia
from rtc.transport_cc import EXTENSION_URI as TRANSPORT_CC

_VIDEO_FEEDBACK = ("nack", "nack pli", "transport-cc")
CAPABILITIES = Capabilities(
    audio_codecs=(
        CodecDescription(
            111, "opus", 48_000, 2, "minptime=10;useinbandfec=1", feedback=("transport-cc",)
        ),
    ),
    video_codecs=(CodecDescription(96, "VP8", 90_000, feedback=_VIDEO_FEEDBACK),),
    audio_extensions=(AUDIO_LEVEL, TRANSPORT_CC),
    video_extensions=(TRANSPORT_CC, MID, RID),
)
"""Without AV1, as we say `av1Support:false` then (trap 24). With transport-wide numbers: from their feedback
the SFU knows that we can take the high layer of a screen (trap 25)."""
CAPABILITIES_WITH_AV1 = replace(
    CAPABILITIES,
    video_codecs=(
        *CAPABILITIES.video_codecs,
        CodecDescription(45, "AV1", 90_000, feedback=_VIDEO_FEEDBACK),
    ),
)
_TICK_S = 0.02
_IDLE_TICK_S = 0.1
"""While no packet waits for another: fifty timers a second would cost as much as a shared screen."""
_REPORT_EVERY_S = 1.0
_DESCRIPTION_CAPACITY = 64
_ENVELOPE_BYTES = 64
_MAX_OFFER_BYTES = 1 << 20
"""Inflated. The SFU's own descriptions have no limit, and sections of people who left pile up in them."""


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
        can_send: Callable[[str], bool] = lambda _: True,
        transport: MediaTransport | None = None,
        latency: LatencyBudget = CAPTIONS,
        av1: bool = False,
    ) -> None:
        """`send_description(type, sdp)` goes out over the WebSocket, at once if `can_send(sdp)`.

        `av1`: the join said `av1Support`, so there must be a decoder.
        """
        self._send_description = send_description
        self._can_send = can_send
        self._transport = transport or MediaTransport()
        self._peer = Peer(
            ice=self._transport.create,
            capabilities=CAPABILITIES_WITH_AV1 if av1 else CAPABILITIES,
            events=self,
            channel_label=calls_dc.CHANNEL_LABEL,
            connect_timeout_s=connect_timeout_s,
        )
        self._descriptions: Channel[_Description] = Channel(_DESCRIPTION_CAPACITY)
        self._channel: DataChannel | None = None
        self._channel_open = asyncio.Event()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._woken = asyncio.Event()
        """Packets wait for others since then."""
        self._receiving = Receiving(
            own_session_id=own_session_id,
            budget=latency,
            send_rtcp=self._peer.send_rtcp,
            emit=emit,
            rtt_s=lambda: self._peer.rtt_s,
            wake=self._woken.set,
        )
        self._lock = LockClient(self._send_on_channel)
        self._answered_offer = ""
        self._flowing = False
        """A packet of a track has come."""
        self._publishing = Publishing(self._peer, self._lock, send_offer=self._send_offer)
        self._keeper = PathKeeper(self._transport, offer_restart=self._restart_ice, emit=emit)
        self._network = NetworkReports()
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
                tasks.create_task(self._transport.run(), name="ice-servers"),
                tasks.create_task(self._keep_path(), name="path"),
            ]
            reason = await self._failed
            for worker in workers:
                worker.cancel()
        raise MediaFailed(reason)

    def explain(self, reason: str) -> str:
        """`reason` with every candidate pair that was tried, and what became of it."""
        return self._transport.explain(reason)

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
        self._receiving.participant_left(session_id)

    def screen_shared_by(self, session_id: str) -> None:
        """Who shares by the server's word; empty for nobody."""
        self._receiving.screen_shared_by(session_id)

    async def close(self) -> None:
        """End all tracks and free the connection."""
        self._descriptions.close()
        self._receiving.close()
        await self._peer.close()

    async def publish(self, kind: MediaKind, media: LocalMedia) -> LocalTrack:
        """Offer one more track. Raises MediaFailed: no lock, or no usable answer in time."""
        return await self._publishing.publish(kind, media)

    def unpublish(self, ssrc: int) -> None:
        """Stop using a track's section; the next offer tells."""
        self._publishing.unpublish(ssrc)

    async def _keep_path(self) -> None:
        await self._channel_open.wait()  # from then on pings are answered
        await self._keeper.run()

    async def _restart_ice(self) -> bool:
        # An offer that waits for a WebSocket would be out of date when it gets there.
        return self._can_send("") and await self._publishing.restart_ice()

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
            self._publishing.answered()
        elif description.text == self._answered_offer:
            # It came twice. A second answer would be taken for the one to the next offer (trap 17).
            self._log.info("description.repeated")
            return
        else:
            self._publishing.give_way()
            answer = await self._peer.accept_offer(description.text)
            self._answered_offer = description.text
            self._send_answer(answer, over_channel=description.over_channel)
        announced = self._peer.negotiation.remote_media()
        self._receiving.announced(announced, time.monotonic_ns())

    def _send_answer(self, answer: str, *, over_channel: bool) -> None:
        # Both ways work always (calls-plugin.md 4.3), but the plugin drops what is too large, and without a
        # WebSocket nothing gets there in time; nor does it over a path that has just died. One way only: a
        # second answer would be taken for the one to the next offer.
        by_websocket = not _too_large(answer) and self._can_send(answer)
        if by_websocket and (not over_channel or self._transport.doubtful):
            self._send_description("answer", answer)
            return
        packed = calls_dc.pack_sdp("answer", answer)
        if not self._send_on_channel(DcMessage(DcType.SDP, packed)):
            self._send_description("answer", answer)

    def _send_offer(self, offer: str) -> None:
        if _too_large(offer):
            packed = calls_dc.pack_sdp("offer", offer)
            # Not over a path that is dead: it would get there when nobody waits for its answer any more.
            usable = not self._transport.doubtful
            if usable and self._send_on_channel(DcMessage(DcType.SDP, packed)):
                return
            self._log.warning("offer.too_large", bytes=len(offer))
        self._send_description("offer", offer)

    # timers

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        report_s, reports = loop.time() + _REPORT_EVERY_S, 0
        while True:
            await self._until_tick(min(_IDLE_TICK_S, report_s - loop.time()))
            self._receiving.tick(time.monotonic_ns())
            if loop.time() < report_s:
                continue
            report_s, reports = max(report_s + _REPORT_EVERY_S, loop.time()), reports + 1
            self._report()
            if reports % REPORT_INTERVAL_S == 0:
                self._report_network()

    async def _until_tick(self, idle_s: float) -> None:
        if not self._receiving.busy:
            self._woken.clear()
            try:
                async with asyncio.timeout(max(0.0, idle_s)):
                    await self._woken.wait()
            except TimeoutError:
                return
        await asyncio.sleep(_TICK_S)

    def _report(self) -> None:
        """Once a second: receiver and sender reports, and a ping as other clients send it."""
        self._network.pinged()
        self._send_on_channel(DcMessage(DcType.PING))
        now_ns = time.monotonic_ns()
        self._receiving.report(now_ns)
        for track in self._publishing.tracks.values():
            report = track.sender_report(time.time_ns(), now_ns)
            if report is not None:
                self._peer.send_rtcp(report)

    def _report_network(self) -> None:
        streams = [StreamCounters.of(track) for track in self._receiving.tracks]
        for message in self._network.messages(streams, rtt_s=self._peer.rtt_s):
            self._send_on_channel(message)

    def _send_on_channel(self, message: DcMessage) -> bool:
        """False: it is not open, or too much waits in it."""
        return self._channel is not None and self._channel.send(calls_dc.encode(message))

    # PeerEvents

    def peer_connected(self) -> None:
        self._log.info("media.connected")

    def peer_failed(self, reason: str) -> None:
        if not self._failed.done():
            self._failed.set_result(self.explain(reason))

    def channel_opened(self, channel: DataChannel) -> None:
        self._channel = channel
        self._channel_open.set()

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        if isinstance(message, str):
            return
        try:
            parsed = calls_dc.decode(message)
            if parsed.type is DcType.PONG:
                self._network.ponged()
            elif parsed.type is DcType.LOCK:
                self._lock.replied(bool(parsed.payload))
            elif parsed.type is DcType.SDP:
                kind, text = calls_dc.unpack_sdp(parsed.payload, limit_bytes=_MAX_OFFER_BYTES)
                self.description_received(kind, text, over_channel=True)
        except DcError as error:
            self._log.warning("channel.message_refused", reason=str(error))

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        if not self._flowing:
            self._flowing = True
            self._log.info("media.flowing")
        self._receiving.rtp_received(packet, arrival_ns)

    def rtcp_received(self, compound: bytes) -> None:
        for message in parse_rtcp(compound):
            if isinstance(message, KeyFrameRequest):
                track = self._publishing.tracks.get(message.media_ssrc)
                if track is not None:
                    track.key_frame_requested()
            elif isinstance(message, SenderReport):
                self._receiving.sender_report_received(message, time.monotonic_ns())


def _too_large(sdp: str) -> bool:
    """For the plugin, which drops it then (calls-plugin.md 2, `sdp`)."""
    return len(json.dumps(sdp)) + _ENVELOPE_BYTES > MAX_INFLATED_SDP_BYTES

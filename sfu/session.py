"""One participant's peer connection at the SFU: its life, and who gets each of its messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from foundation.channel import Channel, ChannelClosed
from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError, DcMessage, DcType
from rtc.certificates import Certificate
from rtc.errors import RtcError
from rtc.peer import IceFactory, Peer
from rtc.rtcp import KeyFrameRequest, Nack, SenderReport, TransportFeedback, parse_rtcp
from rtc.sctp import DataChannel
from sfu.call import Call
from sfu.capabilities import CAPABILITIES
from sfu.descriptions import DescriptionReader
from sfu.forwarding.tracks import UpTrack
from sfu.limited_log import LimitedLog
from sfu.limits import Limits
from sfu.lock import SignalingLock
from sfu.media_port import SessionConfig, SessionOutlet
from sfu.messages import RtcMessage, RtcType
from sfu.metrics import SfuMetrics
from sfu.publishing import Publisher
from sfu.session_outbox import SessionOutbox, json_text
from sfu.subscribing import Subscriber

FIRST_OFFER_TIMEOUT_S = 10.0
_SIGNALING_CAPACITY = 64


class Session:
    """Made by a join; `run` until it returns, then `close`."""

    def __init__(
        self,
        config: SessionConfig,
        *,
        call: Call,
        ice: IceFactory,
        send: SessionOutlet,
        metrics: SfuMetrics,
        certificate: Certificate | None = None,
        connect_timeout_s: float = 30.0,
        history_packets: int = 256,
        limits: Limits | None = None,
    ) -> None:
        self.config = config
        limits = limits or Limits()
        self._call = call
        self._metrics = metrics
        self._outbox = SessionOutbox(config, send)
        self._peer = Peer(
            ice=ice,
            capabilities=CAPABILITIES,
            events=self,
            certificate=certificate,
            connect_timeout_s=connect_timeout_s,
        )
        self._offers: Channel[tuple[str, bool]] = Channel(_SIGNALING_CAPACITY)
        self._answers: Channel[str] = Channel(_SIGNALING_CAPACITY)
        self._lock = SignalingLock(held=partial(metrics.lock_locked_time, config.group_id))
        self._channel_open = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._publisher = Publisher(
            session_id=config.session_id,
            group_id=config.group_id,
            call=call,
            send_rtcp=self._peer.send_rtcp,
            voice_changed=self._outbox.voice,
            metrics=metrics,
            history_packets=history_packets,
            limits=limits,
        )
        self._subscriber = Subscriber(
            config,
            call=call,
            peer=self._peer,
            outbox=self._outbox,
            lock=self._lock,
            answers=self._answers,
            answered=self._announced,
            metrics=metrics,
        )
        self._refused: dict[str, int] = {}
        """Of the peer, as told so far."""
        self._began = self._answered_at = time.monotonic()
        self._log = get_logger(component="session", session_id=config.session_id)
        self._told = LimitedLog(self._log)
        """For what its client causes."""
        self._descriptions = DescriptionReader(
            limits, metrics, config.group_id, self._told, now_ns=time.monotonic_ns()
        )

    @property
    def ready(self) -> bool:
        """Its data channel is open: tracks may be announced."""
        return self._channel_open.is_set()

    def bind(self, send: SessionOutlet) -> None:
        """Send this session's messages somewhere else from now on."""
        self._outbox.outlet = send

    async def run(self) -> str:
        """Serve the session; returns the reason of its end."""
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._negotiate_for_client(), name="client-offers"),
                tasks.create_task(self._announce_tracks(), name="track-changes"),
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
        self._offers.close()
        self._answers.close()
        self._subscriber.close()
        self._publisher.close()
        self._count_refused()
        await self._peer.close()
        self._metrics.conn_state("closed")
        self._outbox.close()

    # the server's ticker

    def tick(self, now_ns: int) -> None:
        """Every 100 ms."""
        if self._publisher.active:
            self._publisher.tick(now_ns)

    def report(self, now_ns: int, now_ntp: int) -> None:
        """Every second."""
        self._count_refused()
        if self._publisher.active:
            self._publisher.report(now_ns)
        if self._subscriber.active:
            self._subscriber.report(now_ns, now_ntp)

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
                stream_id = json_text(message.data, "screenStreamID")
                if self._call.start_screen(self.config.session_id, stream_id):
                    self._publisher.screen_started()
                else:
                    self._told.warning("screen.refused", reason="somebody else is sharing")
            case RtcType.SCREEN_OFF:
                if self._call.stop_screen(self.config.session_id):
                    self._publisher.forget_ended_tracks()
                else:
                    self._told.warning("screen.off_refused", reason="this session does not share")
            case RtcType.VIDEO_ON:
                self._publisher.video_stream_id = json_text(message.data, "videoStreamID")
            case RtcType.VIDEO_OFF:
                pass  # clients detach the track themselves (rtcd.md 3.6)
            case _:
                self._told.warning("message.unexpected", type=int(message.type))

    async def _remote_candidate(self, data: bytes) -> None:
        line = json_text(data, "candidate")
        if line:
            await self._peer.add_remote_candidate(line)

    def _description_received(self, data: bytes, *, over_channel: bool) -> None:
        found = self._descriptions.read(data, over_channel=over_channel, now_ns=time.monotonic_ns())
        if found is None:
            return
        kind, text = found
        try:
            if kind == "answer":
                accepted = self._answers.offer(text)
            else:
                accepted = self._offers.offer((text, over_channel))
        except ChannelClosed:
            return
        if not accepted:
            self._refuse("sdp")
            self._told.warning("sdp.dropped", reason="queue is full", kind=kind)

    def _refuse(self, kind: str, times: int = 1) -> None:
        group = self.config.group_id
        self._metrics.add("rtcd_rtc_refused_total", group, kind, amount=times)

    def _count_refused(self) -> None:
        found, told = self._peer.refused(), self._refused
        if found != told:
            self._refused = found
            for kind, total in found.items():
                grown = total - told.get(kind, 0)
                if grown and kind == "check":
                    group = self.config.group_id
                    self._metrics.add("rtcd_rtc_checks_held_total", group, amount=grown)
                elif grown:
                    self._refuse(kind, grown)

    # negotiation started by the client

    async def _negotiate_for_client(self) -> None:
        try:
            async with asyncio.timeout(FIRST_OFFER_TIMEOUT_S):
                text, over_channel = await self._offers.receive()
        except TimeoutError:
            self._metrics.error(self.config.group_id, "signaling")
            self.end(f"no offer within {FIRST_OFFER_TIMEOUT_S:g} s")
            return
        try:
            answer = await self._peer.accept_offer(text)
        except RtcError as error:
            self._metrics.error(self.config.group_id, "signaling")
            self._refuse("offer")
            self.end(f"the first offer cannot be used: {error}")
            return
        self._answered_at = time.monotonic()
        self._outbox.description("answer", answer, over_channel=over_channel)
        self._announced()
        for candidate in self._peer.local_candidates:
            self._outbox.candidate(candidate)
        # Nothing of the client's is negotiated before its data channel is open (rtcd.md 3.1).
        await self._channel_open.wait()
        async for text, over_channel in self._offers:
            await self._answer_later_offer(text, over_channel=over_channel)

    async def _answer_later_offer(self, text: str, *, over_channel: bool) -> None:
        if self._peer.negotiation.offering:
            self._told.info("offer.ignored", reason="an offer of ours is open")
            return
        try:
            answer = await self._peer.accept_offer(text)
        except RtcError as error:
            self._metrics.error(self.config.group_id, "signaling")
            self._refuse("offer")
            self._told.warning("offer.refused", reason=str(error))
            return
        self._outbox.description("answer", answer, over_channel=over_channel)
        self._announced()

    def _announced(self) -> None:
        self._publisher.announced(self._peer.negotiation.remote_media())
        self._subscriber.renegotiated()

    # tracks of others

    def subscribe(self, track: UpTrack, *, live: bool) -> None:
        self._subscriber.subscribe(track, live=live)

    def unsubscribe(self, track: UpTrack) -> None:
        self._subscriber.unsubscribe(track)

    async def _announce_tracks(self) -> None:
        await self._channel_open.wait()
        await self._subscriber.run()

    # PeerEvents

    def peer_connected(self) -> None:
        self._metrics.conn_state("connected")
        self._metrics.connection_time(self.config.group_id, time.monotonic() - self._began)
        self._log.info("session.connected")

    def peer_failed(self, reason: str) -> None:
        self._metrics.conn_state("failed")
        self._metrics.error(self.config.group_id, "ice" if reason.startswith("ICE") else "rtp")
        self.end(reason)

    def channel_opened(self, channel: DataChannel) -> None:
        if self._outbox.channel is None:
            self._outbox.channel = channel
            self._metrics.dc_open_time(self.config.group_id, time.monotonic() - self._answered_at)
            self._channel_open.set()
            self._call.session_ready(self)

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        if message in ("ping", b"ping"):
            self._outbox.pong_text()
            return
        try:
            parsed = calls_dc.decode(message if isinstance(message, bytes) else message.encode())
        except DcError as error:
            self._refuse("channel_message")
            self._told.warning("channel.message_refused", reason=str(error))
            return
        group = self.config.group_id
        match parsed.type:
            case DcType.PING:
                self._outbox.on_channel(DcMessage(DcType.PONG))
            case DcType.LOCK:
                self._outbox.on_channel(DcMessage(DcType.LOCK, self._lock.try_for_client()))
            case DcType.UNLOCK:
                if not self._lock.release_by_client():
                    self._told.info("lock.unlock_ignored")
            case DcType.SDP:
                self._description_received(parsed.payload, over_channel=True)
            case DcType.LOSS_RATE:
                self._metrics.client_loss(group, max(0.0, parsed.payload))
            case DcType.ROUND_TRIP_TIME:
                self._metrics.client_rtt(group, max(0.0, parsed.payload))
            case DcType.JITTER:
                self._metrics.client_jitter(group, max(0.0, parsed.payload))

    @property
    def rtp_received(self) -> Callable[[bytes, int], None]:
        """Straight to the publisher: this is called for each packet."""
        return self._publisher.rtp_received

    def rtcp_received(self, compound: bytes) -> None:
        for message in parse_rtcp(compound):
            match message:
                case Nack():
                    self._subscriber.nack_received(message)
                case KeyFrameRequest():
                    self._subscriber.key_frame_requested(message.media_ssrc)
                case TransportFeedback(_, _, body):
                    self._subscriber.feedback_received(body)
                case SenderReport():
                    self._publisher.sender_report(message, time.monotonic_ns(), time.time_ns())
                case _:
                    pass  # receiver reports and estimates: transport feedback tells more

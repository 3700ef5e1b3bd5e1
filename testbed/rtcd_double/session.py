"""One participant at the double: its queues, its data channel, its packets (rtcd.md 3.1–3.3, 3.8)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from foundation.channel import Channel, ChannelClosed
from foundation.logs import get_logger
from rtc import calls_dc
from rtc.calls_dc import DcError, DcMessage, DcType
from rtc.sctp import DataChannel
from sfu.media_port import SessionConfig, SessionOutlet
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.call import Call
from testbed.rtcd_double.feedback import Feedback
from testbed.rtcd_double.layers import Layer, LayerChoice
from testbed.rtcd_double.lock import OwnerlessLock
from testbed.rtcd_double.peering import MediaSocket
from testbed.rtcd_double.publishing import Publisher
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.signaling import Signaling
from testbed.rtcd_double.tracks import Published

_FEEDBACK_INTERVAL_S = 0.1


class Session:
    """Made by a join; `run` until it returns, then `close`."""

    def __init__(
        self,
        config: SessionConfig,
        *,
        call: Call,
        script: Script,
        socket: MediaSocket,
        send: SessionOutlet,
        connect_timeout_s: float,
    ) -> None:
        self.config = config
        self.published: list[Published] = []
        self.book = Book()
        self._call = call
        self._script = script
        self._joined_by = self._outlet = send
        self._peer, self._negotiation = socket.new_peer(
            self, script=script, connect_timeout_s=connect_timeout_s
        )
        self._lock = OwnerlessLock()
        self._channel: DataChannel | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._later: set[asyncio.TimerHandle] = set()
        self._publisher = Publisher(
            session_id=config.session_id,
            call=call,
            script=script,
            book=self.book,
            send_rtcp=self._peer.send_rtcp,
            voice_changed=self._voice_changed,
        )
        self._layers = LayerChoice(script)
        self._signaling = Signaling(
            config=config,
            script=script,
            book=self.book,
            peer=self._peer,
            negotiation=self._negotiation,
            lock=self._lock,
            send_description=self._send_description,
            send_media_map=self._send_media_map,
            first_answer_sent=self._trickle,
            described=lambda: self._publisher.announced(self._negotiation.remote_media()),
            end=self.end,
        )
        self._feedback = Feedback(
            call=call, book=self.book, signaling=self._signaling, layers=self._layers
        )
        self._candidates: Channel[str] = Channel(2 * script.queued_descriptions)
        self._log = get_logger(component="rtcd-double", session_id=config.session_id)

    # Receiver

    @property
    def ready(self) -> bool:
        return self._signaling.ready

    @property
    def layer_for_new_screen(self) -> Layer:
        return self._layers.for_new_screen

    def queue_add(self, published: Published) -> None:
        self._signaling.queue_add(published)

    def queue_remove(self, published: Published) -> None:
        self._signaling.queue_remove(published)

    def detach(self, published: Published) -> None:
        self._signaling.detach(published)

    # life

    async def run(self) -> str:
        """Serve the session; returns the reason of its end."""
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._signaling.run(self._queue_existing), name="signaling"),
                tasks.create_task(self._add_candidates(), name="candidates"),
                tasks.create_task(self._report_forever(), name="reports"),
                tasks.create_task(self._give_feedback_forever(), name="feedback"),
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
        """Free everything, then the last message."""
        for timer in self._later:
            timer.cancel()
        self._candidates.close()
        self._signaling.close()
        await self._peer.close()
        at_join = self._script.closes_at_the_joining_connection
        outlet = self._joined_by if at_join else self._outlet
        outlet(Close(self.config.session_id))

    def bind(self, send: SessionOutlet) -> None:
        self._outlet = send

    def switch_layer(self) -> None:
        """Change the simulcast layer now, as the original does when the estimate tells it to."""
        self._feedback.switch_layer(time.monotonic_ns())

    def _queue_existing(self) -> None:
        self._call.queue_existing(self)

    # messages of the plugin

    def handle(self, message: RtcMessage) -> None:
        match message.type:
            case RtcType.ICE:
                line = json_text(message.data, "candidate")
                if line:
                    self._offer_candidate(line)
            case RtcType.SDP:
                self._described(calls_dc.read_sdp_json, message.data, over_channel=False)
            case RtcType.MUTE | RtcType.UNMUTE:
                self._publisher.mute(message.type is RtcType.MUTE)
            case RtcType.SCREEN_ON:
                stream_id = json_text(message.data, "screenStreamID")
                if not self._call.start_screen(self.config.session_id, stream_id):
                    self._log.warning("screen.refused")
            case RtcType.SCREEN_OFF:
                self._call.stop_screen(self.config.session_id)
            case RtcType.VIDEO_ON:
                self._publisher.video_stream_id = json_text(message.data, "videoStreamID")
            case _:
                pass

    def _offer_candidate(self, line: str) -> None:
        try:
            self._candidates.offer(line)
        except ChannelClosed:
            return

    async def _add_candidates(self) -> None:
        async for line in self._candidates:
            await self._peer.add_remote_candidate(line)

    def _described(
        self, read: Callable[[bytes], tuple[str, str]], data: bytes, *, over_channel: bool
    ) -> None:
        try:
            kind, text = read(data)
        except DcError as error:
            self._log.warning("sdp.refused", reason=str(error))
            return
        if kind == "offer":
            self.book.client_offers.append(text)
            self._signaling.client_offered(text, over_channel=over_channel)
            return
        self.book.answers_over_channel += over_channel
        self._after(
            self._script.answers_arrive_after_s, lambda: self._signaling.client_answered(text)
        )

    # to the client

    def _send_description(self, kind: str, text: str, over_channel: bool) -> None:
        if over_channel:
            self._send_on_channel(DcMessage(DcType.SDP, calls_dc.pack_sdp(kind, text)))
            return
        data = json.dumps({"type": kind, "sdp": text}).encode()
        self._outlet(Rtc(self._message(RtcType.SDP, data)))

    def _trickle(self) -> None:
        for candidate in self._peer.local_candidates:
            init = {
                "candidate": f"candidate:{candidate}",
                "sdpMid": "",
                "sdpMLineIndex": 0,
                "usernameFragment": None,
            }
            data = json.dumps({"type": "candidate", "candidate": init}).encode()
            self._outlet(Rtc(self._message(RtcType.ICE, data)))

    def _send_media_map(self) -> None:
        self._send_on_channel(
            DcMessage(
                DcType.MEDIA_MAP,
                {
                    transceiver.mid: {
                        "type": transceiver.sender.track.track_id.partition("_")[0],
                        "sender_id": self.config.session_id
                        if self._script.names_the_receiver_in_the_map
                        else transceiver.sender.track.stream_id,
                    }
                    for transceiver in self._negotiation.transceivers
                    if transceiver.sender is not None and transceiver.sender.track is not None
                },
            )
        )

    def _send_on_channel(self, message: DcMessage) -> None:
        if self._channel is not None:
            self._channel.send(calls_dc.encode(message))

    def _message(self, kind: RtcType, data: bytes = b"") -> RtcMessage:
        config = self.config
        return RtcMessage(
            kind, config.session_id, data, config.group_id, config.user_id, config.call_id
        )

    def _voice_changed(self, active: bool) -> None:
        self._outlet(Vad(self._message(RtcType.VOICE_ON if active else RtcType.VOICE_OFF)))

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        if not delay_s:
            action()
            return

        def act() -> None:
            self._later.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(delay_s, act)
        self._later.add(timer)

    # PeerEvents

    def peer_connected(self) -> None:
        self._log.info("session.connected")

    def peer_failed(self, reason: str) -> None:
        self.end(reason)

    def channel_opened(self, channel: DataChannel) -> None:
        if self._channel is None:
            self._channel = channel
            self._signaling.channel_open.set()

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        if message in ("ping", b"ping"):
            channel.send("pong")
            return
        try:
            parsed = calls_dc.decode(message if isinstance(message, bytes) else message.encode())
        except DcError as error:
            self._log.warning("channel.message_refused", reason=str(error))
            return
        match parsed.type:
            case DcType.PING:
                self.book.pings += 1
                self._send_on_channel(DcMessage(DcType.PONG))
            case DcType.LOCK:
                granted = self._lock.try_lock()
                self.book.lock_replies.append(granted)
                reply = DcMessage(DcType.LOCK, granted)
                self._after(self._script.lock_replies_after_s, lambda: self._send_on_channel(reply))
            case DcType.UNLOCK:
                if self._lock.by_server or not self._lock.taken:
                    self.book.foreign_unlocks += 1
                self._lock.unlock()
            case DcType.LOSS_RATE | DcType.ROUND_TRIP_TIME | DcType.JITTER:
                self.book.network_reports.append((parsed.type.name, parsed.payload))
            case DcType.SDP:
                self._described(_unpack, parsed.payload, over_channel=True)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        self._publisher.rtp_received(packet, arrival_ns)

    def rtcp_received(self, compound: bytes) -> None:
        self._feedback.received(compound, time.monotonic_ns())

    # timers

    async def _report_forever(self) -> None:
        while True:
            await asyncio.sleep(self._script.report_interval_s)
            reports = [out.sender_report() for out in self._signaling.outgoing()]
            for report in (*reports, self._publisher.receiver_report()):
                if report is not None:
                    self._peer.send_rtcp(report)

    async def _give_feedback_forever(self) -> None:
        while True:
            await asyncio.sleep(_FEEDBACK_INTERVAL_S)
            self._publisher.give_feedback()


def _unpack(data: bytes) -> tuple[str, str]:
    """Over the channel descriptions have no limit but the channel's."""
    return calls_dc.unpack_sdp(data, limit_bytes=1 << 20)


def json_text(data: bytes, key: str) -> str:
    """A text member of a JSON object, or empty."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    text = value.get(key) if isinstance(value, dict) else None
    return text if isinstance(text, str) else ""

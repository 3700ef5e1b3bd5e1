"""What one session receives: its down tracks, and the offers of ours that announce them (rtcd.md 3.5)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from foundation.channel import Channel
from foundation.logs import get_logger
from rtc.calls_dc import DcMessage, DcType
from rtc.errors import RtcError
from rtc.fanout import Outlet
from rtc.peer import Peer
from rtc.rtcp import Nack, build_source_name
from rtc.sdp import Msid
from rtc.sections import LocalMedia
from rtc.transport_cc import EXTENSION_URI as TRANSPORT_CC
from sfu.call import Call
from sfu.capabilities import AUDIO_LEVEL
from sfu.flood import TokenBucket
from sfu.forwarding.congestion import Congestion
from sfu.forwarding.down_track import DownTrack
from sfu.forwarding.layers import layer_at_join, layer_of_added_track
from sfu.forwarding.tracks import UpTrack, write_type
from sfu.lock import SignalingLock
from sfu.media_port import SessionConfig
from sfu.metrics import SfuMetrics
from sfu.session_outbox import SessionOutbox

ANSWER_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 5.0
LOCK_TIMEOUTS = 6
"""After so many in a row the lock is taken from the client; a collision of offers is its to resolve."""
OFFER_TRIES = 3
RETRY_PAUSE_S = 0.25
"""For a client that wants the lock itself: it asks every 50 to 100 ms."""
BATCH = 20
"""Changes in one offer at most: a newcomer to a big call needs few exchanges, and each stays small."""
REPETITIONS_PER_S = 1000
"""To one receiver: more than a screen has packets, and no lever for a flood."""
_CHANGE_CAPACITY = 4096


@dataclass(frozen=True, slots=True)
class _Change:
    action: Literal["add", "remove"]
    track: UpTrack
    live: bool
    """It was published while the session was there already."""


class Subscriber:
    """The outgoing side of one session. `run` in a task once the data channel is open."""

    def __init__(
        self,
        config: SessionConfig,
        *,
        call: Call,
        peer: Peer,
        outbox: SessionOutbox,
        lock: SignalingLock,
        answers: Channel[str],
        answered: Callable[[], None],
        metrics: SfuMetrics,
    ) -> None:
        """`answers`: the client's; `answered()` is called after each one that was taken."""
        self._config = config
        self._call = call
        self._peer = peer
        self._outbox = outbox
        self._lock = lock
        self._answers = answers
        self._answered = answered
        self._metrics = metrics
        self._changes: deque[_Change] = deque()
        self._changed = asyncio.Event()
        self._unanswered = 0
        """Offers in a row."""
        self._downs: dict[int, DownTrack] = {}
        self._congestion = Congestion(peer.egress)
        self._repetitions = TokenBucket(
            REPETITIONS_PER_S, REPETITIONS_PER_S, now_ns=time.monotonic_ns()
        )
        self._log = get_logger(component="subscriber", session_id=config.session_id)

    def subscribe(self, track: UpTrack, *, live: bool) -> None:
        """Queue the announcement of a track; returns at once."""
        self._queue(_Change("add", track, live))

    def unsubscribe(self, track: UpTrack) -> None:
        """Stop forwarding at once, and queue the removal."""
        down = self._down_of(track)
        if down is not None:
            track.remove_down(down)
        self._queue(_Change("remove", track, live=False))

    async def run(self) -> None:
        """Announce and remove tracks until cancelled."""
        while True:
            await self._changed.wait()
            await self._take_lock()
            try:
                await self._exchange()
            finally:
                self._lock.release_by_server()
            if self._unanswered:
                await asyncio.sleep(RETRY_PAUSE_S)

    def renegotiated(self) -> None:
        """The client has described its sections anew: keep to its numbers, and out of what it closed."""
        for down in list(self._downs.values()):
            section = down.section
            payload_type = section.payload_type(down.up.codec)
            if section.rejected or payload_type is None:
                self._log.warning("track.refused_later", track_id=down.up.track_id)
                section.local = None
                self._drop(down)
            else:
                self._use_numbers(down, payload_type)

    def close(self) -> None:
        """Stop receiving; idempotent."""
        if self._peer.egress.dropped:
            self._metrics.add(
                "rtcd_rtc_packets_dropped_total",
                self._config.group_id,
                "unsendable",
                amount=self._peer.egress.dropped,
            )
            self._peer.egress.dropped = 0
        for down in list(self._downs.values()):
            self._drop(down)
        self._changes.clear()

    # RTCP of the receiver

    def nack_received(self, message: Nack) -> None:
        down = self._downs.get(message.media_ssrc)
        if down is None:
            return
        now_ns = time.monotonic_ns()
        again = 0
        for sequence in message.sequences:
            # One small datagram may ask for a thousand packets.
            if not self._repetitions.take(now_ns):
                break
            again += down.repeat(sequence)
        group = self._config.group_id
        self._metrics.add("rtcd_rtc_nacks_total", group, "in", amount=len(message.sequences))
        self._metrics.add("rtcd_rtc_retransmissions_total", group, amount=again)

    def key_frame_requested(self, media_ssrc: int) -> None:
        down = self._downs.get(media_ssrc)
        if down is not None:
            self._metrics.add("rtcd_rtc_plis_total", self._config.group_id, "in")
            down.request_key_frame(time.monotonic_ns())

    def feedback_received(self, body: bytes) -> None:
        self._congestion.feedback(body, time.monotonic_ns())

    def report(self, now_ns: int, now_ntp: int) -> None:
        """Every second: sender reports, and the choice of simulcast layers."""
        for down in self._downs.values():
            self._count(down)
            packet = down.sender_report(now_ns, now_ntp)
            if packet is not None:
                name = build_source_name(ssrc=down.outlet.ssrc, cname=down.up.session_id)
                self._peer.send_rtcp(packet + name)
            if down.up.layered:
                direction = self._congestion.choose_layer(down, now_ns)
                if direction is not None:
                    group = self._config.group_id
                    self._metrics.add("rtcd_rtc_layer_switches_total", group, direction)
            # Also heals a key frame that was asked for while the publisher's second was not over.
            if down.up.layered and down.current is not down.wanted:
                down.request_key_frame(now_ns)

    @property
    def active(self) -> bool:
        """Is there anything to report?"""
        return bool(self._downs)

    # internals

    def _queue(self, change: _Change) -> None:
        if len(self._changes) >= _CHANGE_CAPACITY:
            self._log.error("track.dropped", track_id=change.track.track_id)
            return
        self._changes.append(change)
        self._changed.set()

    async def _exchange(self) -> None:
        """Carry out what is queued, a batch at a time; returns early when an offer has no answer."""
        while self._changes or self._unanswered:
            added: list[tuple[_Change, DownTrack]] = []
            needs_offer = self._unanswered > 0
            for _ in range(min(BATCH, len(self._changes))):
                change = self._changes.popleft()
                if change.action == "remove":
                    needs_offer |= self._remove(change.track)
                elif self._is_missing(change.track, added):
                    added.append((change, self._new_down(change.track, live=change.live)))
            if not added and not needs_offer:
                continue
            answered = await self._offer([down for _, down in added])
            self._unanswered = 0 if answered else (self._unanswered + 1) % OFFER_TRIES
            for change, down in reversed(added):
                if self._unanswered:
                    down.section.local = None
                    self._changes.appendleft(change)
            if self._unanswered:
                return
            for _, down in added:
                self._announced(down, answered=answered)
        self._changed.clear()

    def _is_missing(self, track: UpTrack, added: list[tuple[_Change, DownTrack]]) -> bool:
        """Should the client have it, and has it not?"""
        return (
            track in self._call.tracks
            and self._call.wants(self._config, track)
            and self._down_of(track) is None
            and all(down.up is not track for _, down in added)
        )

    def _new_down(self, track: UpTrack, *, live: bool) -> DownTrack:
        media = LocalMedia(
            msid=Msid(track.session_id, track.track_id),
            ssrc=secrets.randbits(32),
            cname=track.session_id,
        )
        section = self._peer.negotiation.add_sender(track.kind, media, codec=track.codec)
        layer = layer_at_join()
        if live and track.layered:
            layer = layer_of_added_track(self._congestion.estimate_bps)
        outlet = Outlet(self._peer.egress, ssrc=media.ssrc, payload_type=0)
        return DownTrack(up=track, section=section, outlet=outlet, layer=layer)

    def _announced(self, down: DownTrack, *, answered: bool) -> None:
        """The exchange is over: begin to forward, or give the section free."""
        section, track = down.section, down.up
        payload_type = section.payload_type(track.codec) if answered else None
        if payload_type is None or section.rejected or not section.remote_receives:
            reason = "refused" if answered else "no answer"
            self._log.warning("track.not_taken", track_id=track.track_id, reason=reason)
            self._metrics.error(self._config.group_id, "track")
            section.local = None
            return
        self._use_numbers(down, payload_type)
        self._downs[down.outlet.ssrc] = down
        self._metrics.track_opened(self._config.group_id, "out", track.mime)
        if track.layered:
            self._congestion.begin()
            self._peer.wants_transport_feedback = True
        if track in self._call.tracks:
            track.add_down(down)
            down.begin(time.monotonic_ns())

    def _use_numbers(self, down: DownTrack, payload_type: int) -> None:
        down.outlet.use(
            payload_type=payload_type,
            transport_cc_id=down.section.extensions.get(TRANSPORT_CC),
            level_id=down.section.extensions.get(AUDIO_LEVEL),
        )

    def _remove(self, track: UpTrack) -> bool:
        """True when the client must be told."""
        down = self._down_of(track)
        if down is None:
            return False
        self._drop(down)
        down.section.local = None
        # The end of sound is told by the plugin; its section waits for the next one.
        return track.kind == "video"

    def _drop(self, down: DownTrack) -> None:
        self._downs.pop(down.outlet.ssrc, None)
        self._count(down)
        down.up.remove_down(down)
        self._peer.forget_stream(down.outlet.ssrc)
        self._metrics.track_closed(self._config.group_id, "out", down.up.mime)

    def _count(self, down: DownTrack) -> None:
        packets, octets = down.take_counts()
        kind, group = write_type(down.up.type), self._config.group_id
        self._metrics.add("rtcd_rtc_packets_forwarded_total", group, kind, amount=packets)
        self._metrics.add("rtcd_rtc_bytes_forwarded_total", group, kind, amount=octets)

    def _down_of(self, track: UpTrack) -> DownTrack | None:
        return next((down for down in self._downs.values() if down.up is track), None)

    async def _take_lock(self) -> None:
        started = time.monotonic()
        timeouts = 0
        while not await self._lock.acquire_for_server(timeout_s=LOCK_TIMEOUT_S):
            # The original drops the change here; keeping it costs nothing but patience.
            timeouts += 1
            self._metrics.error(self._config.group_id, "signaling_lock_timeout")
            self._log.warning("lock.timeout", waited_s=timeouts * LOCK_TIMEOUT_S)
            if timeouts == LOCK_TIMEOUTS:
                self._lock.take_over()
                break
        self._metrics.lock_grab_time(self._config.group_id, time.monotonic() - started)

    async def _offer(self, added: list[DownTrack]) -> bool:
        """One offer and its answer; False when no usable answer came in time."""
        while self._answers.receive_nowait() is not None:
            pass  # late ones, to offers that were withdrawn
        text = await self._peer.create_offer()
        self._send_media_map(added)
        self._outbox.description("offer", text, over_channel=self._config.dc_signaling)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    answer = await self._answers.receive()
                    try:
                        await self._peer.accept_answer(answer)
                    except RtcError as error:
                        # Possibly the late answer to an earlier offer: wait for ours.
                        group = self._config.group_id
                        self._metrics.add("rtcd_rtc_refused_total", group, "answer")
                        self._log.warning("answer.refused", reason=str(error))
                        continue
                    self._answered()
                    return True
        except TimeoutError:
            # Rolled back, so that the next offer of either side mends the connection.
            self._peer.negotiation.withdraw_offer()
            self._metrics.error(self._config.group_id, "signaling")
            return False

    def _send_media_map(self, added: list[DownTrack]) -> None:
        """Just before each offer: what every sending section carries (rtcd.md 3.3)."""
        downs = [*self._downs.values(), *added]
        media_map = {
            down.section.mid: {"type": down.up.type.value, "sender_id": down.up.session_id}
            for down in downs
        }
        self._outbox.on_channel(DcMessage(DcType.MEDIA_MAP, media_map))

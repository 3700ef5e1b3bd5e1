"""Offers, answers and track changes of one session, with the ways in which they get lost (rtcd.md 3.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from foundation.channel import Channel, ChannelClosed
from foundation.logs import get_logger
from rtc.errors import RtcError
from rtc.peer import Peer
from sfu.media_port import SessionConfig
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.lock import OwnerlessLock
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.tracks import Outgoing, Published, TrackType
from testbed.rtcd_double.transceivers import TRANSPORT_CC, PionNegotiation, Transceiver

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Change:
    action: Literal["add", "remove"]
    track: Published


@dataclass(slots=True)
class _Sent:
    """A track that this receiver has or had, and where."""

    outgoing: Outgoing
    transceiver: Transceiver


class Signaling:
    """One worker for the client's offers, one for the track changes, as in the original."""

    def __init__(
        self,
        *,
        config: SessionConfig,
        script: Script,
        book: Book,
        peer: Peer,
        negotiation: PionNegotiation,
        lock: OwnerlessLock,
        send_description: Callable[[str, str, bool], None],
        send_media_map: Callable[[], None],
        first_answer_sent: Callable[[], None],
        described: Callable[[], None],
        end: Callable[[str], None],
    ) -> None:
        """`send_description(type, sdp, over_channel)`; `described()` after each description of the client."""
        self._config = config
        self._script = script
        self._book = book
        self._peer = peer
        self._negotiation = negotiation
        self._lock = lock
        self._send_description = send_description
        self._send_media_map = send_media_map
        self._first_answer_sent = first_answer_sent
        self._described = described
        self._end = end
        self.channel_open = asyncio.Event()
        self.ready = False
        self._offers: Channel[tuple[str, bool]] = Channel(script.queued_descriptions)
        self._answers: Channel[str] = Channel(script.queued_descriptions)
        self._changes: Channel[_Change] = Channel(script.queued_tracks)
        self._making_offer = False
        self._later_answers = 0
        self._offered_s = 0.0
        self._sent: dict[int, _Sent] = {}
        self._transport_number = 0
        self._log = get_logger(component="rtcd-double", session_id=config.session_id)

    # what comes in

    def client_offered(self, text: str, *, over_channel: bool) -> None:
        _queue(self._offers, (text, over_channel))

    def client_answered(self, text: str) -> None:
        """It waits until an offer of ours looks for an answer, whichever that is."""
        self._book.answers.append(text)
        self._book.answer_delays_s.append(time.monotonic() - self._offered_s)
        _queue(self._answers, text)

    def queue_add(self, track: Published) -> None:
        if not _queue(self._changes, _Change("add", track)):
            self._book.dropped_changes.append("add: queue is full")

    def queue_remove(self, track: Published) -> None:
        if self.find(track) is None:
            return
        if not _queue(self._changes, _Change("remove", track)):
            self._book.dropped_changes.append("remove: queue is full")

    def detach(self, track: Published) -> None:
        """Its publisher left: the sender stays in its section without a track."""
        sent = self.find(track)
        if sent is not None:
            self._forget(sent)
            self._negotiation.detach(sent.transceiver)

    # who is sent what

    def find(self, track: Published) -> _Sent | None:
        return next((s for s in self._sent.values() if s.outgoing.published is track), None)

    def outgoing(self) -> Iterator[Outgoing]:
        return (sent.outgoing for sent in self._sent.values())

    def by_ssrc(self, ssrc: int) -> Outgoing | None:
        sent = self._sent.get(ssrc)
        return sent.outgoing if sent is not None else None

    # life

    async def run(self, queue_existing: Callable[[], None]) -> None:
        """Until cancelled. `queue_existing()` once the data channel is open."""
        if not await self._answer_first_offer():
            return
        if self._script.waits_for_data_channel:
            await self.channel_open.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer_later_offers(), name="client-offers")
            await self.channel_open.wait()
            queue_existing()
            self.ready = True
            tasks.create_task(self._change_tracks(), name="track-changes")

    def close(self) -> None:
        for channel in (self._offers, self._answers, self._changes):
            channel.close()
        for sent in list(self._sent.values()):
            self._forget(sent)

    # the client's offers

    async def _answer_first_offer(self) -> bool:
        try:
            async with asyncio.timeout(self._script.first_offer_timeout_s):
                text, over_channel = await self._offers.receive()
            answer = await self._peer.accept_offer(text)
        except (TimeoutError, RtcError) as error:
            self._end(f"no usable first offer: {type(error).__name__}")
            return False
        self._described()
        if self._script.candidates_before_answer:
            self._first_answer_sent()
            self._send_description("answer", answer, over_channel)
        else:
            self._send_description("answer", answer, over_channel)
            self._first_answer_sent()
        self._negotiation.candidates_known = True
        return True

    async def _answer_later_offers(self) -> None:
        async for text, over_channel in self._offers:
            collides = self._making_offer or self._negotiation.offering
            if collides and self._script.ignores_colliding_offers:
                self._book.ignored_offers += 1
                continue
            try:
                answer = await self._peer.accept_offer(text)
            except RtcError as error:
                self._log.warning("offer.refused", reason=str(error))
                continue
            self._described()
            await asyncio.sleep(self._script.answer_after_s)
            self._later_answers += 1
            if self._later_answers not in self._script.lost_answers:
                self._send_description("answer", answer, over_channel)

    # our changes

    async def _change_tracks(self) -> None:
        async for change in self._changes:
            if not await self._lock.lock(timeout_s=self._script.lock_timeout_s):
                self._book.dropped_changes.append(f"{change.action}: no lock")
                continue
            try:
                if change.action == "add":
                    await self._add(change.track)
                else:
                    await self._remove(change.track)
            except (RtcError, TimeoutError) as error:
                reason = str(error) or "no answer"
                self._book.dropped_changes.append(f"{change.action}: {reason}")
                self._log.warning("change.failed", action=change.action, reason=reason)
            finally:
                self._lock.unlock()

    async def _add(self, track: Published) -> None:
        if self.find(track) is not None:
            self._book.dropped_changes.append("add: it is there")
            return
        types = {out.published.type for out in self.outgoing()}
        if track.type is TrackType.SCREEN and TrackType.SCREEN in types:
            self._book.dropped_changes.append("add: another screen is there")
            return
        msid = track.new_msid()
        outgoing = Outgoing(
            track,
            msid,
            script=self._script,
            book=self._book,
            send=self._peer.send_rtp,
            next_transport_number=self._next_transport_number,
        )
        self._making_offer = True
        transceiver = self._negotiation.add_track(
            track.type.kind, msid, outgoing.ssrc, reuse_dead=self._script.reuses_dead_audio
        )
        try:
            await self._offer()
        except (RtcError, TimeoutError):
            self._negotiation.detach(transceiver)
            raise
        finally:
            self._making_offer = False
        codec = next((c for c in transceiver.codecs if c.name == track.codec), None)
        if codec is None:
            self._negotiation.detach(transceiver)
            self._book.dropped_changes.append(f"add: the client takes no {track.codec}")
            return
        self._sent[outgoing.ssrc] = _Sent(outgoing, transceiver)
        outgoing.bind(
            payload_type=codec.payload_type,
            transport_cc_id=(transceiver.matched or {}).get(TRANSPORT_CC),
            repeats="nack" in codec.feedback,
        )
        self._book.announced.append(msid.track_id)
        if self._script.asks_for_key_frames and track.type.kind == "video":
            track.request_key_frame(track.ssrc)

    async def _remove(self, track: Published) -> None:
        sent = self.find(track)
        if sent is None:
            self._book.dropped_changes.append("remove: it is not there")
            return
        self._forget(sent)
        self._negotiation.remove_track(sent.transceiver)
        self._book.removed.append(sent.outgoing.msid.track_id)
        await self._offer()

    async def _offer(self) -> None:
        """One offer and the next answer in the queue. Raises TimeoutError, RtcError."""
        text = await self._peer.create_offer()
        self._book.offers.append(text)
        number = len(self._book.offers)
        self._offered_s = time.monotonic()
        if not self._script.map_after_offer:
            self._send_media_map()
        if number not in self._script.lost_offers:
            for _ in range(2 if number in self._script.repeated_offers else 1):
                self._send_description("offer", text, self._config.dc_signaling)
        if self._script.map_after_offer:
            self._send_media_map()
        async with asyncio.timeout(self._script.answer_timeout_s):
            answer = await self._answers.receive()
        try:
            await self._peer.accept_answer(answer)
        except RtcError as error:
            self._book.failed_answers.append(str(error))
            raise
        self._described()

    # internals

    def _forget(self, sent: _Sent) -> None:
        sent.outgoing.unbind()
        self._sent.pop(sent.outgoing.ssrc, None)

    def _next_transport_number(self) -> int:
        self._transport_number += 1
        return self._transport_number


def _queue(channel: Channel[T], item: T) -> bool:
    """False when it is full."""
    try:
        return channel.offer(item)
    except ChannelClosed:
        return True  # the session is over: nothing is lost

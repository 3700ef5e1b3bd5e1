"""Sends messages reliably: fragments, flight, SACKs, retransmissions (RFC 9260 sections 6 and 7)."""

from __future__ import annotations

from typing import Final

from rtc.sctp.chunks import BEGIN, DATA_HEADER_BYTES, END, UNORDERED, data_chunk
from rtc.sctp.congestion import CongestionWindow
from rtc.sctp.packet import HEADER_BYTES
from rtc.sctp.rto import RetransmissionTimeout
from rtc.sctp.serial import MASK_16, unwrap_32
from rtc.sctp.timings import (
    FAR_FUTURE_NS,
    HELD_ITEM_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PACKET_BYTES,
    SEND_BUFFER_BYTES,
)

_PACKET_ROOM: Final = MAX_PACKET_BYTES - HEADER_BYTES
_MAX_FRAGMENT: Final = _PACKET_ROOM - DATA_HEADER_BYTES
_MAX_OUTSTANDING: Final = 512
"""Chunks, so that the work for one SACK has a limit when messages are tiny."""
_MISSES: Final = 3
"""SACKs that report later chunks before one counts as lost (RFC 9260 section 7.2.4)."""


class _Message:
    __slots__ = ("offset", "payload", "protocol", "stream", "unordered")

    def __init__(self, stream: int, protocol: int, payload: bytes, unordered: bool) -> None:
        self.stream = stream
        self.protocol = protocol
        self.payload = payload
        self.unordered = unordered
        self.offset = 0


class _Sent:
    """A chunk on its way, kept until the cumulative TSN passes it: a peer may renege on gap blocks."""

    __slots__ = ("acked", "chunk", "cost", "lost", "misses", "resent", "sent_ns", "size")

    def __init__(self, chunk: bytes, size: int, cost: int, sent_ns: int) -> None:
        self.chunk = chunk
        self.size = size
        self.cost = cost
        self.sent_ns = sent_ns
        self.misses = 0
        self.acked = self.lost = self.resent = False


class Sender:
    """The outbound half. TSNs are integers that do not wrap.

    `queue`, then `transmit` hands out what may be sent now. `t3_ns` is when the oldest outstanding chunk is
    due for retransmission.
    """

    __slots__ = (
        "_acked",
        "_buffered",
        "_fast",
        "_flight",
        "_gapped",
        "_last_sent_ns",
        "_lost",
        "_messages",
        "_next_tsn",
        "_outstanding",
        "_peer_window",
        "_rto",
        "_sequences",
        "_window",
        "t3_ns",
    )

    def __init__(self, initial_tsn: int, rto: RetransmissionTimeout) -> None:
        self._next_tsn = initial_tsn
        self._acked = initial_tsn - 1
        self._rto = rto
        self._window = CongestionWindow()
        self._peer_window = 0
        self._messages: list[_Message] = []
        self._outstanding: dict[int, _Sent] = {}
        self._sequences: dict[int, int] = {}
        self._buffered = 0
        self._flight = 0
        self._lost = 0
        self._gapped = 0
        self._fast = False
        self._last_sent_ns = 0
        self.t3_ns = FAR_FUTURE_NS

    @property
    def last_tsn(self) -> int:
        """The newest one given to a chunk."""
        return self._next_tsn - 1

    @property
    def buffered_bytes(self) -> int:
        """Queued and outstanding, each message with its overhead."""
        return self._buffered

    @property
    def idle(self) -> bool:
        """Everything was acknowledged."""
        return not self._outstanding and not self._messages

    def peer_window(self, window_bytes: int) -> None:
        """What the other side's INIT or INIT ACK says it can take."""
        self._peer_window = window_bytes

    def queue(self, stream: int, protocol: int, payload: bytes, *, unordered: bool = False) -> bool:
        """Take a message of at least one byte; False when it is too large, or the buffer full."""
        cost = len(payload) + HELD_ITEM_BYTES
        if len(payload) > MAX_MESSAGE_BYTES or self._buffered + cost > SEND_BUFFER_BYTES:
            return False
        self._buffered += cost
        self._messages.append(_Message(stream, protocol, payload, unordered))
        return True

    def has_queued(self, streams: set[int]) -> bool:
        """Is anything of these streams not yet sent at all?"""
        return any(message.stream in streams for message in self._messages)

    def reset(self, streams: set[int]) -> None:
        """These streams start again with sequence number 0."""
        for stream in streams:
            self._sequences.pop(stream, None)

    def transmit(self, now_ns: int) -> list[bytes]:
        """Chunks to send now, in order, as the windows allow."""
        if not self._lost and not self._messages:
            return []
        chunks: list[bytes] = []
        if self._lost:
            self._retransmit(chunks, now_ns)
        if self._messages and not self._lost:
            self._send_new(chunks, now_ns)
        if chunks:
            self._last_sent_ns = now_ns
            if self.t3_ns == FAR_FUTURE_NS:
                self.t3_ns = now_ns + self._rto.ns
        return chunks

    def sacked(
        self, cumulative_wire: int, window_bytes: int, gaps: list[tuple[int, int]], now_ns: int
    ) -> None:
        """A SACK came; one that is old, or speaks of what was never sent, changes nothing."""
        cumulative = unwrap_32(cumulative_wire, self._acked)
        newest = cumulative + (gaps[-1][1] if gaps else 0)
        if cumulative < self._acked or newest >= self._next_tsn:
            return
        flight = self._flight
        advanced = cumulative > self._acked
        acked_bytes = self._pop_until(cumulative, now_ns)
        if advanced:
            self._rto.progressed()
            self._window.acknowledged(cumulative, acked_bytes, flight)
        self._peer_window = window_bytes
        if gaps or self._gapped:
            self._mark_gaps(cumulative, gaps, advanced=advanced)
        if not self._outstanding:
            self.t3_ns = FAR_FUTURE_NS
        elif advanced:
            self.t3_ns = now_ns + self._rto.ns

    def expire(self, now_ns: int) -> None:
        """T3 ran out: everything outstanding counts as lost (RFC 9260 section 6.3.3)."""
        if now_ns < self.t3_ns:
            return
        self._rto.back_off()
        self._window.expired()
        self.t3_ns = FAR_FUTURE_NS
        self._fast = False
        for sent in self._outstanding.values():
            if not sent.acked and not sent.lost:
                self._lose(sent)

    def _pop_until(self, cumulative: int, now_ns: int) -> int:
        """Forget what is acknowledged for good; returns its bytes as far as they count as new."""
        acked_bytes = 0
        newest: _Sent | None = None
        ambiguous = False
        for tsn in range(self._acked + 1, cumulative + 1):
            sent = self._outstanding.pop(tsn)
            self._buffered -= sent.cost
            ambiguous |= sent.resent
            if sent.acked:
                self._gapped -= 1
                continue
            acked_bytes += sent.size
            if sent.lost:
                self._lost -= 1
            else:
                self._flight -= sent.size
            newest = sent
        self._acked = cumulative
        if newest is not None and not ambiguous:
            self._rto.measured(now_ns - newest.sent_ns)
        return acked_bytes

    def _mark_gaps(self, cumulative: int, gaps: list[tuple[int, int]], *, advanced: bool) -> None:
        """Note what is there above the cumulative TSN, and count against what is not."""
        highest_new = self._compare(cumulative, gaps)
        if self._window.recovering and advanced and gaps:
            highest_new = cumulative + gaps[-1][1]
        for tsn, sent in self._outstanding.items():
            if tsn >= highest_new:
                break
            if sent.acked or sent.lost:
                continue
            sent.misses += 1
            if sent.misses >= _MISSES and not sent.resent:
                self._lose(sent)
                if not self._window.recovering:
                    self._window.lost(self.last_tsn)
                    self._fast = True

    def _compare(self, cumulative: int, gaps: list[tuple[int, int]]) -> int:
        """Take over the gap blocks; returns the highest TSN that is newly acknowledged, or the cumulative."""
        highest_new = cumulative
        blocks = iter(gaps)
        block = next(blocks, None)
        for tsn, sent in self._outstanding.items():
            while block is not None and block[1] < tsn - cumulative:
                block = next(blocks, None)
            there = block is not None and block[0] <= tsn - cumulative
            if there == sent.acked:
                continue
            if there:
                highest_new = tsn
                self._gapped += 1
                if sent.lost:
                    sent.lost = False
                    self._lost -= 1
                else:
                    self._flight -= sent.size
            else:  # the other side took its word back
                self._gapped -= 1
                self._flight += sent.size
                sent.misses = 0
            sent.acked = there
        return highest_new

    def _lose(self, sent: _Sent) -> None:
        sent.lost = True
        self._lost += 1
        self._flight -= sent.size

    def _retransmit(self, chunks: list[bytes], now_ns: int) -> None:
        room = _PACKET_ROOM
        for sent in self._outstanding.values():
            if not self._lost:
                break
            if not sent.lost:
                continue
            if self._fast:  # one packet, whatever the window says (RFC 9260 section 7.2.4)
                if len(sent.chunk) > room:
                    break
                room -= len(sent.chunk)
            elif self._flight and self._flight + sent.size > self._window.size_bytes:
                break
            sent.lost, sent.resent, sent.misses = False, True, 0
            self._lost -= 1
            self._flight += sent.size
            chunks.append(sent.chunk)
        if self._fast and chunks:
            self._fast = False
            self.t3_ns = now_ns + self._rto.ns

    def _send_new(self, chunks: list[bytes], now_ns: int) -> None:
        if not self._outstanding and self._last_sent_ns:
            self._window.idled((now_ns - self._last_sent_ns) // self._rto.ns)
        while self._messages and len(self._outstanding) < _MAX_OUTSTANDING:
            message = self._messages[0]
            size = min(len(message.payload) - message.offset, _MAX_FRAGMENT)
            # With nothing in flight one chunk may always go: it finds out whether the window is open again.
            if self._flight and (
                self._flight >= self._window.size_bytes or self._flight + size > self._peer_window
            ):
                return
            self._send_fragment(message, size, chunks, now_ns)
            if self._flight > self._peer_window:
                return

    def _send_fragment(
        self, message: _Message, size: int, chunks: list[bytes], now_ns: int
    ) -> None:
        offset, payload = message.offset, message.payload
        flags = UNORDERED if message.unordered else 0
        cost = size
        if offset == 0:
            flags |= BEGIN
        message.offset += size
        sequence = 0 if message.unordered else self._sequences.get(message.stream, 0)
        if message.offset == len(payload):
            flags |= END
            cost += HELD_ITEM_BYTES
            del self._messages[0]
            if not message.unordered:
                self._sequences[message.stream] = (sequence + 1) & MASK_16
        part = payload if size == len(payload) else payload[offset : offset + size]
        chunk = data_chunk(self._next_tsn, flags, message.stream, sequence, message.protocol, part)
        self._outstanding[self._next_tsn] = _Sent(chunk, size, cost, now_ns)
        self._next_tsn += 1
        self._flight += size
        chunks.append(chunk)

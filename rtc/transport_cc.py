"""Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

Every packet of a connection carries one more 16-bit sequence number, whatever its SSRC. The receiver
(`FeedbackBuilder`) says when each of them came; the sender (`rtc.sent_history`) puts that beside when it sent
them, and `rtc.bandwidth` makes an estimate of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

from rtc.rtcp import build_transport_feedback

EXTENSION_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
TICK_NS = 250_000
REFERENCE_TICKS = 256
"""The reference time counts 64 ms."""
_MAX_PENDING = 2048
_MAX_SPAN = 8192
"""A jump ahead of more packets is a restart of the sender's counter, not loss."""
_RECEIVED_PER_FEEDBACK = 180
"""Keeps one feedback below 1,200 bytes, even if each packet needs a run and a vector of its own."""
_LATE_PER_BUILD = 16
_NOT_RECEIVED, _SMALL, _LARGE = 0, 1, 2
_MAX_RUN = 0x1FFF


class FeedbackBuilder:
    """The receiver's side: `record` each arrival, `build` every 100 ms.

    A packet that comes after its number was reported as missing gets a small feedback of its own, so
    that nothing is said twice.
    """

    __slots__ = (
        "_feedback_count",
        "_newest",
        "_next",
        "_pending",
        "_sender_ssrc",
        "dropped",
        "media_ssrc",
    )

    def __init__(self, *, sender_ssrc: int, media_ssrc: int = 0) -> None:
        """`media_ssrc`: any SSRC that the other side sends."""
        self._sender_ssrc = sender_ssrc
        self.media_ssrc = media_ssrc
        """Browsers take a feedback only when it names an SSRC that they send now."""
        self._pending: dict[int, int] = {}
        self._newest = -1
        self._next = -1
        self._feedback_count = 0
        self.dropped = 0
        """Arrivals that were not recorded, because `build` was not called in time."""

    def record(self, transport_seq: int, arrival_ns: int) -> None:
        """A packet came: the 16 bits of its extension. The first arrival of a number counts."""
        newest = self._newest
        if newest < 0:
            # One turn up, so that packets from before the first one have numbers above 0 too.
            newest = self._newest = 0x10000 + transport_seq
        step = (transport_seq - newest) & 0xFFFF
        if step < 0x8000:
            self._newest = number = newest + step
        else:
            number = newest + step - 0x10000
        pending = self._pending
        if len(pending) >= _MAX_PENDING:
            self.dropped += 1
        elif number not in pending:
            pending[number] = arrival_ns

    def build(self) -> list[bytes]:
        """RTCP packets about everything since the last call; none when nothing came."""
        if not self._pending:
            return []
        arrivals = sorted(self._pending.items())
        self._pending = {}
        oldest = arrivals[-1][0] - _MAX_SPAN
        if self._next < oldest:  # the first report, or a jump of the sender's counter
            self._next = next(number for number, _ in arrivals if number >= oldest)
        packets: list[bytes] = []
        late = [arrival for arrival in arrivals if arrival[0] < self._next]
        if late:
            arrivals = arrivals[len(late) :]
            self._report_late(late, packets)
        if arrivals:
            self._report(self._next, arrivals, packets)
            self._next = arrivals[-1][0] + 1
        return packets

    def _report_late(self, late: list[tuple[int, int]], packets: list[bytes]) -> None:
        start = 0
        for end in range(1, len(late) + 1):
            if end == len(late) or late[end][0] != late[end - 1][0] + 1:
                self._report(late[start][0], late[start:end], packets)
                start = end
                if len(packets) >= _LATE_PER_BUILD:
                    self.dropped += len(late) - end
                    return

    def _report(self, base: int, arrivals: list[tuple[int, int]], packets: list[bytes]) -> None:
        """One or more feedbacks on the numbers from `base` to the last arrival."""
        symbols: list[int] = []
        deltas = bytearray()
        received = 0
        expected = base
        reference = last_ticks = 0
        for number, arrival_ns in arrivals:
            ticks = arrival_ns // TICK_NS
            delta = ticks - last_ticks
            if received and (received >= _RECEIVED_PER_FEEDBACK or not -0x8000 <= delta <= 0x7FFF):
                packets.append(self._packet(base, reference, symbols, deltas))
                symbols, deltas, received = [], bytearray(), 0
                base = expected
            if not received:
                reference = ticks // REFERENCE_TICKS
                delta = ticks - reference * REFERENCE_TICKS
            if number > expected:
                symbols.extend([_NOT_RECEIVED] * (number - expected))
            if 0 <= delta <= 0xFF:
                symbols.append(_SMALL)
                deltas.append(delta)
            else:
                symbols.append(_LARGE)
                deltas += delta.to_bytes(2, signed=True)
            received += 1
            expected = number + 1
            last_ticks = ticks
        packets.append(self._packet(base, reference, symbols, deltas))

    def _packet(self, base: int, reference: int, symbols: list[int], deltas: bytearray) -> bytes:
        head = struct.pack(
            "!HHI",
            base & 0xFFFF,
            len(symbols),
            (reference & 0xFFFFFF) << 8 | self._feedback_count,
        )
        self._feedback_count = (self._feedback_count + 1) & 0xFF
        return build_transport_feedback(
            sender_ssrc=self._sender_ssrc,
            media_ssrc=self.media_ssrc,
            body=head + _encode_symbols(symbols) + deltas,
        )


def _encode_symbols(symbols: list[int]) -> bytes:
    """Packet chunks: a run where it pays, else a vector of 14 one-bit or 7 two-bit symbols."""
    chunks: list[int] = []
    position, count = 0, len(symbols)
    while position < count:
        symbol = symbols[position]
        end = position + 1
        limit = min(count, position + _MAX_RUN)
        while end < limit and symbols[end] == symbol:
            end += 1
        run = end - position
        if end == count or run >= 14 or (run >= 7 and symbol == _LARGE):
            chunks.append(symbol << 13 | run)
            position = end
            continue
        part = symbols[position : position + 14]
        if _LARGE in part:
            part = part[:7]
            chunk, width, shift = 0xC000, 2, 12
        else:
            chunk, width, shift = 0x8000, 1, 13
        for value in part:
            chunk |= value << shift
            shift -= width
        chunks.append(chunk)
        position += len(part)
    return struct.pack(f"!{len(chunks)}H", *chunks)


@dataclass(frozen=True, slots=True)
class Feedback:
    """One feedback, read."""

    base: int
    """16-bit number of the first packet it tells about."""
    count: int
    """Of packets it tells about; those not in `received` did not arrive."""
    feedback_count: int
    """0–255, one more with each feedback."""
    reference: int
    """24 bits, in 64 ms."""
    received: list[tuple[int, int]]
    """(number − base, arrival after the reference time in 250 µs), by number."""


def parse_feedback(body: bytes) -> Feedback | None:
    """Read the body of a `rtc.rtcp.TransportFeedback`; None when it is malformed. Never raises.

    Time and memory grow with the length of the body only, whatever count it claims.
    """
    if len(body) < 8:
        return None
    base, count, word = struct.unpack_from("!HHI", body)
    size = len(body)
    # The deltas begin where the chunks have told about all packets.
    deltas, told = 8, 0
    while told < count:
        if deltas + 2 > size:
            return None
        first = body[deltas]
        if first & 0x80:
            told += 7 if first & 0x40 else 14
        else:
            run = (first & 0x1F) << 8 | body[deltas + 1]
            if run == 0:
                return None
            told += run
        deltas += 2
    received: list[tuple[int, int]] = []
    if not _read_deltas(body, deltas, count, received):
        return None
    return Feedback(base, count, word & 0xFF, word >> 8, received)


def _read_deltas(body: bytes, deltas: int, count: int, received: list[tuple[int, int]]) -> bool:
    """Go through the chunks before `deltas` again, now with the arrival times. False: malformed."""
    offset = ticks = 0
    symbols: Iterator[int]
    position, size = deltas, len(body)
    for at in range(8, deltas, 2):
        chunk = body[at] << 8 | body[at + 1]
        if not chunk & 0x8000:
            symbol = chunk >> 13
            end = min(offset + (chunk & 0x1FFF), count)
            if symbol == _NOT_RECEIVED:
                offset = end
                continue
            if symbol > _LARGE or (end - offset) * symbol > size - position:
                return False
            symbols = repeat(symbol, end - offset)
        elif chunk & 0x4000:
            symbols = iter([chunk >> shift & 3 for shift in (12, 10, 8, 6, 4, 2, 0)])
        else:
            symbols = iter([chunk >> shift & 1 for shift in range(13, -1, -1)])
        for symbol in symbols:
            if offset >= count:
                break
            if symbol:
                if symbol > _LARGE or position + symbol > size:
                    return False
                delta = body[position]
                if symbol == _LARGE:
                    delta = delta << 8 | body[position + 1]
                    if delta & 0x8000:
                        delta -= 0x10000
                ticks += delta
                position += symbol
                received.append((offset, ticks))
            offset += 1
    return True

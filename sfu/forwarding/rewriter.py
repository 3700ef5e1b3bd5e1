"""One continuous RTP stream out of several: sequence numbers and timestamps across source switches.

A source is one SSRC of a publisher: a simulcast layer, or what it sends after a restart. The receiver
sees a single SSRC on which nothing jumps.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from rtc.rtcp import SenderReport

DROPPED = -1
"""What `map` returns for a packet that must not go out."""
_MAX_RANGES = 32
"""Switches and holes by dropping that late packets and repetitions can still be mapped across."""
_MAX_STEP = 2048
"""A longer way from the newest packet, forward or back, is a new start of the sender: no hole is left."""
_MAX_LATE = 100
_MAX_CLOCK_DISAGREEMENT_S = 1
_NS = 1_000_000_000


class Source(NamedTuple):
    """Where a packet of the outgoing stream came from."""

    ssrc: int
    sequence: int
    """16 bits, as the publisher numbered it."""
    timestamp_offset: int
    """Add it to the source's timestamp, modulo 2**32."""
    generation: int
    """How many switches there were before it; for `Vp8Rewriter.apply`."""


class _Range:
    """Successive source packets that have one offset. All numbers are unwrapped."""

    __slots__ = ("end", "generation", "offset", "ssrc", "start", "timestamp_offset")

    def __init__(
        self, ssrc: int, start: int, offset: int, timestamp_offset: int, generation: int
    ) -> None:
        self.ssrc = ssrc
        self.start = start
        self.end: int | None = None
        """After the last packet; None while it goes on."""
        self.offset = offset
        self.timestamp_offset = timestamp_offset
        self.generation = generation

    def has(self, number: int) -> bool:
        return number >= self.start and (self.end is None or number < self.end)


class SequenceRewriter:
    """Of one receiver and track; also good for a published track whose mutes should leave no hole.

    In the hot path, for each packet of the current source (`ssrc == rewriter.source_ssrc`)::

        mapped = rewriter.map(sequence, timestamp)
        if mapped >= 0:
            pack_into("!QI", out, 0, 0x80 << 56 | marker_and_type << 48 | mapped, ssrc)

    `mapped` is `sequence << 32 | timestamp`, the middle of the first eight octets of the header. What
    shall not go out is told to `drop`, and the numbers close up behind it. Late packets of a source that
    was left go to `map_late`, NACKs to `to_source`.
    """

    __slots__ = (
        "_closed_next_out",
        "_current",
        "_late_behind",
        "_late_count",
        "_newest",
        "_newest_timestamp",
        "_offset",
        "_open_step",
        "_ranges",
        "clock_rate_hz",
        "source_ssrc",
        "timestamp_offset",
    )

    def __init__(
        self,
        *,
        clock_rate_hz: int,
        ssrc: int,
        sequence: int,
        timestamp: int,
        first_sequence: int | None = None,
        first_timestamp: int | None = None,
    ) -> None:
        """Begin with a source's packet that is to be mapped next.

        The numbers of the source stay, unless the ones to begin with are given.
        """
        self.clock_rate_hz = clock_rate_hz
        self.source_ssrc = ssrc
        self._ranges: deque[_Range] = deque(maxlen=_MAX_RANGES)
        self._late_behind = self._late_count = 0
        self._newest = 0x10000 + sequence - 1
        first = sequence if first_sequence is None else first_sequence
        self._closed_next_out = 0x10000 + first
        time = timestamp if first_timestamp is None else first_timestamp
        self._newest_timestamp = time
        # For the hot path: what the current range says, and how far ahead it may be extended at once.
        self._offset = self._open_step = 0
        self.timestamp_offset = 0
        """Of the current source, modulo 2**32; add it to the RTP time of its sender reports as well."""
        self._open(ssrc, (time - timestamp) & 0xFFFFFFFF, 0)

    @property
    def generation(self) -> int:
        """How many switches there were."""
        return self._current.generation

    @property
    def next_sequence(self) -> int:
        """The number that the next packet in order will get, 16 bits."""
        return self._next_out() & 0xFFFF

    def map(self, sequence: int, timestamp: int) -> int:
        """A packet of the current source: `sequence << 32 | timestamp` to send, or DROPPED.

        Holes stay holes, so the receiver can ask for what was lost; late packets go where they belong.
        DROPPED is what is older than the start of the source here, or late among what was dropped.
        """
        newest = self._newest
        step = (sequence - newest) & 0xFFFF
        if not 0 < step <= self._open_step:
            if step == 0 or (step >= 0x10000 - _MAX_STEP and not self._only_late()):
                return self._map_late(newest - (-step & 0xFFFF), timestamp)
            if step > _MAX_STEP:
                self._jump(step)
                newest, step = self._newest, 1
            current = self._current
            if current.end is not None:
                self._open(current.ssrc, current.timestamp_offset, current.generation)
        self._newest = newest = newest + step
        self._newest_timestamp = time = (timestamp + self.timestamp_offset) & 0xFFFFFFFF
        return (newest + self._offset & 0xFFFF) << 32 | time

    def drop(self, sequence: int) -> None:
        """A packet of the current source that does not go out, as if the publisher had not sent it."""
        step = (sequence - self._newest) & 0xFFFF
        if step == 0 or step >= 0x10000 - _MAX_STEP:
            return  # late: the hole it leaves is told already
        if step > _MAX_STEP:
            self._jump(step)
            step = 1
        number = self._newest + step
        self._close(number)
        self._newest = number

    def switch(
        self,
        ssrc: int,
        sequence: int,
        timestamp: int,
        *,
        elapsed_ns: int,
        same_moment: int | None = None,
    ) -> None:
        """Go on with another source, or the same one after a pause; its packet is to be mapped next.

        `elapsed_ns`: from the arrival of the newest packet of the source before to that of this one.
        `same_moment`: `timestamp` on the clock of the source before, from `translate_timestamp`; exact
        where arrival times waver, and used unless it is more than a second off.
        """
        expected = self._newest_timestamp + elapsed_ns * self.clock_rate_hz // _NS
        if same_moment is not None:
            difference = (same_moment + self.timestamp_offset - expected) & 0xFFFFFFFF
            difference -= (difference & 0x80000000) << 1
            if abs(difference) <= _MAX_CLOCK_DISAGREEMENT_S * self.clock_rate_hz:
                expected += difference
        # A new picture or sound never has the time of the one before.
        time = max(expected, self._newest_timestamp + 1)
        self._close(self._newest + 1)
        self._newest = 0x10000 + sequence - 1
        self.source_ssrc = ssrc
        self._open(ssrc, (time - timestamp) & 0xFFFFFFFF, self._current.generation + 1)

    def map_late(self, ssrc: int, sequence: int, timestamp: int) -> int:
        """As `map`, for a packet of a source that was left: it goes out only from before the switch."""
        for part in reversed(self._ranges):
            if part.ssrc == ssrc and part.end is not None:
                number = part.end - ((part.end - sequence) & 0xFFFF)
                if part.start <= number < part.end:
                    return _packed(part, number, timestamp)
        return DROPPED

    def to_source(self, sequence: int) -> Source | None:
        """Which packet was sent with this 16-bit number; None when nobody knows any more.

        A number that was never sent belongs to a source's packet that did not arrive here either.
        """
        newest = self._next_out() - 1
        out = newest - ((newest - sequence) & 0xFFFF)
        for part in reversed(self._ranges):
            number = out - part.offset
            if number >= part.start:
                return Source(part.ssrc, number & 0xFFFF, part.timestamp_offset, part.generation)
        return None

    def _next_out(self) -> int:
        if self._current.end is None:
            return self._newest + self._offset + 1
        return self._closed_next_out

    def _map_late(self, number: int, timestamp: int) -> int:
        generation = self._current.generation
        for part in reversed(self._ranges):
            if part.generation != generation:
                break
            if part.has(number):
                return _packed(part, number, timestamp)
        return DROPPED

    def _only_late(self) -> bool:
        """So many late packets and no new one: the sender has started again a little behind."""
        if self._late_behind != self._newest:
            self._late_behind = self._newest
            self._late_count = 0
        self._late_count += 1
        return self._late_count > _MAX_LATE

    def _jump(self, step: int) -> None:
        """The sender has started again under the same SSRC: close up and go on at its new numbers."""
        self._close(self._newest + 1)
        self._newest += step - 1

    def _close(self, end: int) -> None:
        """End the current range before this number, if it goes on."""
        if self._current.end is None:
            self._current.end = end
            self._closed_next_out = end + self._offset
            self._open_step = 0

    def _open(self, ssrc: int, timestamp_offset: int, generation: int) -> None:
        """A new range from the packet after the newest one on; the one before is closed."""
        start = self._newest + 1
        self._offset = self._closed_next_out - start
        self.timestamp_offset = timestamp_offset
        self._open_step = _MAX_STEP
        self._current = _Range(ssrc, start, self._offset, timestamp_offset, generation)
        self._ranges.append(self._current)


def _packed(part: _Range, number: int, timestamp: int) -> int:
    sequence = (number + part.offset) & 0xFFFF
    return sequence << 32 | (timestamp + part.timestamp_offset) & 0xFFFFFFFF


def translate_timestamp(
    timestamp: int, *, source: SenderReport, target: SenderReport, clock_rate_hz: int
) -> int:
    """The RTP time of the same moment on the clock of another SSRC of the same sender (RFC 3550 6.4.1).

    `source` and `target` are newest reports of the two SSRCs, which share one NTP clock and rate.
    """
    ticks = (timestamp - source.rtp_timestamp) & 0xFFFFFFFF
    ticks -= (ticks & 0x80000000) << 1
    between = source.ntp - target.ntp
    ticks += between * clock_rate_hz >> 32
    return (target.rtp_timestamp + ticks) & 0xFFFFFFFF

"""Keeps account of TSNs that came, limits what is held, says when to send a SACK (RFC 9260 section 6.2)."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from rtc.sctp.chunks import IMMEDIATE, MAX_GAP_BLOCKS, sack_chunk
from rtc.sctp.errors import ProtocolViolation
from rtc.sctp.events import SctpEvent
from rtc.sctp.reassembly import Reassembly
from rtc.sctp.serial import MASK_32
from rtc.sctp.timings import (
    FAR_FUTURE_NS,
    HELD_ITEM_BYTES,
    MAX_STREAMS,
    RECEIVE_WINDOW_BYTES,
    SACK_DELAY_NS,
)

_HALF_32: Final = 1 << 31
_MAX_AHEAD: Final = 8192
"""How far a TSN may be above the cumulative one; gap blocks could say 65535."""
_HARD_LIMIT_BYTES: Final = 2 * RECEIVE_WINDOW_BYTES
"""Chunks that close the first gap are taken over the window, or a full one might never empty."""
_MAX_DUPLICATES: Final = 16


class Receiver:
    """The inbound half. TSNs are integers that do not wrap."""

    __slots__ = (
        "_cumulative",
        "_duplicates",
        "_packets",
        "_runs",
        "_wanted",
        "reassembly",
        "refused_chunks",
        "sack_due_ns",
    )

    def __init__(self, initial_tsn: int) -> None:
        self._cumulative = initial_tsn - 1
        self._runs: list[tuple[int, int]] = []
        self._duplicates: list[int] = []
        self._packets = 0
        self._wanted = False
        self.reassembly = Reassembly()
        self.sack_due_ns = FAR_FUTURE_NS
        """When a SACK that may wait for company has to go."""
        self.refused_chunks = 0
        """Out of the window, where they will be sent again, or of a stream that was not offered."""

    @property
    def cumulative(self) -> int:
        """Everything up to this TSN came."""
        return self._cumulative

    def take(
        self,
        tsn_wire: int,
        flags: int,
        stream: int,
        sequence: int,
        protocol: int,
        payload: bytes,
        out: list[SctpEvent],
    ) -> None:
        """A DATA chunk came; complete messages are appended to `out`.

        Raises:
            ProtocolViolation: see Reassembly.add; or more is held than was ever allowed.
        """
        ahead = (tsn_wire - self._cumulative) & MASK_32
        tsn = self._cumulative + ahead
        if flags & IMMEDIATE:
            self._wanted = True
        if ahead == 1:
            if self.reassembly.buffered > _HARD_LIMIT_BYTES:
                raise ProtocolViolation("more data is held back than the window allows")
            self._cumulative = tsn
            if self._runs:
                self._wanted = True
                self._absorb()
        elif ahead == 0 or ahead >= _HALF_32:
            self._note_duplicate(tsn_wire)
            return
        else:
            self._wanted = True
            held = self.reassembly.buffered + len(payload) + HELD_ITEM_BYTES
            if ahead > _MAX_AHEAD or held > RECEIVE_WINDOW_BYTES:
                self.refused_chunks += 1
                return
            if not self._insert(tsn):
                return
        if stream >= MAX_STREAMS:
            self.refused_chunks += 1  # more than we offered: acknowledged and dropped (section 6.5)
            return
        self.reassembly.add(tsn, flags, stream, sequence, protocol, payload, out)

    def skip(
        self, cumulative_wire: int, skipped: list[tuple[int, int]], out: list[SctpEvent]
    ) -> None:
        """FORWARD-TSN: wait no longer for what is missing up to there."""
        self._wanted = True
        ahead = (cumulative_wire - self._cumulative) & MASK_32
        if ahead == 0 or ahead >= _HALF_32:
            return
        self._cumulative += ahead
        self._absorb()
        self.reassembly.skip(self._cumulative, skipped, out)

    def packet_ended(self, now_ns: int) -> None:
        """A packet with data is read: at least every second one is acknowledged at once."""
        self._packets += 1
        if self._packets >= 2 or self._runs:
            self._wanted = True
        elif self.sack_due_ns == FAR_FUTURE_NS:
            self.sack_due_ns = now_ns + SACK_DELAY_NS

    def sack(self, now_ns: int, *, in_company: bool) -> bytes | None:
        """A SACK if one has to go now, or if there is one to say and a packet goes anyway."""
        if not (self._wanted or now_ns >= self.sack_due_ns or (in_company and self._packets)):
            return None
        window_bytes = max(0, RECEIVE_WINDOW_BYTES - self.reassembly.buffered)
        chunk = sack_chunk(self._cumulative, window_bytes, self._runs, self._duplicates)
        self._wanted = False
        self._packets = 0
        self.sack_due_ns = FAR_FUTURE_NS
        if self._duplicates:
            self._duplicates = []
        return chunk

    def _note_duplicate(self, tsn_wire: int) -> None:
        self._wanted = True
        if len(self._duplicates) < _MAX_DUPLICATES:
            self._duplicates.append(tsn_wire)

    def _absorb(self) -> None:
        """Runs that the cumulative TSN has reached are no gaps any more."""
        runs = self._runs
        while runs and runs[0][0] <= self._cumulative + 1:
            self._cumulative = max(self._cumulative, runs.pop(0)[1])

    def _insert(self, tsn: int) -> bool:
        """Note a TSN above a gap; False when it was there, or there are too many gaps to tell of."""
        runs = self._runs
        at = bisect_left(runs, (tsn + 1, 0))  # all before it begin at `tsn` or below
        first = last = tsn
        start = end = at
        if at and runs[at - 1][1] >= tsn:
            self._note_duplicate(tsn & MASK_32)
            return False
        if at and runs[at - 1][1] == tsn - 1:
            start, first = at - 1, runs[at - 1][0]
        if at < len(runs) and runs[at][0] == tsn + 1:
            end, last = at + 1, runs[at][1]
        if start == end and len(runs) >= MAX_GAP_BLOCKS:
            self.refused_chunks += 1
            return False
        runs[start:end] = [(first, last)]
        return True

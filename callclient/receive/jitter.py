"""Puts packets of one SSRC back in order and decides which are lost. Pure: no clock, no socket."""

from __future__ import annotations

from dataclasses import dataclass

from rtc.rtp import RtpHeader, Unwrapper

MAX_GAP_PACKETS = 1000
"""A jump this far is a new start of the sender, not loss."""
_NACK_REPEAT_NS = 60_000_000
_NACK_MAX = 5


@dataclass(frozen=True, slots=True)
class BufferedPacket:
    """A packet in its place."""

    sequence: int
    """Unwrapped."""
    header: RtpHeader
    payload: bytes
    arrival_ns: int
    lost_before: int = 0
    """Packets given up between this one and the one released before it."""


@dataclass(slots=True)
class _Missing:
    since_ns: int
    asked_ns: int = 0
    times_asked: int = 0


class JitterBuffer:
    """Releases packets in order; waits up to `max_wait_ns` for a missing one.

    After a pause of `pause_ns` without packets a jump in the sequence is taken for a mute (the SFU
    drops what a muted publisher sends), not for loss.
    """

    def __init__(self, *, max_wait_ns: int, pause_ns: int = 300_000_000) -> None:
        self._max_wait_ns = max_wait_ns
        self._pause_ns = pause_ns
        self._unwrapper = Unwrapper(16)
        self._next: int | None = None
        self._waiting: dict[int, BufferedPacket] = {}
        self._missing: dict[int, _Missing] = {}
        self._last_arrival_ns = 0
        self.lost = 0
        self.late = 0
        self.duplicate = 0

    def push(self, header: RtpHeader, payload: bytes, arrival_ns: int) -> list[BufferedPacket]:
        """Take a packet; returns what can be released now, in order."""
        sequence = self._unwrapper.unwrap(header.sequence)
        paused = arrival_ns - self._last_arrival_ns > self._pause_ns
        self._last_arrival_ns = arrival_ns
        released: list[BufferedPacket] = []
        if self._next is not None and self._restarted(sequence, paused=paused):
            released = self.release_all()
            self._next = None
        if self._next is None:
            self._next = sequence
        if sequence < self._next:
            self.late += 1
            return released
        if sequence in self._waiting:
            self.duplicate += 1
            return released
        self._note_missing(sequence, arrival_ns)
        self._waiting[sequence] = BufferedPacket(sequence, header, payload, arrival_ns)
        return released + self._release_ready()

    def give_up(self, now_ns: int) -> list[BufferedPacket]:
        """Release what waited long enough for a missing packet; call it every few milliseconds."""
        released: list[BufferedPacket] = []
        while self._waiting:
            first = min(self._waiting)
            if now_ns - self._waiting[first].arrival_ns < self._max_wait_ns:
                break
            released += self._skip_to(first)
        return released

    def wanted(self, now_ns: int) -> list[int]:
        """16-bit sequence numbers to ask for again now (RFC 4585): at once, then every 60 ms, 5 times."""
        due = []
        for sequence, missing in self._missing.items():
            again = missing.times_asked == 0 or now_ns - missing.asked_ns >= _NACK_REPEAT_NS
            if again and missing.times_asked < _NACK_MAX:
                missing.asked_ns = now_ns
                missing.times_asked += 1
                due.append(sequence & 0xFFFF)
        return due

    def _restarted(self, sequence: int, *, paused: bool) -> bool:
        gap = sequence - (self._next or 0)
        return abs(gap) > MAX_GAP_PACKETS or (paused and gap != 0)

    def _note_missing(self, sequence: int, now_ns: int) -> None:
        newest = max(self._waiting, default=(self._next or 0) - 1)
        for gap in range(newest + 1, sequence):
            self._missing[gap] = _Missing(now_ns)
        self._missing.pop(sequence, None)

    def _release_ready(self, lost_before: int = 0) -> list[BufferedPacket]:
        released: list[BufferedPacket] = []
        while self._next in self._waiting:
            packet = self._waiting.pop(self._next)
            if lost_before:
                packet = BufferedPacket(
                    packet.sequence, packet.header, packet.payload, packet.arrival_ns, lost_before
                )
                lost_before = 0
            released.append(packet)
            self._next += 1
        return released

    def _skip_to(self, sequence: int) -> list[BufferedPacket]:
        lost = sequence - (self._next or 0)
        self.lost += lost
        self._next = sequence
        for gone in [s for s in self._missing if s < sequence]:
            del self._missing[gone]
        return self._release_ready(lost)

    def release_all(self) -> list[BufferedPacket]:
        """Give up whatever is missing and release the rest."""
        released: list[BufferedPacket] = []
        while self._waiting:
            released += self._skip_to(min(self._waiting))
        self._missing.clear()
        return released

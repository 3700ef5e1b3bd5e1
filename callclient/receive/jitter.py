"""Puts packets of one SSRC back in order and decides which are lost. Pure: no clock, no socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rtc.rtp import RtpHeader, Unwrapper

MAX_GAP_PACKETS: Final = 1000
"""A jump this far is a new start of the sender, not loss."""
_CAPACITY: Final = 2048
"""Packets that wait for a missing one: more than any budget needs at 10 Mbit/s."""
_REMEMBERED_LOSSES: Final = 1024


@dataclass(slots=True)
class BufferedPacket:
    """A packet in its place."""

    sequence: int
    """Unwrapped."""
    header: RtpHeader
    payload: bytes
    arrival_ns: int
    timestamp: int = 0
    """Unwrapped, as `SourceClock.place` wants it."""
    lost_before: int = 0
    """Packets given up between this one and the one released before it."""


class JitterBuffer:
    """Releases packets in order; waits up to `max_wait_ns` for a missing one.

    Sound only: after a pause of `pause_ns` without packets a jump in the sequence is taken for a mute (the
    original SFU drops what a muted publisher sends, and leaves the numbers as they are), not for loss.
    """

    def __init__(
        self, *, max_wait_ns: int, pause_ns: int | None = None, capacity: int = _CAPACITY
    ) -> None:
        """`pause_ns`: None where packets never stop without loss."""
        self._max_wait_ns = max_wait_ns
        self._pause_ns = pause_ns
        self._capacity = capacity
        self._unwrapper = Unwrapper(16)
        self._next: int | None = None
        self._waiting: dict[int, BufferedPacket] = {}
        self._given_up: dict[int, None] = {}
        self._last_arrival_ns = 0
        self.lost = 0
        """Given up, whether they came later or not."""
        self.late = 0
        """Came after they were given up."""
        self.duplicate = 0
        self.gaps = 0
        """Jumps in the sequence after a pause."""
        self.restarts = 0
        """Jumps too far for loss."""

    @property
    def waiting(self) -> int:
        """Packets in the buffer."""
        return len(self._waiting)

    @property
    def next(self) -> int | None:
        """The number that is to be released next; None before the first and after a jump."""
        return self._next

    def number(self, sequence: int) -> int:
        """The unwrapped number of a 16-bit one."""
        return self._unwrapper.unwrap(sequence)

    def jumps(self, number: int, arrival_ns: int, *, settling: bool = False) -> bool:
        """Does the sender go on elsewhere with this packet? Then call `flush` before `add`.

        `settling`: it is open still where in time the waiting packets belong. A pause decides it: what comes
        after may belong elsewhere, however its numbers go on.
        """
        paused = self._pause_ns is not None and arrival_ns - self._last_arrival_ns > self._pause_ns
        self._last_arrival_ns = max(self._last_arrival_ns, arrival_ns)
        if self._next is None and not self._waiting:
            return False
        due = min(self._waiting) if self._next is None else self._next
        if paused:
            ahead = number - max(self._waiting, default=due - 1)
            if ahead > 1:
                self.gaps += 1
            if ahead > 1 or (ahead == 1 and settling):
                return True
        if abs(number - due) > MAX_GAP_PACKETS:
            self.restarts += 1
            return True
        return False

    def add(self, packet: BufferedPacket, *, hold: bool = False) -> list[BufferedPacket]:
        """Take a packet; returns what can be released now, in order; nothing while `hold`."""
        number = packet.sequence
        if not hold and not self._waiting and (self._next is None or number == self._next):
            self._next = number + 1
            return [packet]
        if self._next is not None and number < self._next:
            if number in self._given_up:
                del self._given_up[number]
                self.late += 1
            else:
                self.duplicate += 1
            return []
        if number in self._waiting:
            self.duplicate += 1
            return []
        self._waiting[number] = packet
        if len(self._waiting) > self._capacity:
            return self._skip_to(min(self._waiting))
        return [] if hold else self.ready()

    def ready(self) -> list[BufferedPacket]:
        """What can be released without giving anything up."""
        if self._next is None and self._waiting:
            self._next = min(self._waiting)
        released: list[BufferedPacket] = []
        number = self._next
        while number is not None and (packet := self._waiting.pop(number, None)) is not None:
            released.append(packet)
            number += 1
        self._next = number
        return released

    def give_up(self, now_ns: int) -> list[BufferedPacket]:
        """Release what waited long enough for a missing packet; call it every few milliseconds."""
        released: list[BufferedPacket] = []
        while self._waiting:
            since_ns = min(packet.arrival_ns for packet in self._waiting.values())
            if now_ns - since_ns < self._max_wait_ns:
                break
            released += self._skip_to(min(self._waiting))
        return released

    def flush(self) -> list[BufferedPacket]:
        """Give up whatever is missing, release the rest; the next packet may have any number."""
        released: list[BufferedPacket] = []
        while self._waiting:
            released += self._skip_to(min(self._waiting))
        self._next = None
        return released

    def _skip_to(self, number: int) -> list[BufferedPacket]:
        first = number if self._next is None else self._next
        self.lost += number - first
        self._given_up.update(dict.fromkeys(range(first, number)))
        while len(self._given_up) > _REMEMBERED_LOSSES:
            del self._given_up[next(iter(self._given_up))]
        self._next = number
        released = self.ready()
        released[0].lost_before = number - first
        return released

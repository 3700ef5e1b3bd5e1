"""Packets that came before anybody said whose they are. Pure.

An SFU may send before its description has been read here: without these packets a voice would lose its
first word, a screen the key frame that was sent for us.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from rtc.rtp import RtpHeader

EarlyPacket = tuple[bytes, RtpHeader, int]
"""(packet, its header, arrival_ns)."""
CAPACITY: Final = 64
KEPT_NS: Final = 1_000_000_000


class EarlyPackets:
    """Of one connection: the newest ones of the last second, whatever their SSRC."""

    def __init__(self) -> None:
        self._waiting: deque[EarlyPacket] = deque()
        self.dropped = 0
        """That nobody claimed in time, or for which there was no room."""

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, packet: bytes, header: RtpHeader, arrival_ns: int) -> None:
        """Of an SSRC that is not known yet."""
        self.forget_old(arrival_ns)
        if len(self._waiting) >= CAPACITY:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append((packet, header, arrival_ns))

    def take(self, ssrc: int, now_ns: int) -> list[EarlyPacket]:
        """Those of an SSRC that is known now, in the order of their arrival."""
        self.forget_old(now_ns)
        found = [early for early in self._waiting if early[1].ssrc == ssrc]
        if found:
            self._waiting = deque(early for early in self._waiting if early[1].ssrc != ssrc)
        return found

    def forget_old(self, now_ns: int) -> None:
        """Drop what has waited too long."""
        while self._waiting and now_ns - self._waiting[0][2] > KEPT_NS:
            self._waiting.popleft()
            self.dropped += 1

"""Media that has come before anybody said what it is (rtcd.md trap 16)."""

from __future__ import annotations

from dataclasses import dataclass

from rtc.sdp import Msid
from rtc.sections import RemoteMedia
from sfu.declared import DeclaredMedia

UNDECIDED_NS = 2_000_000_000
"""How long it waits for the `screen_on` or `video_on` that says what it is."""


@dataclass(slots=True)
class _Waiting:
    msid: Msid
    first_packet_ns: int
    given_up: bool = False


class Undecided:
    """The sections of one publisher that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def declared(self, declared: DeclaredMedia) -> None:
        """There is a new description: what is in it no more, or is something else, has not come yet."""
        for mid, waiting in list(self._waiting.items()):
            media = declared.get(mid)
            if media is None or media.msid != waiting.msid:
                del self._waiting[mid]

    def holds(self, media: RemoteMedia, now_ns: int) -> bool:
        """A packet of it came: may it still be announced in a moment?"""
        waiting = self._waiting.get(media.mid)
        if waiting is None:
            waiting = self._waiting[media.mid] = _Waiting(media.msid, now_ns)
        return now_ns - waiting.first_packet_ns <= UNDECIDED_NS

    def give_up(self, media: RemoteMedia) -> bool:
        """Nobody has announced what `holds` was asked of; True the first time."""
        waiting = self._waiting[media.mid]
        first, waiting.given_up = not waiting.given_up, True
        return first

    def decided(self, mid: str) -> bool:
        """It is known now. Did it wait?"""
        return self._waiting.pop(mid, None) is not None

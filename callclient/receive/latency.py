"""How long a listener waits for packets that are missing: a setting of each client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NS: Final = 1_000_000_000
MAX_WAIT_S: Final = 1.0
TICK_NS: Final = 20_000_000
"""How often the receive path looks at what is overdue: a wait may last this much longer than asked for."""


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """What receiving may add to the way of a packet. Nothing is added while nothing is missing.

    A packet that comes later than this has missed its place: what follows it has been handed on.

    Raises:
        ValueError: a wait is negative or longer than MAX_WAIT_S.
    """

    audio_wait_s: float
    """For lost or swapped packets of sound; also how long the first packets of a speaker are held to see
    how late they are."""
    video_wait_s: float
    """For the repetition of lost packets of a picture."""

    def __post_init__(self) -> None:
        for name in ("audio_wait_s", "video_wait_s"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_WAIT_S:
                raise ValueError(f"{name} is {value:g}; wanted 0 to {MAX_WAIT_S:g} seconds")

    @property
    def audio_wait_ns(self) -> int:
        """Less the time until somebody looks."""
        return max(0, round(self.audio_wait_s * _NS) - TICK_NS)

    @property
    def video_wait_ns(self) -> int:
        return max(0, round(self.video_wait_s * _NS) - TICK_NS)


CAPTIONS: Final = LatencyBudget(audio_wait_s=0.12, video_wait_s=0.4)
"""Words are shown while they are spoken."""
RECORDING: Final = LatencyBudget(audio_wait_s=0.85, video_wait_s=0.85)
"""For a recorder that writes a second behind the call."""

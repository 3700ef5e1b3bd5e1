"""What becomes of each datagram. Pure: seeded, no clock and no socket."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Weather:
    """Of a way, in either direction.

    Raises:
        ValueError: a share outside 0 to 1, a negative time.
    """

    loss: float = 0.0
    """Share of the datagrams that vanish, each for itself."""
    jitter_ms: int = 0
    """Each is delayed by 0 to this, evenly spread and each for itself, so that they overtake each other."""
    burst_every_s: float = 0.0
    """Nothing gets through for `burst_ms`, again and again; 0: never."""
    burst_ms: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss is {self.loss:g}; wanted a share from 0 to 1")
        for name in ("jitter_ms", "burst_every_s", "burst_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; wanted 0 or more")

    def bursts_ns(self, begin_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """When nothing gets through, counted from when the weather began; whole bursts before `end_ns`."""
        if not self.burst_every_s:
            return []
        every_ns, length_ns = round(self.burst_every_s * _NS), self.burst_ms * _MS
        found = []
        at_ns = begin_ns + every_ns
        while at_ns + length_ns <= end_ns:
            found.append((at_ns, at_ns + length_ns))
            at_ns += every_ns
        return found


class Fate:
    """One direction of one way."""

    def __init__(self, weather: Weather, *, seed: int, begin_ns: int) -> None:
        self._weather = weather
        self._random = random.Random(seed)
        self._begin_ns = begin_ns

    def delay_ns(self, now_ns: int) -> int | None:
        """How long a datagram of now is on its way; None: it never arrives."""
        weather, draw = self._weather, self._random.random
        # Both are drawn always, so that the fates of the others do not depend on this one.
        lost, jitter = draw() < weather.loss, draw()
        if lost or self._in_burst(now_ns):
            return None
        return round(jitter * weather.jitter_ms * _MS)

    def _in_burst(self, now_ns: int) -> bool:
        every_ns = round(self._weather.burst_every_s * _NS)
        since_ns = now_ns - self._begin_ns
        return (
            every_ns > 0
            and since_ns >= every_ns
            and since_ns % every_ns < self._weather.burst_ms * _MS
        )

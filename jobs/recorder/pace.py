"""Steps down what pictures cost when the host is too slow for them, and up again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NS: Final = 1_000_000_000
_WINDOW_NS: Final = 2 * _NS
_TOO_BUSY: Final = 0.85
"""Share of the time; more leaves no room for a burst, and then pictures fall behind."""
_EASY: Final = 0.35
"""So little that the step above, which costs about twice as much, fits too."""
_EASY_WINDOWS: Final = 5
_MOST_EASY_WINDOWS: Final = 80
"""A step up that had to be taken back is tried later and later: up to every 160 s."""


@dataclass(frozen=True, slots=True)
class Step:
    """What pictures may cost."""

    rate_share: float = 1.0
    """Of the asked frame rate."""
    lighter: bool = False
    """The encoder takes the least trouble that it can: more bits for the same, or worse for as many."""
    smaller: bool = False
    """Half the width and height. Players scale it; few expect it in mid-file, so it comes last."""


STEPS: Final = (
    Step(),
    Step(0.5),
    Step(0.25),
    Step(0.25, lighter=True),
    Step(0.25, lighter=True, smaller=True),
)


class Pace:
    """Told how long the media thread worked; says what it may do."""

    def __init__(self, *, now_ns: int) -> None:
        self._level = 0
        self._since_ns = now_ns
        self._busy_ns = 0
        self._easy = 0
        self._easy_wanted = _EASY_WINDOWS
        self._raised = False
        """The last change was upwards, and has not proved itself."""
        self.slowest = 0
        """The lowest step so far, as an index of STEPS."""

    @property
    def level(self) -> int:
        """Index of STEPS; 0: nothing is held back."""
        return self._level

    @property
    def step(self) -> Step:
        return STEPS[self._level]

    def worked(self, busy_ns: int, now_ns: int) -> bool:
        """`busy_ns` more of work; has the step changed?"""
        self._busy_ns += busy_ns
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns < _WINDOW_NS:
            return False
        load = self._busy_ns / elapsed_ns
        self._busy_ns, self._since_ns = 0, now_ns
        return self._judge(load)

    def _judge(self, load: float) -> bool:
        if load > _TOO_BUSY:
            self._easy = 0
            if self._raised:
                self._easy_wanted = min(2 * self._easy_wanted, _MOST_EASY_WINDOWS)
                self._raised = False
            return self._change(self._level + 1)
        self._easy = self._easy + 1 if load < _EASY else 0
        if self._easy < self._easy_wanted:
            return False
        self._easy = 0
        if self._raised:
            self._easy_wanted = _EASY_WINDOWS  # it has lasted: the host is fast again
        self._raised = True
        return self._change(self._level - 1)

    def _change(self, level: int) -> bool:
        level = min(max(level, 0), len(STEPS) - 1)
        changed, self._level = level != self._level, level
        self.slowest = max(self.slowest, level)
        return changed

"""Which of the other side's candidates count (RFC 8838): read, held against the bounds, kept."""

from __future__ import annotations

from rtc.ice.bounds import IceBounds
from rtc.ice.candidate import Candidate, CandidateError
from rtc.ice.generation import Generation


class Intake:
    """Of one agent, through all its generations."""

    __slots__ = ("_bounds", "_pending", "excess", "forbidden", "ignored")

    def __init__(self, bounds: IceBounds) -> None:
        self._bounds = bounds
        self._pending: list[Candidate] = []
        self.ignored = 0
        """Host names, unreadable lines, what is known already, and those of the next two."""
        self.excess = 0
        """What came over the limit."""
        self.forbidden = 0
        """At addresses where nothing is to be sent."""

    def read(self, line: str) -> Candidate | None:
        """One that a check could go to, or None, counted."""
        try:
            candidate = Candidate.parse(line)
        except CandidateError:
            self.ignored += 1
            return None
        if candidate.component != 1 or not candidate.is_reachable:
            self.ignored += 1
            return None
        if self._bounds.forbids(candidate.host):
            self.ignored += 1
            self.forbidden += 1
            return None
        return candidate

    def keep(self, candidate: Candidate) -> None:
        """It waits for the credentials that it belongs to."""
        if self._fits(len(self._pending)):
            self._pending.append(candidate)

    def take_kept(self, ufrag: str) -> list[Candidate]:
        """Those of a generation, or of none in particular; the others are forgotten."""
        kept, self._pending = self._pending, []
        return [candidate for candidate in kept if candidate.ufrag in (None, ufrag)]

    def add(self, candidate: Candidate, generation: Generation) -> bool:
        """Remember it with its generation; False if it is known already, or over the limit."""
        if generation.knows(candidate):
            self.ignored += 1
            return False
        if not self._fits(len(generation.candidates)):
            return False
        generation.candidates.append(candidate)
        return True

    def _fits(self, held: int) -> bool:
        if held < self._bounds.candidates:
            return True
        self.ignored += 1
        self.excess += 1
        return False

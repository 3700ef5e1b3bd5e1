"""What the other side may make an ICE agent do before it has consented (RFC 8445 section 19.5, RFC 8826
section 4.2).

Whoever signals candidates chooses where our checks go. A server that strangers signal to says here how many
it takes, where checks never go, and how many a second it sends to paths where nobody has answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from foundation.addresses import why_forbidden
from rtc.ice.pair import Pair

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class IceBounds:
    """The defaults are a client's, whose candidates come from the server that it has chosen."""

    candidates: int = 100
    """Remote candidates of one generation; a restart begins anew."""
    checks_per_s: int = 0
    """Checks in any second to paths without consent; 0: no limit."""
    link_local: bool = True
    """False: neither candidates nor requests at link-local and metadata addresses count."""

    def forbids(self, host: str) -> bool:
        """Is this an address to which nothing is to be sent?"""
        return not self.link_local and why_forbidden(host) != ""


class CheckBudget:
    """Counts the checks of one agent in the last second. Paths that answered lately are free.

    Half of it is kept for paths over which the other side was heard with the right password: addresses that
    were only named must not hold up the one that works.
    """

    __slots__ = ("_blind", "_consent_ns", "_sent", "held")

    def __init__(self, per_s: int, *, consent_ns: int) -> None:
        """`consent_ns`: how long an answer counts as consent (RFC 7675 section 5.1)."""
        self._sent: deque[int] | None = deque(maxlen=per_s) if per_s else None
        self._blind: deque[int] = deque(maxlen=max(1, per_s // 2))
        self._consent_ns = consent_ns
        self.held = 0
        """Checks that had to wait; each counts once."""

    @property
    def limited(self) -> bool:
        return self._sent is not None

    def free_ns(self, pair: Pair, now_ns: int) -> int:
        """From when on a check may go over this pair; the past or `now_ns` when it may now."""
        if self._sent is None or self._has_consent(pair, now_ns):
            return 0
        free_ns = _free_ns(self._sent)
        return free_ns if pair.validated else max(free_ns, _free_ns(self._blind))

    def permits(self, pair: Pair, now_ns: int) -> bool:
        """May a check go over this pair now? One that may not is counted."""
        if self.free_ns(pair, now_ns) <= now_ns:
            return True
        if not pair.held:
            pair.held = True
            self.held += 1
        return False

    def spend(self, pair: Pair, now_ns: int) -> None:
        """A check goes over this pair."""
        pair.held = False
        if self._sent is None or self._has_consent(pair, now_ns):
            return
        self._sent.append(now_ns)
        if not pair.validated:
            self._blind.append(now_ns)

    def _has_consent(self, pair: Pair, now_ns: int) -> bool:
        return pair.answered_ns > 0 and now_ns < pair.answered_ns + self._consent_ns


def _free_ns(sent: deque[int]) -> int:
    """When the oldest of as many as there may be in a second is a second old."""
    return sent[0] + _SECOND_NS if len(sent) == sent.maxlen else 0

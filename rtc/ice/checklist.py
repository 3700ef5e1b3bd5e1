"""The candidate pairs of one ICE generation, and which is to be checked next (RFC 8445 section 6.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from rtc.ice.candidate import Candidate, TcpType
from rtc.ice.pair import Pair, PairState
from rtc.ice.path import Address, Path, TransportName
from rtc.ice.timings import FAR_FUTURE_NS

MAX_PAIRS = 100
"""RFC 8445 section 6.1.2.5."""

_RUNNING = (PairState.CONNECTING, PairState.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Base:
    """One socket of ours, behind one or more local candidates."""

    transport: TransportName
    tcptype: TcpType | None
    address: Address
    priority: int
    """Highest of its candidates."""

    def reaches(self, remote: Candidate) -> bool:
        """Can a check go from here to there (RFC 8445 section 6.1.2.2, RFC 6544 section 6.2)?"""
        if self.transport != remote.transport:
            return False
        if self.transport == "tcp" and (self.tcptype, remote.tcptype) != ("active", "passive"):
            return False  # with us passive, the other side opens the flow
        ours = ipaddress.ip_address(self.address[0])
        theirs = ipaddress.ip_address(remote.host)
        if ours.version != theirs.version:
            return False
        return theirs.is_loopback or not ours.is_loopback


class Checklist:
    """Owns the pairs; sends nothing. Bounded by MAX_PAIRS."""

    __slots__ = ("_pairs", "idle")

    def __init__(self) -> None:
        self._pairs: dict[Path, Pair] = {}
        self.idle = True
        """Nothing is waiting or running: no need to look."""

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, path: Path) -> Pair | None:
        return self._pairs.get(path)

    def add(self, pair: Pair, *, keep: Pair | None) -> Pair | None:
        """Take a pair; at the limit the least promising one other than `keep` goes, and is returned.

        The one that goes may be the new one.
        """
        self._pairs[pair.path] = pair
        self.idle = False
        if len(self._pairs) <= MAX_PAIRS:
            return None
        victim = min((p for p in self._pairs.values() if p is not keep), key=_promise)
        del self._pairs[victim.path]
        return victim

    def remove(self, pair: Pair) -> None:
        self._pairs.pop(pair.path, None)

    def rank(self, *, controlling: bool) -> None:
        """The role changed."""
        for pair in self._pairs.values():
            pair.rank(controlling=controlling)

    def trigger(self, pair: Pair) -> None:
        """Check this one first."""
        pair.state = PairState.WAITING
        pair.triggered = True
        self.idle = False

    def reopen(self, *, excluding: Pair | None, only_udp: bool = False) -> None:
        """Check the others again: the selected pair does not answer, or a better one is looked for."""
        for pair in self._pairs.values():
            if pair is excluding or pair.state in _RUNNING or (only_udp and pair.is_tcp):
                continue
            pair.end_check(PairState.WAITING)
            self.idle = False

    def conclude(self, *, keep_udp: bool) -> None:
        """A pair was selected: stop checking, but for UDP where we are only on TCP."""
        for pair in self._pairs.values():
            if keep_udp and not pair.is_tcp:
                continue
            if pair.state is PairState.WAITING or pair.state in _RUNNING:
                pair.end_check(PairState.IDLE)

    def has_flows(self, *, excluding: Pair | None) -> bool:
        """Are there TCP flows that this side has asked for?"""
        return any(p.flow_wanted and p is not excluding for p in self._pairs.values())

    def hang_up(self, *, excluding: Pair | None) -> list[Pair]:
        """The pairs whose TCP flow this side has asked for and does not need any more."""
        dialled = [p for p in self._pairs.values() if p.flow_wanted and p is not excluding]
        for pair in dialled:
            pair.end_check(PairState.IDLE)
            pair.flow_wanted = pair.flow_open = pair.validated = False
        return dialled

    def overdue(self, now_ns: int) -> list[Pair]:
        """Pairs whose check waits too long for its answer; those that were sent least often come first."""
        late = [p for p in self._pairs.values() if p.state in _RUNNING and p.due_ns <= now_ns]
        late.sort(key=lambda pair: (not pair.validated, pair.transmissions))
        return late

    def waiting(self, *, tcp_allowed: bool) -> list[Pair]:
        """Pairs whose check is to begin, the next one first: triggered ones, then by priority."""
        found = [
            p
            for p in self._pairs.values()
            if p.state is PairState.WAITING and (tcp_allowed or p.flow_open or p.triggered)
        ]
        found.sort(key=lambda pair: (pair.triggered, pair.priority), reverse=True)
        return found

    def best_valid(self, *, excluding: Pair | None) -> Pair | None:
        """The valid pair of highest priority."""
        valid = [
            p for p in self._pairs.values() if p.state is PairState.SUCCEEDED and p is not excluding
        ]
        return max(valid, key=lambda pair: pair.priority, default=None)

    def may_beat(self, valid: Pair) -> bool:
        """Is a pair of higher priority still being checked?"""
        return any(
            p.priority > valid.priority and (p.state is PairState.WAITING or p.state in _RUNNING)
            for p in self._pairs.values()
        )

    def udp_is_open(self) -> bool:
        """May a UDP pair still succeed, or has one?"""
        return any(not p.is_tcp and p.state is not PairState.FAILED for p in self._pairs.values())

    def busy(self) -> int:
        """How many pairs are waiting or running."""
        return sum(
            p.state is PairState.WAITING or p.state in _RUNNING for p in self._pairs.values()
        )

    def running_due_ns(self) -> int:
        """When the next running check wants attention."""
        return min(
            (p.due_ns for p in self._pairs.values() if p.state in _RUNNING), default=FAR_FUTURE_NS
        )


def _promise(pair: Pair) -> tuple[bool, int, int]:
    """What speaks for keeping a pair: it worked, lately; its priority."""
    return pair.state is PairState.SUCCEEDED, pair.answered_ns, pair.priority

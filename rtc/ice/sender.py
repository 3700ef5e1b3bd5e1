"""The sending half of an ICE agent: starts checks at their pace, repeats them, gives them up, answers."""

from __future__ import annotations

import secrets

from rtc import stun
from rtc.ice.bounds import CheckBudget
from rtc.ice.candidate import reflexive_priority
from rtc.ice.events import ConnectTcp, IceEvent, PathReleased
from rtc.ice.generation import Generation
from rtc.ice.pair import Pair, PairState
from rtc.ice.path import Path
from rtc.ice.timings import FAR_FUTURE_NS, IceTimings

_TCP_GRACE_NS = 200_000_000
"""Without any UDP pair, TCP waits that long for one: candidates come one by one."""


class CheckSender:
    """Knows the role and what is to go out; decides nothing about selection."""

    __slots__ = (
        "_next_check_ns",
        "_tie_breaker",
        "_timings",
        "budget",
        "controlling",
        "datagrams",
        "events",
    )

    def __init__(self, *, controlling: bool, timings: IceTimings, checks_per_s: int = 0) -> None:
        """`checks_per_s`: see `IceBounds`."""
        self._timings = timings
        self.budget = CheckBudget(checks_per_s, consent_ns=timings.expiry_ns)
        self._tie_breaker = secrets.token_bytes(8)
        self._next_check_ns = 0
        self.controlling = controlling
        self.datagrams: list[tuple[Path, bytes]] = []
        self.events: list[IceEvent] = []

    @property
    def tie_breaker(self) -> int:
        return int.from_bytes(self._tie_breaker, "big")

    def answer(self, request: stun.StunMessage, path: Path, key: bytes) -> None:
        """A success response, to where the request came from."""
        response = stun.binding_success(request.transaction_id, mapped=path.remote, key=key)
        self.datagrams.append((path, response))

    def refuse(self, request: stun.StunMessage, path: Path, key: bytes, code: int) -> None:
        """An error response. Only for requests whose integrity holds: no work for strangers."""
        response = stun.binding_error(
            request.transaction_id, code=code, key=key, unknown=request.unknown
        )
        self.datagrams.append((path, response))

    def ask_consent(self, generation: Generation, pair: Pair) -> bytes:
        """Send a check that is not repeated; returns its transaction id.

        It carries USE-CANDIDATE when we nominate, as browsers do: should our address change on its way (a NAT
        forgot us), the other side learns at once where to send.
        """
        transaction_id = stun.new_transaction_id(generation.local.tag)
        request = self._build(generation, pair, transaction_id, use_candidate=self.controlling)
        self.datagrams.append((pair.path, request))
        return transaction_id

    def begin(
        self, generation: Generation, pair: Pair, now_ns: int, *, nominate: bool = False
    ) -> None:
        """Start a check, or have the TCP flow for it opened."""
        pair.triggered = False
        generation.checklist.idle = False
        if not pair.flow_open:
            pair.state = PairState.CONNECTING
            pair.flow_wanted = True
            pair.due_ns = now_ns + self._timings.tcp_timeout_ns
            self.events.append(ConnectTcp(pair.path))
            return
        pair.state = PairState.IN_PROGRESS
        pair.nominating = nominate
        pair.sent_as_controlling = self.controlling
        pair.transaction_id = stun.new_transaction_id(generation.local.tag)
        pair.request = self._build(generation, pair, pair.transaction_id, use_candidate=nominate)
        pair.transmissions = 0
        timings = self._timings
        if pair.answered_ns:
            pair.rto_ns = min(timings.proven_rto_ns, max(timings.known_rto_ns, 3 * pair.rtt_ns))
        else:  # RFC 8445 section 14.3
            pair.rto_ns = max(timings.rto_ns, timings.pace_ns * generation.checklist.busy())
        self._transmit(pair, now_ns)

    def hasten(self, pair: Pair, now_ns: int) -> None:
        """The other side asks on a pair whose own check is running: its way is open now, so do not wait for
        the back-off to end (RFC 8445 section 7.3.1.4). At most ten times a second."""
        if not pair.is_tcp and now_ns >= pair.sent_ns + 2 * self._timings.pace_ns:
            pair.rto_ns = self._timings.rto_ns // 2
            pair.transmissions = 1
            pair.due_ns = now_ns

    def run(self, generation: Generation, now_ns: int) -> None:
        """Do what is due: repeat or give up running checks, start one more if the pace allows."""
        if not self.budget.limited:
            self._repeat(generation, now_ns)
        self._begin_next(generation, now_ns)
        if self.budget.limited:  # who was never asked comes before who did not answer
            self._repeat(generation, now_ns)

    def due_ns(self, generation: Generation, now_ns: int) -> int:
        """When `run` has something to do next; notes it when that is never."""
        checklist = generation.checklist
        due_ns = checklist.running_due_ns()
        begin_ns = self._next_check_ns
        waiting = checklist.waiting(tcp_allowed=False)
        if not waiting:
            waiting = checklist.waiting(tcp_allowed=True)
            begin_ns = max(begin_ns, self._tcp_ns(generation))
        if waiting:
            free_ns = min(self.budget.free_ns(pair, now_ns) for pair in waiting)
            due_ns = min(due_ns, max(begin_ns, free_ns))
        if due_ns == FAR_FUTURE_NS:
            checklist.idle = True
        return due_ns

    def _begin_next(self, generation: Generation, now_ns: int) -> None:
        if now_ns < self._next_check_ns:
            return
        waiting = generation.checklist.waiting(tcp_allowed=now_ns >= self._tcp_ns(generation))
        for pair in waiting:
            if self.budget.permits(pair, now_ns):
                self.begin(generation, pair, now_ns)
                self._next_check_ns = now_ns + self._timings.pace_ns
                return

    def _repeat(self, generation: Generation, now_ns: int) -> None:
        for pair in generation.checklist.overdue(now_ns):
            self._overdue(pair, now_ns)

    def _tcp_ns(self, generation: Generation) -> int:
        """From when on TCP flows may be opened: UDP first."""
        if generation.checklist.udp_is_open():
            return generation.tcp_ns
        return min(
            generation.tcp_ns, generation.tcp_ns - self._timings.tcp_delay_ns + _TCP_GRACE_NS
        )

    def _overdue(self, pair: Pair, now_ns: int) -> None:
        timings = self._timings
        if pair.state is PairState.CONNECTING:
            waited_s = timings.tcp_timeout_ns / 1e9
            pair.flow_wanted = False
            pair.end_check(PairState.FAILED, f"TCP flow not open within {waited_s:g} s")
            self.events.append(PathReleased(pair.path))
        elif pair.is_tcp or pair.transmissions >= timings.max_transmissions:
            times = "request" if pair.transmissions == 1 else "requests"
            pair.end_check(PairState.FAILED, f"no answer to {pair.transmissions} {times}")
        elif not self.budget.permits(pair, now_ns):
            pair.due_ns = self.budget.free_ns(pair, now_ns)
        else:
            # Where something came from, the way is open and only loss is to be overcome.
            limit_ns = timings.proven_rto_ns if pair.validated else timings.max_rto_ns
            pair.rto_ns = min(2 * pair.rto_ns, limit_ns)
            self._transmit(pair, now_ns)

    def _transmit(self, pair: Pair, now_ns: int) -> None:
        self.budget.spend(pair, now_ns)
        self.datagrams.append((pair.path, pair.request))
        pair.transmissions += 1
        pair.sent_ns = now_ns
        # Over TCP nothing is lost, so nothing is repeated (RFC 8489 section 6.2.2).
        pair.due_ns = now_ns + (self._timings.tcp_timeout_ns if pair.is_tcp else pair.rto_ns)

    def _build(
        self, generation: Generation, pair: Pair, transaction_id: bytes, *, use_candidate: bool
    ) -> bytes:
        return generation.build_check(
            transaction_id,
            priority=reflexive_priority(pair.local_priority, pair.path.transport),
            tie_breaker=self._tie_breaker,
            controlling=self.controlling,
            use_candidate=use_candidate,
        )

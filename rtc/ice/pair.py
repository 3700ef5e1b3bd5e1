"""One candidate pair of an ICE agent, with the check that is running on it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rtc.ice.candidate import Candidate, pair_priority
from rtc.ice.path import Path


class PairState(enum.Enum):
    """RFC 8445 section 6.1.2.6, without Frozen: with one component and one stream, pacing in the order of
    priority says all that freezing would."""

    IDLE = "idle"
    """Not to be checked now: another pair was selected."""
    WAITING = "waiting"
    CONNECTING = "connecting"
    """The owner was asked for a TCP flow."""
    IN_PROGRESS = "in progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PairReport:
    """What became of one pair, for logs and evidence."""

    path: Path
    state: PairState
    priority: int
    rtt_s: float | None
    selected: bool
    reason: str
    """Why it failed; what it waits for while it is being checked; empty otherwise."""

    def __str__(self) -> str:
        rtt = "" if self.rtt_s is None else f", RTT {self.rtt_s * 1000:.0f} ms"
        return f"{self.path} {self.reason or self.state.value}{rtt}"


class Pair:
    """A path and how far its check is. Times are monotonic ns; 0 is never."""

    __slots__ = (
        "answered_ns",
        "dialled",
        "due_ns",
        "flow_open",
        "flow_wanted",
        "held",
        "local_priority",
        "nominated_ns",
        "nominating",
        "path",
        "priority",
        "reason",
        "remote",
        "request",
        "rto_ns",
        "rtt_ns",
        "sent_as_controlling",
        "sent_ns",
        "state",
        "transaction_id",
        "transmissions",
        "triggered",
        "validated",
    )

    def __init__(
        self,
        path: Path,
        remote: Candidate,
        *,
        local_priority: int,
        controlling: bool,
        dialled: bool = False,
    ) -> None:
        """`dialled`: a TCP flow that this side has to open."""
        self.path = path
        self.remote = remote
        self.local_priority = local_priority
        self.priority = 0
        self.rank(controlling=controlling)
        self.state = PairState.WAITING
        self.dialled = dialled
        self.flow_wanted = False
        """The owner was asked for a flow and not told otherwise yet."""
        self.flow_open = not dialled
        self.triggered = False
        """To be checked before others (RFC 8445 section 6.1.4.1)."""
        self.validated = False
        """A message with the right password came over it."""
        self.held = False
        """A check waits until there may be one more (`rtc.ice.bounds`)."""
        self.nominating = False
        """The running check carries USE-CANDIDATE."""
        self.nominated_ns = 0
        """When the controlling side last nominated it."""
        self.answered_ns = 0
        """When a request of ours was last answered."""
        self.rtt_ns = 0
        self.reason = ""
        self.transaction_id = b""
        self.request = b""
        self.sent_as_controlling = False
        self.transmissions = 0
        self.sent_ns = 0
        self.due_ns = 0
        """When to transmit again or give up."""
        self.rto_ns = 0

    def rank(self, *, controlling: bool) -> None:
        """Work the priority out, which depends on our role."""
        local, remote = self.local_priority, self.remote.priority
        self.priority = (
            pair_priority(local, remote) if controlling else pair_priority(remote, local)
        )

    @property
    def is_tcp(self) -> bool:
        return self.path.transport == "tcp"

    @property
    def in_use(self) -> bool:
        """Does the owner hold something for its path, an address or a flow?"""
        return self.validated or self.flow_wanted

    def end_check(self, state: PairState, reason: str = "") -> None:
        """The running check, or the wait for one, is over."""
        self.state = state
        self.reason = reason
        self.triggered = False
        self.nominating = False
        self.request = b""

    def report(self, *, selected: bool) -> PairReport:
        reason = self.reason
        if self.state is PairState.IN_PROGRESS and self.transmissions:
            reason = f"no answer yet to {self.transmissions} requests"
        elif self.state is PairState.CONNECTING:
            reason = "TCP flow not open yet"
        return PairReport(
            path=self.path,
            state=self.state,
            priority=self.priority,
            rtt_s=self.rtt_ns / 1e9 if self.rtt_ns else None,
            selected=selected,
            reason=reason,
        )

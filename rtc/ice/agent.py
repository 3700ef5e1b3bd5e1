"""A full ICE agent without any I/O (RFC 8445, 8838, 7675, 6544): datagrams and the time in, datagrams and
events out.

One component, one stream, both roles. It has no task, no timer and no socket, so that one ticker of its owner
drives thousands: after each call, `due_ns` says when `tick` is wanted next, `take_outgoing` and `take_events`
what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rtc.ice.bounds import IceBounds
from rtc.ice.candidate import Candidate
from rtc.ice.checklist import Base
from rtc.ice.credentials import IceCredentials
from rtc.ice.events import Failed, IceEvent, PathReleased
from rtc.ice.exchange import Exchange
from rtc.ice.generation import Generation
from rtc.ice.intake import Intake
from rtc.ice.pair import PairReport, PairState
from rtc.ice.path import Address, Path
from rtc.ice.selection import Selection
from rtc.ice.sender import CheckSender
from rtc.ice.timings import DEFAULT_TIMINGS, FAR_FUTURE_NS, IceTimings

_NAMED_PAIRS = 10
_UNBOUND = IceBounds()


class IceAgent:
    """One side of one transport.

    The controlled side takes what the other nominates; the controlling side nominates the first pair that
    works (UDP before TCP), and another one when that stops answering. Addresses in paths must be in normal
    form.
    """

    __slots__ = (
        "_exchange",
        "_failed",
        "_local",
        "_selection",
        "_sender",
        "_timings",
        "due_ns",
        "intake",
    )

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: IceCredentials,
        timings: IceTimings = DEFAULT_TIMINGS,
        selection: type[Selection] = Selection,
        bounds: IceBounds = _UNBOUND,
    ) -> None:
        """Raises ValueError when our ufrag has less than 16 characters."""
        self._timings = timings
        self._sender = CheckSender(
            controlling=controlling, timings=timings, checks_per_s=bounds.checks_per_s
        )
        self._selection = selection(self._sender, timings)
        self._exchange = Exchange(
            Generation(credentials), self._sender, self._selection, timings, bounds
        )
        self._local: tuple[Candidate, ...] = ()
        self._failed = False
        self.due_ns = FAR_FUTURE_NS
        """When `tick` wants to be called, monotonic ns. Every method may change it."""
        self.intake = Intake(bounds)
        """Counts what became of the other side's candidates."""

    @property
    def refused_requests(self) -> int:
        """Requests with an unknown ufrag or a wrong password. They get no answer."""
        return self._exchange.refused_requests

    @property
    def forbidden_requests(self) -> int:
        """Requests that seem to come from addresses where nothing is to be sent. They get no answer."""
        return self._exchange.forbidden_requests

    @property
    def held_checks(self) -> int:
        """Checks that had to wait because there were too many in a second."""
        return self._sender.budget.held

    @property
    def ignored_messages(self) -> int:
        """What could not be read, and responses nobody waits for."""
        return self._exchange.ignored_messages

    @property
    def controlling(self) -> bool:
        """Our role; a conflict may change it."""
        return self._sender.controlling

    @property
    def credentials(self) -> IceCredentials:
        """Ours, of the newest generation."""
        return self._exchange.current.local

    @property
    def remote_credentials(self) -> IceCredentials | None:
        return self._exchange.current.remote

    @property
    def local_candidates(self) -> tuple[Candidate, ...]:
        return self._local

    @property
    def selected(self) -> Path | None:
        """Where media goes; None before, after the end, and while a closed TCP flow has no successor."""
        pair = self._selection.pair
        return None if pair is None else pair.path

    @property
    def rtt_s(self) -> float | None:
        """Round trip of the last answered check on the selected path."""
        pair = self._selection.pair
        return pair.rtt_ns / 1e9 if pair is not None and pair.rtt_ns else None

    @property
    def failed(self) -> bool:
        return self._failed

    def pairs(self) -> tuple[PairReport, ...]:
        """What became of every pair of the newest generation, best first."""
        ordered = sorted(self._exchange.current.checklist, key=lambda pair: -pair.priority)
        selected = self._selection.pair
        return tuple(pair.report(selected=pair is selected) for pair in ordered)

    def take_outgoing(self) -> Sequence[tuple[Path, bytes]]:
        """Datagrams to send, in order; each is handed out once."""
        datagrams = self._sender.datagrams
        if not datagrams:
            return ()
        self._sender.datagrams = []
        return datagrams

    def take_events(self) -> Sequence[IceEvent]:
        """What happened since the last call, in order."""
        events = self._sender.events
        if not events:
            return ()
        self._sender.events = []
        return events

    def add_local(self, candidate: Candidate, base: Address | None = None) -> None:
        """Tell of a candidate of ours, and of the socket behind it.

        `base` is what paths of that socket have as `local`; by default the candidate's own address, or its
        related one if it is server-reflexive. A passive TCP candidate only stands for a listener.
        """
        if base is None:
            reflexive = candidate.type in ("srflx", "prflx") and candidate.related is not None
            base = candidate.related if reflexive else candidate.address
        assert base is not None
        self._local += (candidate,)
        known = [
            b
            for b in self._exchange.bases
            if (b.transport, b.address) == (candidate.transport, base)
        ]
        priority = max([candidate.priority, *(b.priority for b in known)])
        added = Base(candidate.transport, candidate.tcptype, base, priority)
        self._exchange.bases = (*(b for b in self._exchange.bases if b not in known), added)
        if not known:
            for remote in self._exchange.current.candidates:
                self._pair_up(added, remote)
            self.due_ns = 0

    def remove_local(self, base: Address, now_ns: int, reason: str) -> None:
        """A socket of ours is gone, or a relay, with candidates and pairs; `reason` stays as evidence."""
        self._local = tuple(c for c in self._local if base not in (c.address, c.related))
        self._exchange.bases = tuple(b for b in self._exchange.bases if b.address != base)
        for path in [p.path for p in self._exchange.current.checklist if p.path.local == base]:
            self.path_lost(path, now_ns, reason)
        if self._selection.pair is not None and self._selection.pair.path.local == base:
            self.path_lost(self._selection.pair.path, now_ns, reason)  # of the generation before

    def doubtful(self, now_ns: int) -> bool:
        """Had we a path, and does nobody answer over it any more?"""
        selection = self._selection
        return selection.consent is not None and (
            selection.pair is None or selection.consent.doubtful(now_ns)
        )

    def set_remote(self, credentials: IceCredentials, now_ns: int) -> None:
        """Take the other side's credentials and start. Other ones later are its ICE restart.

        For a restart that the other side asks for, call `restart` with new credentials of our own first, as
        its offer wants them in our answer.
        """
        if self._exchange.current.remote == credentials:
            return
        if self._exchange.current.remote is not None:
            self._renew(self._exchange.current.local)
        self._exchange.current.set_remote(credentials)
        self._exchange.current.deadline_ns = now_ns + self._timings.connect_ns
        # Where a path has just died under a call, TCP does not wait for UDP first.
        tcp_delay_ns = 0 if self.doubtful(now_ns) else self._timings.tcp_delay_ns
        self._exchange.current.tcp_ns = now_ns + tcp_delay_ns
        for candidate in self.intake.take_kept(credentials.ufrag):
            self._add_remote(candidate)
        self._advance(now_ns)

    def add_remote_candidate(self, line: str, now_ns: int) -> None:
        """Take a candidate, with or without `candidate:` in front, at any time (RFC 8838).

        Before `set_remote`, and when it names another generation, it waits. Host names, lines that cannot be
        read and what is empty are left out: such peers are found by their own checks.
        """
        candidate = self.intake.read(line)
        if candidate is None:
            return
        remote = self._exchange.current.remote
        if remote is None or candidate.ufrag not in (None, remote.ufrag):
            self.intake.keep(candidate)
        else:
            self._add_remote(candidate)
            self._advance(now_ns)

    def restart(self, credentials: IceCredentials, now_ns: int) -> None:
        """Start anew with other credentials of ours; `set_remote` is to follow (RFC 8445 section 9).

        The selected path goes on until one is selected in the new generation. Raises ValueError for a short
        ufrag.
        """
        self._renew(credentials)
        self._advance(now_ns)

    def receive(self, datagram: bytes, path: Path, now_ns: int) -> None:
        """Take a STUN datagram that came in on `path`. Whatever it is, it raises nothing."""
        if not self._failed:
            self._exchange.receive(datagram, path, now_ns)
            self._advance(now_ns)

    def tick(self, now_ns: int) -> int:
        """Do what is due; returns when something is due next."""
        if now_ns >= self.due_ns:
            self._advance(now_ns)
        return self.due_ns

    def probe(self, now_ns: int) -> None:
        """The owner misses media: ask for consent now instead of when its interval ends."""
        if self._selection.consent is not None:
            self._selection.consent.ask_now(now_ns)
            self._advance(now_ns)

    def path_opened(self, path: Path, now_ns: int) -> None:
        """The TCP flow that ConnectTcp asked for is open. Say nothing of a flow after its PathReleased."""
        pair = self._exchange.current.checklist.get(path)
        if pair is None or not pair.flow_wanted:
            self._sender.events.append(PathReleased(path))
            return
        pair.flow_open = True
        if pair.state is PairState.CONNECTING:
            self._exchange.current.checklist.trigger(pair)
        self._advance(now_ns)

    def path_lost(self, path: Path, now_ns: int, reason: str = "closed") -> None:
        """A TCP flow was closed or did not open, or a socket is gone; `reason` is kept as evidence."""
        self._selection.lose(path)
        pair = self._exchange.current.checklist.get(path)
        if pair is not None:
            pair.end_check(PairState.FAILED, reason)
            if pair.dialled:
                # The next flow bears the same name, but whoever answers there has proved nothing yet.
                pair.flow_wanted = pair.flow_open = pair.validated = False
            elif pair.is_tcp:
                self._exchange.current.checklist.remove(pair)  # its remote port never comes again
        self._advance(now_ns)

    def _add_remote(self, candidate: Candidate) -> None:
        exchange = self._exchange
        if self.intake.add(candidate, exchange.current):
            for base in exchange.bases:
                self._pair_up(base, candidate)

    def _pair_up(self, base: Base, candidate: Candidate) -> None:
        exchange, selection = self._exchange, self._selection
        gone = exchange.current.pair_up(
            base, candidate, controlling=self.controlling, keep=selection.pair
        )
        if gone is not None:
            exchange.release([gone])
        if selection.settled_in(exchange.current):  # too late for this one, as long as all is well
            exchange.current.checklist.conclude(keep_udp=selection.wants_udp(exchange.current))

    def _renew(self, credentials: IceCredentials) -> None:
        number = self._exchange.current.number + 1
        self._exchange.renew(Generation(credentials, number=number))
        self._failed = False

    def _advance(self, now_ns: int) -> None:
        """Do what is due in every part, and find out when something is due next."""
        if self._failed:
            self.due_ns = FAR_FUTURE_NS
            return
        exchange, selection, sender = self._exchange, self._selection, self._sender
        generation = exchange.current
        if selection.consent is not None and selection.consent.expired(now_ns):
            self._fail(f"no consent to send for {self._timings.expiry_ns / 1e9:g} s")
            return
        if now_ns >= generation.deadline_ns and not self._give_up():
            return
        due_ns = selection.keep(generation, now_ns)
        if generation.remote is not None:
            checklist = generation.checklist
            if not checklist.idle:
                sender.run(generation, now_ns)
            due_ns = min(due_ns, selection.nominate(generation, now_ns))
            if not checklist.idle:
                due_ns = min(due_ns, sender.due_ns(generation, now_ns))
            due_ns = min(due_ns, generation.deadline_ns)
        self.due_ns = min(due_ns, exchange.end_restart(now_ns))

    def _give_up(self) -> bool:
        """No pair worked in time. After a restart the old path goes on as long as it can: True then."""
        if self._selection.consent is None:
            self._fail(f"no pair worked within {self._timings.connect_ns / 1e9:g} s")
            return False
        self._exchange.current.deadline_ns = FAR_FUTURE_NS
        self._exchange.current.checklist.conclude(keep_udp=False)
        return True

    def _fail(self, reason: str) -> None:
        pairs = self.pairs()
        tried = "; ".join(str(pair) for pair in pairs[:_NAMED_PAIRS]) or "none"
        if len(pairs) > _NAMED_PAIRS:
            tried += f"; and {len(pairs) - _NAMED_PAIRS} more"
        self._failed = True
        self._selection.reset()
        self._exchange.previous = None
        self._sender.datagrams.clear()
        self._sender.events.append(Failed(f"{reason}; pairs tried: {tried}"))
        self.due_ns = FAR_FUTURE_NS

"""One peer's ICE agent on real sockets: the transport under a peer connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rtc.fanout import Egress
from rtc.ice.agent import IceAgent
from rtc.ice.bounds import IceBounds
from rtc.ice.credentials import IceCredentials
from rtc.ice.events import (
    ConnectTcp,
    Disconnected,
    Failed,
    PathReleased,
    PathValidated,
    Recovered,
    Selected,
)
from rtc.ice.pair import PairReport
from rtc.ice.path import Address, Path
from rtc.ice.selection import Selection
from rtc.ice.timings import DEFAULT_TIMINGS, FAR_FUTURE_NS, IceTimings
from rtc.net.host_names import HostNames
from rtc.net.network import LocalCandidate, Network

_MAX_EARLY_CANDIDATES = 40
_UNBOUND = IceBounds()


class IceTransport:
    """`start`, then datagrams come and go over the path that ICE selects.

    Callbacks, all from the loop: `on_data(datagram)` for everything that is not STUN, from validated paths
    only; `on_selected()` at the first and each other path; `on_lost(reason)` once.
    """

    def __init__(
        self,
        network: Network,
        *,
        controlling: bool,
        on_data: Callable[[bytes], None],
        on_selected: Callable[[], None],
        on_lost: Callable[[str], None],
        timings: IceTimings = DEFAULT_TIMINGS,
        selection: type[Selection] = Selection,
        resolve_names: bool = False,
        on_candidate: Callable[[str], None] | None = None,
        bounds: IceBounds = _UNBOUND,
    ) -> None:
        """`resolve_names`: look up candidates that name a host, which only clients do. `on_candidate(line)`:
        of ours, found later than the others."""
        self.on_data = on_data
        self.egress = Egress()
        self._network = network
        self._on_selected = on_selected
        self._on_lost = on_lost
        self._agent = IceAgent(
            controlling=controlling,
            credentials=network.new_credentials(),
            timings=timings,
            selection=selection,
            bounds=bounds,
        )
        network.register(self._agent.credentials.ufrag, self)
        for local in network.candidates():
            self._agent.add_local(local.candidate, local.base)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = FAR_FUTURE_NS
        self._closed = False
        self._on_candidate = on_candidate
        self._names = HostNames(self.add_remote_candidate) if resolve_names else None
        self._pending: IceCredentials | None = None
        self._early: list[str] = []

    @property
    def credentials(self) -> IceCredentials:
        return self._agent.credentials

    @property
    def offered_credentials(self) -> IceCredentials:
        """For our offers: those of a restart that waits for its answer, else those in use."""
        return self._pending or self._agent.credentials

    @property
    def remote_credentials(self) -> IceCredentials | None:
        return self._agent.remote_credentials

    @property
    def selected(self) -> Path | None:
        return self._agent.selected

    @property
    def rtt_s(self) -> float | None:
        """Of the last answered check on the selected path."""
        return self._agent.rtt_s

    def refused(self) -> dict[str, int]:
        """How much was of no use so far, by what it was.

        `ice_request`: checks without the right password; `candidate`: more than there may be;
        `candidate_address`: candidates and checks at addresses where nothing is sent; `check`: ours, which
        had to wait.
        """
        agent = self._agent
        return {
            "ice_request": agent.refused_requests,
            "candidate": agent.intake.excess,
            "candidate_address": agent.intake.forbidden + agent.forbidden_requests,
            "check": agent.held_checks,
        }

    @property
    def doubtful(self) -> bool:
        """Media has, or had, a path, and the other side does not answer over it any more."""
        return self._agent.doubtful(time.monotonic_ns())

    def pairs(self) -> tuple[PairReport, ...]:
        """What became of every pair, best first."""
        return self._agent.pairs()

    def candidate_lines(self) -> tuple[str, ...]:
        """What descriptions and candidate messages say, without `candidate:` in front."""
        return tuple(candidate.format() for candidate in self._agent.local_candidates)

    def start(self, remote: IceCredentials) -> None:
        """Take the other side's credentials; other ones later are its ICE restart."""
        self._agent.set_remote(remote, time.monotonic_ns())
        early, self._early = self._early, []
        for line in early:
            self._agent.add_remote_candidate(line, time.monotonic_ns())
        self._pump()

    def restart(self) -> None:
        """New credentials of our own, for the other side's ICE restart; media goes on meanwhile."""
        self._pending = None
        credentials = self._network.new_credentials()
        self._network.register(credentials.ufrag, self)
        self._agent.restart(credentials, time.monotonic_ns())
        self._pump()

    def prepare_restart(self) -> None:
        """New credentials for our next offers; they count from `commit_restart` on, when one is answered.

        Until then nothing changes, so that an offer that is lost or withdrawn does no harm.
        """
        if self._pending is None:
            self._pending = self._network.new_credentials()
            self._network.register(self._pending.ufrag, self)

    def commit_restart(self) -> None:
        """An offer of ours was answered; `start` follows. Nothing if no restart was prepared."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._agent.restart(pending, time.monotonic_ns())
            self._pump()

    def add_remote_candidate(self, line: str) -> None:
        """Take a candidate at any time; what cannot be used is left out."""
        if self._closed or (self._names is not None and self._names.take(line)):
            return
        if self._pending is not None and len(self._early) < _MAX_EARLY_CANDIDATES:
            self._early.append(line)  # it may be one of the restart whose answer is still to come
        self._agent.add_remote_candidate(line, time.monotonic_ns())
        self._pump()

    def send(self, datagram: bytes) -> None:
        """Send over the selected path; without one the datagram is dropped, as a network would."""
        path = self._agent.selected
        if path is not None:
            self._network.send(path, datagram, self)

    def probe(self) -> None:
        """Media is missing: ask the other side now whether it is there."""
        self._agent.probe(time.monotonic_ns())
        self._pump()

    def close(self) -> None:
        """Free sockets, addresses and timer; idempotent. No callback comes after it."""
        self._closed = True
        self.egress.send = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._names is not None:
            self._names.close()
        self._network.forget(self)

    # for the network

    def candidate_found(self, local: LocalCandidate) -> None:
        """A socket of ours has one more address, or there is a relay."""
        if not self._closed:
            self._agent.add_local(local.candidate, local.base)
            if self._on_candidate is not None:
                self._on_candidate(local.candidate.format())
            self._agent.tick(time.monotonic_ns())
            self._pump()

    def candidate_lost(self, base: Address, reason: str) -> None:
        """A relay is gone, and every path through it."""
        if not self._closed:
            self._agent.remove_local(base, time.monotonic_ns(), reason)
            if self._agent.selected is None:
                self.egress.send = None
            self._pump()

    def stun_received(self, datagram: bytes, path: Path) -> None:
        if not self._closed:
            self._agent.receive(datagram, path, time.monotonic_ns())
            self._pump()

    def flow_opened(self, path: Path) -> None:
        if not self._closed:
            self._agent.path_opened(path, time.monotonic_ns())
            self._pump()

    def flow_lost(self, path: Path, reason: str = "closed") -> None:
        if not self._closed:
            self._agent.path_lost(path, time.monotonic_ns(), reason)
            if self._agent.selected is None:
                self.egress.send = None
            self._pump()

    # internals

    def _pump(self) -> None:
        agent = self._agent
        # A validated path is bound before its answer goes out, so that what follows the answer finds us.
        for event in agent.take_events():
            self._happened(event)
            if self._closed:
                return
        for path, datagram in agent.take_outgoing():
            self._network.send(path, datagram, self)
        due_ns = agent.due_ns
        if due_ns < self._timer_ns:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ns = due_ns
            delay_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
            self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_ns = None, FAR_FUTURE_NS
        self._agent.tick(time.monotonic_ns())
        self._pump()

    def _happened(self, event: object) -> None:
        match event:
            case PathValidated(path):
                self._network.bind(path, self)
            case PathReleased(path):
                self._network.release(path, self)
            case ConnectTcp(path):
                self._network.connect(path, self)
            case Selected(path):
                route = self._network.route(path)
                if route is not None:
                    self.egress.address = route.address
                    self.egress.send = route.send
                    self._on_selected()
            case Failed(reason):
                self.egress.send = None  # no consent, nothing more is sent (RFC 7675 section 5.1)
                self._on_lost(f"ICE: {reason}")
            case Disconnected() | Recovered():
                pass  # media may come back within consent's 30 s; peers judge by what they receive

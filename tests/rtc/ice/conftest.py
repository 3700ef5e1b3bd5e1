"""A network in memory with its own time: hosts with ICE agents, UDP with loss and NATs, TCP flows."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rtc.ice import (
    Candidate,
    ConnectTcp,
    IceAgent,
    IceBounds,
    IceCredentials,
    IceEvent,
    IceTimings,
    Path,
    PathReleased,
    host_candidate,
)

Address = tuple[str, int]
S = 1_000_000_000
START_NS = 1000 * S


class Host:
    """An agent and the sockets it thinks it has."""

    def __init__(self, network: Network, name: str, agent: IceAgent) -> None:
        self.network = network
        self.name = name
        self.agent = agent
        self.events: list[tuple[float, IceEvent]] = []
        self.sent: list[tuple[float, Path, bytes]] = []
        self.received = 0

    def udp(self, host: str, port: int, *, base: Address | None = None, **options: Any) -> Host:
        """A UDP socket; with `base`, one that is bound to something else than what is announced."""
        self.network.udp[(host, port)] = (self, base or (host, port))
        self.network.source[(base or (host, port), self.name)] = (host, port)
        self.agent.add_local(host_candidate(host, port, **options), base)
        return self

    def tcp_listener(self, host: str, port: int) -> Host:
        self.network.listeners[(host, port)] = self
        self.agent.add_local(host_candidate(host, port, transport="tcp", tcptype="passive"))
        return self

    def tcp_active(self, host: str) -> Host:
        self.agent.add_local(host_candidate(host, 9, transport="tcp", tcptype="active"))
        return self

    def kinds(self) -> list[str]:
        """Names of the events so far, repeats of PathValidated and TCP house-keeping left out."""
        left_out = ("PathValidated", "PathReleased", "ConnectTcp")
        names = [type(event).__name__ for _, event in self.events]
        return [name for name in names if name not in left_out]

    def of(self, kind: type) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def when(self, kind: type) -> list[float]:
        """Seconds since the start of the events of one kind."""
        return [at for at, event in self.events if isinstance(event, kind)]


class Network:
    """Delivers after `latency_s`, but for what `blocks(transport, source, destination)` or `loses()` says."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.latency_s = 0.01
        self.udp: dict[Address, tuple[Host, Address]] = {}
        self.source: dict[tuple[Address, str], Address] = {}
        self.listeners: dict[Address, Host] = {}
        self.nat: dict[Address, Address] = {}
        """Private to public address. Inbound passes only from where something was sent to before."""
        self.permitted: set[tuple[Address, Address]] = set()
        self.blocks: Callable[[str, Address, Address], bool] = lambda transport, source, to: False
        self.loses: Callable[[], bool] = lambda: False
        self.hosts: list[Host] = []
        self.flows: dict[tuple[str, Path], tuple[Host, Path]] = {}
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ports = itertools.count(50000)

    @property
    def now_s(self) -> float:
        return (self.now_ns - START_NS) / S

    def host(
        self, name: str, *, controlling: bool, bounds: IceBounds | None = None, **timings: int
    ) -> Host:
        agent = IceAgent(
            controlling=controlling,
            credentials=IceCredentials.generate(),
            timings=IceTimings(**timings),
            bounds=bounds or IceBounds(),
        )
        host = Host(self, name, agent)
        self.hosts.append(host)
        return host

    def pair(self, *, controlled_too: bool = True) -> tuple[Host, Host]:
        """Client 10.0.0.1:1000 (controlling) and server 10.0.0.2:2000, not yet told of each other."""
        client = self.host("client", controlling=True).udp("10.0.0.1", 1000)
        server = self.host("server", controlling=not controlled_too).udp("10.0.0.2", 2000)
        return client, server

    def introduce(self, a: Host, b: Host) -> None:
        """Both learn credentials and candidates of the other at once."""
        for one, other in ((a, b), (b, a)):
            self.tell(one, other)

    def tell(self, host: Host, other: Host, candidates: Iterable[Candidate] | None = None) -> None:
        """`host` learns of `other`."""
        host.agent.set_remote(other.agent.credentials, self.now_ns)
        for candidate in other.agent.local_candidates if candidates is None else candidates:
            host.agent.add_remote_candidate(candidate.format(), self.now_ns)
        self.flush()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds=seconds, must=False)

    def run_until(
        self, condition: Callable[[], bool], *, seconds: float = 60, must: bool = True
    ) -> float:
        """Let time pass until something holds; returns the seconds it took."""
        started = self.now_ns
        end = started + round(seconds * S)
        self.flush()
        while not condition():
            following = min([h.agent.due_ns for h in self.hosts] + [q[0] for q in self._queue[:1]])
            if following > end:
                self.now_ns = end
                assert not must, f"did not come about within {seconds} s"
                break
            self.now_ns = max(self.now_ns, following)
            while self._queue and self._queue[0][0] <= self.now_ns:
                heapq.heappop(self._queue)[2]()
                self.flush()
            for host in self.hosts:
                due_ns = host.agent.tick(self.now_ns)
                assert due_ns > self.now_ns, "an agent that is always due would spin"
            self.flush()
        return (self.now_ns - started) / S

    def flush(self) -> None:
        """Take what the agents want sent."""
        for host in self.hosts:
            for event in host.agent.take_events():
                host.events.append((self.now_s, event))
                if isinstance(event, ConnectTcp):
                    self._connect(host, event.path)
                elif isinstance(event, PathReleased):
                    self.close_flow(host, event.path)
            for path, datagram in host.agent.take_outgoing():
                host.sent.append((self.now_s, path, datagram))
                if path.transport == "udp":
                    self._send_udp(host, path, datagram)
                else:
                    self._send_tcp(host, path, datagram)

    def close_flow(self, host: Host, path: Path) -> None:
        """`host` closes; the other end hears of it."""
        end = self.flows.pop((host.name, path), None)
        if end is not None:
            other, other_path = end
            self.flows.pop((other.name, other_path), None)
            self._after(
                lambda: other.agent.path_lost(other_path, self.now_ns, "closed by the other side")
            )

    def cut_flows(self) -> None:
        """Both ends of every flow lose it."""
        flows, self.flows = self.flows, {}
        for name, path in flows:
            host = next(h for h in self.hosts if h.name == name)
            host.agent.path_lost(path, self.now_ns, "reset")
        self.flush()

    def inject(self, host: Host, path: Path, datagram: bytes) -> None:
        host.agent.receive(datagram, path, self.now_ns)
        self.flush()

    def _after(self, action: Callable[[], None]) -> None:
        due = self.now_ns + round(self.latency_s * S)
        heapq.heappush(self._queue, (due, next(self._order), action))

    def _send_udp(self, host: Host, path: Path, datagram: bytes) -> None:
        source = self.source.get((path.local, host.name), path.local)
        self.permitted.add((source, path.remote))
        public = self.nat.get(source, source)
        destination = path.remote
        for private, outside in self.nat.items():
            if outside == destination:
                destination = private
                if (private, public) not in self.permitted:
                    return
            elif private == destination and public == source:
                return  # a private address, from outside
        if self.blocks("udp", source, destination) or self.loses():
            return
        found = self.udp.get(destination)
        if found is not None:
            to, base = found
            self._after(lambda: self._deliver(to, Path("udp", base, public), datagram))

    def _send_tcp(self, host: Host, path: Path, datagram: bytes) -> None:
        end = self.flows.get((host.name, path))
        if end is not None and not self.blocks("tcp", path.local, path.remote):
            to, to_path = end
            self._after(lambda: self._deliver(to, to_path, datagram))

    def _deliver(self, host: Host, path: Path, datagram: bytes) -> None:
        host.received += 1
        host.agent.receive(datagram, path, self.now_ns)

    def _connect(self, host: Host, path: Path) -> None:
        listening = self.listeners.get(path.remote)
        if self.blocks("tcp", path.local, path.remote):
            return  # dropped on the way: the connection is never made
        if listening is None:
            self._after(lambda: host.agent.path_lost(path, self.now_ns, "connection refused"))
            return
        flow = Path("tcp", path.remote, (path.local[0], next(self._ports)))
        self.flows[(host.name, path)] = (listening, flow)
        self.flows[(listening.name, flow)] = (host, path)
        self._after(lambda: host.agent.path_opened(path, self.now_ns))


@pytest.fixture
def network() -> Network:
    random.seed(7675)  # the agents' own jitter: a run is like the one before
    return Network()

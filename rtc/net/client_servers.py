"""What STUN and TURN servers add to a client's own addresses. Only servers that somebody configured."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from rtc.ice.candidate import Candidate
from rtc.ice.path import Address, Path
from rtc.ice.timings import FAR_FUTURE_NS
from rtc.net.network import LocalCandidate
from rtc.net.stun_gather import StunGatherer
from rtc.net.turn_link import resolve_udp
from rtc.net.turn_relays import MakeTls, Relays
from rtc.net.udp_socket import UdpSocket
from rtc.turn.servers import IceServer, ServerUrl, stun_urls

_MAX_STUN_SERVERS = 2
_RESOLVE_TIMEOUT_S = 5.0


class Gatherer(Protocol):
    """Who wants the candidates: an IceTransport."""

    def candidate_found(self, local: LocalCandidate) -> None: ...

    def candidate_lost(self, base: Address, reason: str) -> None: ...

    def flow_lost(self, path: Path, reason: str = "closed") -> None: ...


class Carrier(Protocol):
    """Whose sockets ask STUN servers, and who sorts what comes: a ClientNetwork."""

    @property
    def udp_sockets(self) -> Mapping[Address, UdpSocket]: ...

    def datagram_came(self, path: Path, data: bytes) -> None: ...


class ServerCandidates:
    """`use` once servers are known; `gather_relays` again when a call is in need; `close` in the end."""

    def __init__(self, carrier: Carrier, gatherer: Gatherer, *, make_tls: MakeTls) -> None:
        self._carrier = carrier
        self._gatherer = gatherer
        self._stun = StunGatherer()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._relay_timer: asyncio.TimerHandle | None = None
        self._lookups: list[asyncio.Task[None]] = []
        self._asked: set[ServerUrl] = set()
        self._servers: Sequence[IceServer] = ()
        self._closed = False
        self.relays = Relays(
            make_tls=make_tls,
            on_relay=self._relay_found,
            on_data=lambda datagram, path: carrier.datagram_came(path, datagram),
            on_refused=gatherer.flow_lost,
            on_gone=gatherer.candidate_lost,
        )

    @property
    def reports(self) -> Sequence[str]:
        """How asking TURN servers went, for evidence."""
        return self.relays.reports

    def use(self, servers: Sequence[IceServer], *, relay_after_s: float) -> None:
        """Ask STUN servers now, 2 at most, and look for a relay after that time; inf: not by itself."""
        if self._closed:
            return
        self._servers = servers
        for url in stun_urls(servers)[:_MAX_STUN_SERVERS]:
            if url not in self._asked:
                self._asked.add(url)
                self._lookups.append(asyncio.create_task(self._ask(url), name="stun"))
        if relay_after_s <= 0:
            self.gather_relays()
        elif relay_after_s != float("inf"):
            self._forget_relay_timer()
            self._relay_timer = self._loop.call_later(relay_after_s, self.gather_relays)

    def gather_relays(self) -> None:
        """Look for a relay now, unless there is one."""
        self._forget_relay_timer()
        if not self._closed:
            self.relays.gather(self._servers)

    def settled(self) -> None:
        """A pair was selected: no relay is wanted that was not asked for yet."""
        self._forget_relay_timer()

    def stun_received(self, datagram: bytes, path: Path) -> bool:
        """Was it an answer of a STUN server? Then it is dealt with."""
        if not self._stun.expects(datagram):
            return False
        candidate = self._stun.receive(datagram, path.local, path.remote)
        if candidate is not None:
            self._gatherer.candidate_found(LocalCandidate(candidate, path.local))
        return True

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        self._forget_relay_timer()
        for lookup in self._lookups:
            lookup.cancel()
        self._stun.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.relays.close()

    def _forget_relay_timer(self) -> None:
        if self._relay_timer is not None:
            self._relay_timer.cancel()
            self._relay_timer = None

    async def _ask(self, url: ServerUrl) -> None:
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                server = await resolve_udp(url)
        except OSError:  # TimeoutError is one
            return
        address = ipaddress.ip_address(server[0])
        for local in self._carrier.udp_sockets:
            ours = ipaddress.ip_address(local[0])
            if ours.version == address.version and ours.is_loopback == address.is_loopback:
                self._stun.ask(local, server, time.monotonic_ns())
        self._pump()

    def _relay_found(self, candidate: Candidate) -> None:
        self._gatherer.candidate_found(LocalCandidate(candidate, candidate.address))

    def _pump(self) -> None:
        for local, server, datagram in self._stun.take_outgoing():
            sock = self._carrier.udp_sockets.get(local)
            if sock is not None and not sock.closed:
                sock.send(datagram, server)
        due_ns = self._stun.due_ns
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ns < FAR_FUTURE_NS and not self._closed:
            delay_s = max(0.001, (due_ns - time.monotonic_ns()) / 1e9)
            self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._stun.tick(time.monotonic_ns())
        self._pump()

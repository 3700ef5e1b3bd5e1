"""Relay candidates of one client: which TURN server is asked when, and the way through it.

The ways to servers are tried one after the other, UDP before TCP before TLS, each a moment after the one
before; the first allocation wins. So a call that connects directly, as most do, costs TURN servers nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from rtc.errors import TransportError
from rtc.ice.candidate import Candidate, candidate_priority, foundation
from rtc.ice.path import Address, Path
from rtc.net.network import Route
from rtc.net.turn_allocation import TurnAllocation
from rtc.turn.client import Allocated
from rtc.turn.servers import IceServer, turn_urls

_STAGGER_S = 0.75
_MAX_WAYS = 12
_MAX_REPORTS = 24

MakeTls = Callable[[], Awaitable[ssl.SSLContext]]


class Relays:
    """One allocation at a time. `gather`, then `send` and callbacks; `close` in the end.

    `on_relay(candidate)`; `on_data(datagram, path)`; `on_refused(path, reason)`: the server does not relay to
    there; `on_gone(base, reason)`: the allocation ended, and every path behind it.
    """

    def __init__(
        self,
        *,
        make_tls: MakeTls,
        on_relay: Callable[[Candidate], None],
        on_data: Callable[[bytes, Path], None],
        on_refused: Callable[[Path, str], None],
        on_gone: Callable[[Address, str], None],
    ) -> None:
        """`make_tls` is asked for a context when the first server wants TLS."""
        self._make_tls = make_tls
        self._on_relay = on_relay
        self._on_data = on_data
        self._on_refused = on_refused
        self._on_gone = on_gone
        self._allocation: TurnAllocation | None = None
        self._base: Address | None = None
        self._gathering: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None
        self.reports: list[str] = []
        """How each way that was tried ended, for evidence; bounded, without credentials."""

    @property
    def base(self) -> Address | None:
        """Our address at the server; what paths through it have as `local`."""
        return self._base

    def gather(self, servers: Sequence[IceServer]) -> None:
        """Look for a relay, unless there is one or a search is on."""
        if self._base is None and (self._gathering is None or self._gathering.done()):
            self._gathering = asyncio.create_task(self._gather(servers), name="turn")

    def send(self, path: Path, datagram: bytes) -> None:
        """Dropped when the path is none of ours."""
        if self._allocation is not None and path.local == self._base:
            self._send(path.remote, datagram)

    def route(self, path: Path) -> Route | None:
        """How the fan-out sends on a path of ours."""
        if self._allocation is None or path.local != self._base:
            return None
        return Route(partial(self._send, path.remote), None)

    def close(self) -> None:
        """Give everything back; idempotent."""
        if self._gathering is not None:
            self._gathering.cancel()
        allocation, self._allocation, self._base = self._allocation, None, None
        if allocation is not None:
            allocation.close()

    def _send(self, peer: Address, datagram: bytes | memoryview) -> None:
        allocation, base = self._allocation, self._base
        if allocation is None or base is None:
            return
        if _is_loopback(peer) and not _is_loopback(base):
            # That would be the server's own loopback (SFUs do announce theirs).
            self._refused(peer, "loopback is not behind a relay")
        else:
            allocation.send(datagram, peer)

    async def _gather(self, servers: Sequence[IceServer]) -> None:
        """Ends with the first allocation, or when all ways have failed."""
        ways = turn_urls(servers)[:_MAX_WAYS]
        if any(url.link == "tls" for url, _ in ways) and self._tls is None:
            try:
                self._tls = await self._make_tls()
            except OSError as error:
                self._report(f"turn over TLS: no certificates: {error.strerror or error}")
                ways = [way for way in ways if way[0].link != "tls"]
        opening: set[asyncio.Task[bool]] = set()
        try:
            for url, server in ways:
                allocation = TurnAllocation(
                    url,
                    server,
                    on_data=self._data_came,
                    on_refused=self._refused,
                    on_ended=self._ended,
                )
                opening.add(asyncio.create_task(self._open(allocation), name=f"turn-{url.link}"))
                if await self._first_success(opening, timeout_s=_STAGGER_S):
                    return
            while opening:
                if await self._first_success(opening, timeout_s=None):
                    return
        finally:
            for task in opening:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*opening, return_exceptions=True)

    async def _first_success(
        self, opening: set[asyncio.Task[bool]], *, timeout_s: float | None
    ) -> bool:
        """Wait for the end of one of them; failed ones are taken out."""
        if not opening:
            return False
        done, _ = await asyncio.wait(
            opening, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        opening -= done
        return any(task.result() for task in done)

    async def _open(self, allocation: TurnAllocation) -> bool:
        try:
            allocated = await allocation.open(self._tls)
        except TransportError as error:
            self._report(f"{allocation.url}: {error}")
            return False
        if self._base is not None:  # another way was quicker
            allocation.close()
            return False
        self._report(f"{allocation.url}: allocated")
        self._allocation, self._base = allocation, allocated.relayed
        self._on_relay(_candidate(allocated))
        return True

    def _data_came(self, peer: Address, datagram: bytes) -> None:
        if self._base is not None and datagram:
            self._on_data(datagram, Path("udp", self._base, peer))

    def _refused(self, peer: Address, reason: str) -> None:
        if self._base is not None:
            self._on_refused(Path("udp", self._base, peer), f"TURN: {reason}")

    def _ended(self, reason: str) -> None:
        allocation, base = self._allocation, self._base
        self._allocation = self._base = None
        if allocation is not None and base is not None:
            self._report(f"{allocation.url}: {reason}")
            self._on_gone(base, f"TURN: {reason}")

    def _report(self, text: str) -> None:
        if len(self.reports) < _MAX_REPORTS and text not in self.reports:
            self.reports.append(text)


def _candidate(allocated: Allocated) -> Candidate:
    host, port = allocated.relayed
    return Candidate(
        foundation=foundation("relay", "udp", host),
        component=1,
        transport="udp",
        priority=candidate_priority("relay"),
        host=host,
        port=port,
        type="relay",
        related=allocated.mapped,
    )


def _is_loopback(address: Address) -> bool:
    return ipaddress.ip_address(address[0]).is_loopback

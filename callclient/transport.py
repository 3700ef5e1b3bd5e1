"""The way of a call's media: which candidates the client has, what it asks servers for, and in the end what
became of every way that was tried."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from callclient.ice_policy import IceTransportPolicy
from callclient.ice_servers import FetchServers
from foundation.logs import get_logger
from rtc.ice.pair import PairReport
from rtc.net.client_network import ClientNetwork, own_addresses
from rtc.net.client_servers import ServerCandidates
from rtc.net.transport import IceTransport

_ASK_AFTER_S: Final = 1.0
"""Without a direct way for that long, the plugin is asked for servers; most calls never need them, and all
jobs share one allowance of requests."""
_RELAY_AFTER_S: Final = 2.0
"""Later than TCP, which starts at 1.5 s: a direct way is better than a relay, and costs nobody anything."""


class MediaTransport:
    """Makes the ICE transport of one peer connection. `run` beside it; then ask how it is."""

    def __init__(
        self,
        *,
        policy: IceTransportPolicy = "all",
        fetch_servers: FetchServers | None = None,
        send_candidate: Callable[[str], None] | None = None,
        ca_file: Path | None = None,
        addresses: Sequence[str] | None = None,
    ) -> None:
        """`send_candidate(line)`: of ours, found after the offer. `ca_file`: trusted for TURN over TLS too.
        `addresses`: of this host, default all."""
        self._policy = policy
        self._fetch_servers = fetch_servers
        self._send_candidate = send_candidate
        self._ca_file = ca_file
        self._addresses = addresses
        self._ice: IceTransport | None = None
        self._network: ClientNetwork | None = None
        self._servers: ServerCandidates | None = None
        self._selected = asyncio.Event()
        self._in_need = asyncio.Event()
        self._asked = False
        self.heard_ns = 0
        """When the last datagram of the other side came, monotonic; STUN left out. 0: none has."""
        self._log = get_logger(component="transport")

    def create(
        self,
        on_data: Callable[[bytes], None],
        on_selected: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> IceTransport:
        """An IceFactory. Raises TransportError: this host has no usable address."""

        def data_came(datagram: bytes) -> None:
            self.heard_ns = time.monotonic_ns()
            on_data(datagram)

        def path_selected() -> None:
            self._path_selected()
            on_selected()

        direct = self._policy != "relay"
        self._network = network = ClientNetwork(
            addresses=self._addresses,
            udp=self._policy == "all",
            tcp=direct,
            relay_only=not direct,
        )
        self._ice = IceTransport(
            network,
            controlling=True,
            on_data=data_came,
            on_selected=path_selected,
            on_lost=on_lost,
            resolve_names=True,
            on_candidate=self._send_candidate,
        )
        self._servers = ServerCandidates(network, self._ice, make_tls=self._make_tls)
        network.servers = self._servers
        return self._ice

    @property
    def gone(self) -> bool:
        """There was a path, and its address or its flow was taken away."""
        return self._ice is not None and self._ice.doubtful and self._ice.selected is None

    @property
    def doubtful(self) -> bool:
        """Questions over the selected path stay unanswered, or it is closed."""
        return self._ice is not None and self._ice.doubtful

    async def follow_addresses(self) -> None:
        """Look at the addresses of this host: the SFU learns of those that came; one that went takes its
        pairs along. Nothing where the addresses were given, or only relays count."""
        fixed = self._addresses is not None or self._policy == "relay"
        if self._network is None or self._ice is None or fixed:
            return
        try:
            hosts = await asyncio.to_thread(own_addresses)
        except OSError:  # they are as they were, as far as we know
            return
        came, gone = self._network.follow(hosts)
        for local in came:
            self._ice.candidate_found(local)
        for base in gone:
            self._ice.candidate_lost(base, "its address is gone")
        if came or gone:
            self._log.info("addresses.changed", came=len(came), gone=len(gone))

    def probe(self) -> None:
        """Ask the other side now whether it is there."""
        if self._ice is not None:
            self._ice.probe()

    def in_need(self) -> None:
        """The path died: look for other ways, with servers and credentials of now."""
        self._selected.clear()
        self._in_need.set()

    def pairs(self) -> tuple[PairReport, ...]:
        """Evidence: every pair with state, RTT and the reason why it failed."""
        return () if self._ice is None else self._ice.pairs()

    def explain(self, reason: str) -> str:
        """`reason`, every pair that was tried, and how asking TURN servers went."""
        text = reason
        if "pairs tried" not in text:
            pairs = "; ".join(str(pair) for pair in self.pairs())
            text += f"; pairs tried: {pairs or 'none'}"
        if self._asked and self._servers is not None:
            text += (
                f"; relays: {'; '.join(self._servers.reports) or 'no TURN server is configured'}"
            )
        return text

    async def run(self) -> None:
        """Ask for servers when there is no direct way in time, at first and after each `in_need`."""
        while self._policy != "tcp" and self._fetch_servers is not None:
            began_s = time.monotonic()
            if self._policy == "relay" or not await self._selected_within(_ASK_AFTER_S):
                await self._ask_servers(self._fetch_servers, began_s)
            await self._in_need.wait()
            self._in_need.clear()

    async def _selected_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._selected.wait()
        except TimeoutError:
            return False
        return True

    async def _ask_servers(self, fetch: FetchServers, began_s: float) -> None:
        servers = await fetch()
        if self._servers is None or self._selected.is_set():
            return
        self._asked = True
        self._log.info("ice_servers.known", servers=len(servers))
        relay_at_s = began_s + (0.0 if self._policy == "relay" else _RELAY_AFTER_S)
        self._servers.use(servers, relay_after_s=max(0.0, relay_at_s - time.monotonic()))

    def _path_selected(self) -> None:
        self._selected.set()
        if self._servers is not None:
            self._servers.settled()
        for pair in self.pairs():
            if pair.selected:
                self._log.info("path.selected", path=str(pair.path))

    async def _make_tls(self) -> ssl.SSLContext:
        return await asyncio.to_thread(_tls_context, self._ca_file)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Raises OSError: the file cannot be read."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context

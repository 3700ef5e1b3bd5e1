"""One ICE agent (RFC 8445), full, with data handed on synchronously: no queue and no task per packet.

Built on aioice, whose private members are reached into: the version is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aioice
import aioice.ice
import ifaddr

from rtc.errors import TransportError

_ICE_CHARACTERS = string.ascii_letters + string.digits
_UFRAG_LENGTH = 16
"""Long, because on a shared port the fragment alone finds the peer (aioice's own has 4 characters)."""


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """ufrag and password of one side (RFC 8839 section 5.4)."""

    ufrag: str
    password: str

    @classmethod
    def generate(cls) -> IceCredentials:
        return cls(_random_text(_UFRAG_LENGTH), _random_text(32))


def local_addresses(*, ipv6: bool = False) -> list[str]:
    """Addresses of all interfaces that are up, loopback included, link-local left out."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            address = ipaddress.ip_address(text)
            if address.is_link_local or (address.version == 6 and not ipv6):
                continue
            if text not in found:
                found.append(text)
    return found


class _Connection(aioice.Connection):
    """aioice's connection, with our addresses and a direct way out for data."""

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: IceCredentials,
        addresses: Sequence[str],
        on_data: Callable[[bytes], None],
    ) -> None:
        super().__init__(
            ice_controlling=controlling,
            local_username=credentials.ufrag,
            local_password=credentials.password,
        )
        self._addresses = list(addresses)
        self._on_data = on_data

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        """Our own list instead of aioice's, which leaves loopback out."""
        return await super().get_component_candidates(component, self._addresses, timeout)

    def data_received(self, data: bytes, component: int) -> None:
        self._on_data(data)


class MuxedConnection(_Connection):
    """A connection whose packets come and go through a socket shared with others."""

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: IceCredentials,
        on_data: Callable[[bytes], None],
        candidates: Sequence[aioice.Candidate],
        protocol_factory: Callable[[MuxedConnection], aioice.ice.StunProtocol],
    ) -> None:
        super().__init__(
            controlling=controlling, credentials=credentials, addresses=(), on_data=on_data
        )
        self._shared_candidates = list(candidates)
        self._protocol_factory = protocol_factory

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        self._protocols.append(self._protocol_factory(self))
        return self._shared_candidates


class IceTransport:
    """Sends and receives datagrams over the pair that ICE nominates.

    `on_data(datagram)` is called in the socket's read callback for everything that is not STUN.
    `on_lost()` is called once when consent expires (RFC 7675) or the sockets are gone.
    """

    def __init__(self, connection: _Connection, *, on_lost: Callable[[], None]) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._lost_watch: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def over_own_sockets(
        cls,
        *,
        controlling: bool,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[], None],
        addresses: Sequence[str] | None = None,
    ) -> IceTransport:
        """A transport with one ephemeral UDP socket for each local address."""
        connection = _Connection(
            controlling=controlling,
            credentials=IceCredentials.generate(),
            addresses=local_addresses() if addresses is None else addresses,
            on_data=on_data,
        )
        return cls(connection, on_lost=on_lost)

    @property
    def credentials(self) -> IceCredentials:
        return IceCredentials(self._connection.local_username, self._connection.local_password)

    async def gather(self) -> list[str]:
        """Local candidates as SDP lines without the `candidate:` prefix; safe to call again."""
        await self._connection.gather_candidates()
        return [candidate.to_sdp() for candidate in self._connection.local_candidates]

    async def add_remote_candidate(self, line: str) -> None:
        """Take a remote candidate, with or without `candidate:` in front.

        Host names (mDNS included), TCP candidates and lines that cannot be read are left out: full
        ICE finds such peers by their own checks.
        """
        text = line.removeprefix("a=").removeprefix("candidate:")
        try:
            candidate = aioice.Candidate.from_sdp(text)
            ipaddress.ip_address(candidate.host)
        except (ValueError, IndexError, AssertionError):
            return
        if candidate.transport.lower() != "udp" or candidate.component != 1:
            return
        await self._connection.add_remote_candidate(candidate)

    async def connect(self, remote: IceCredentials, *, timeout_s: float) -> None:
        """Run the checks until a pair is nominated. May be called once.

        Raises:
            TransportError: no pair within `timeout_s`, or closed meanwhile.
        """
        self._connection.remote_username = remote.ufrag
        self._connection.remote_password = remote.password
        try:
            async with asyncio.timeout(timeout_s):
                await self._connection.connect()
        except TimeoutError as error:
            raise TransportError(f"ICE: no pair worked within {timeout_s:g} s") from error
        except ConnectionError as error:
            raise TransportError(f"ICE: {error}") from error
        self._lost_watch = asyncio.create_task(self._watch(), name="ice-lost")

    @property
    def connected(self) -> bool:
        return bool(self._connection._nominated)

    def send(self, datagram: bytes) -> None:
        """Send over the nominated pair; without one the datagram is dropped, as a network would."""
        pair = self._connection._nominated.get(1)
        if pair is not None:
            pair.protocol.transport.sendto(datagram, pair.remote_addr)

    async def close(self) -> None:
        """Free the sockets; idempotent."""
        self._closed = True
        if self._lost_watch is not None:
            self._lost_watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._lost_watch
            self._lost_watch = None
        await self._connection.close()

    async def _watch(self) -> None:
        event: Any = await self._connection.get_event()
        if not self._closed and (event is None or isinstance(event, aioice.ConnectionClosed)):
            self._on_lost()


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ICE_CHARACTERS) for _ in range(length))

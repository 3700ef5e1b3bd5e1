"""Which addresses clients are told: this machine's own, or those that stand before it (rtcd.md 3.11)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from rtc.ice.interfaces import local_addresses
from sfu.ice_settings import IceServer, PortOverride
from sfu.settings import SfuSettings
from sfu.stun_discovery import DiscoveryError, discover

Transport = Literal["udp", "tcp"]
Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Host name to IP addresses; raises AddressError."""
Discover = Callable[[str, int, tuple[str, int]], Awaitable[str]]
"""Local address, local port, STUN server: the public address; raises DiscoveryError."""

_RESOLVE_LIMIT_S: Final = 1.0
_RESOLVED_FOR_NS: Final = 60_000_000_000
_ATTEMPTS: Final = 3

log = get_logger(component="addresses")


class AddressError(Exception):
    """There is no address to announce; the message names the setting."""


@dataclass(frozen=True, slots=True)
class AnnouncedAddress:
    """One host candidate."""

    transport: Transport
    address: str
    """What clients are told."""
    port: int
    """What clients are told."""
    bind_address: str
    """The local address behind it."""


class CachedResolver:
    """Resolves host names with a limit; the last good answer is kept (rtcd.md trap 31)."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._known: dict[str, tuple[int, Sequence[str]]] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        """IP addresses of `host`, at most a minute old; older ones when it cannot be resolved now.

        Raises:
            AddressError: it cannot be resolved, and never could.
        """
        now_ns = self._clock.monotonic_ns()
        known = self._known.get(host)
        if known is None:
            found = await _look_up_first(host)
            self._known[host] = now_ns, found
            return found
        if now_ns - known[0] >= _RESOLVED_FOR_NS:
            self._known[host] = now_ns, known[1]  # others do not wait meanwhile
            try:
                self._known[host] = now_ns, await _look_up(host)
            except OSError:
                log.warning("host.not_resolved", host=host, used=list(known[1]))
        return self._known[host][1]


async def _look_up_first(host: str) -> Sequence[str]:
    for attempt in range(_ATTEMPTS):
        try:
            return await _look_up(host)
        except OSError as error:
            if attempt == _ATTEMPTS - 1:
                reason = error.strerror or f"no answer within {_RESOLVE_LIMIT_S:g} s"
                raise AddressError(f"host name {host!r} cannot be resolved: {reason}") from error
    raise AssertionError  # the last attempt returns or raises


async def _look_up(host: str) -> Sequence[str]:
    """Raises OSError; TimeoutError is one."""
    async with asyncio.timeout(_RESOLVE_LIMIT_S):
        entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def local_ips(settings: SfuSettings, host_addresses: Sequence[str] | None = None) -> list[str]:
    """Local addresses that yield candidates, narrowed by ice_address_udp and ice_address_tcp.

    `host_addresses`: all of this machine; None: look. IPv6 only with enable_ipv6 and only global ones.

    Raises:
        AddressError: there is none.
    """
    if host_addresses is None:
        host_addresses = local_addresses(ipv6=settings.enable_ipv6)
    usable = [a for a in host_addresses if _usable(a, ipv6=settings.enable_ipv6)]
    listed = _listed(settings.ice_addresses_udp) + _listed(settings.ice_addresses_tcp)
    if listed:
        # All of 127.0.0.0/8 is this machine, though only one of it is listed at the interface.
        there = {*usable, *(a for a in listed if _is_v4_loopback(a))}
        for address in listed:
            if address not in there:
                log.warning("address.not_local", address=address)
        usable = [a for a in dict.fromkeys([*usable, *listed]) if a in listed and a in there]
    if not usable:
        raise AddressError("no valid address to listen on was found")
    return usable


def bind_addresses(settings: SfuSettings, transport: Transport, local: Sequence[str]) -> list[str]:
    """The local addresses that `transport` listens on; `local` as from `local_ips`."""
    setting = settings.ice_addresses_udp if transport == "udp" else settings.ice_addresses_tcp
    listed = _listed(setting)
    return [address for address in local if not listed or address in listed]


async def announced_addresses(
    settings: SfuSettings,
    *,
    resolve: Resolve | None = None,
    discover: Discover = discover,
    host_addresses: Sequence[str] | None = None,
) -> list[AnnouncedAddress]:
    """What clients are told, UDP first, without repetitions. Call it before the media port is bound.

    Raises:
        AddressError: no local address can be used, or the host override cannot be understood or resolved.
    """
    local = local_ips(settings, host_addresses)
    resolve = resolve or CachedResolver()
    externals = await _externals(settings, local, resolve, discover)
    announced: dict[tuple[Transport, str, int], AnnouncedAddress] = {}
    ports: tuple[tuple[Transport, int], ...] = (
        ("udp", settings.ice_port_udp),
        ("tcp", settings.ice_port_tcp),
    )
    for transport, port in ports:
        for address in bind_addresses(settings, transport, local):
            external = externals.get(address)
            told = port
            if external is not None:
                told = port_for(address, settings.ice_port_override, local) or port
            entry = AnnouncedAddress(transport, external or address, told, address)
            announced.setdefault((transport, entry.address, told), entry)
    return list(announced.values())


async def _externals(
    settings: SfuSettings, local: Sequence[str], resolve: Resolve, discover: Discover
) -> Mapping[str, str]:
    """External address by local address; local ones that are missing stand for themselves."""
    override = settings.ice_host_override
    if "/" in override:
        return pair_externals(override)
    if override:
        found = [override] if _is_address(override) else await resolve(override)
        return host_externals(local, found)
    server = first_stun_url(settings.ice_servers)
    if server is None:
        return {}
    return await _discovered(settings.ice_port_udp, local, server, resolve, discover)


def pair_externals(text: str) -> dict[str, str]:
    """`external/local,external/local` as external by local address.

    Raises:
        AddressError: a pair is none, or one of its sides is no IP address.
    """
    externals = {}
    for pair in text.split(","):
        external, _, address = pair.strip().partition("/")
        if not _is_address(external) or not _is_address(address):
            raise AddressError(
                f"rtc.ice_host_override: {pair.strip()!r} should be EXTERNAL/LOCAL, two IP addresses"
            )
        if external != address:
            externals[address] = external
    return externals


def host_externals(local: Sequence[str], found: Sequence[str]) -> dict[str, str]:
    """One override address for each family of `local`: the first of `found`.

    A family's only local address is mapped whatever it is; of several, loopback stays itself.
    """
    externals: dict[str, str] = {}
    for version in (4, 6):
        override = next((a for a in found if ipaddress.ip_address(a).version == version), None)
        if override is None:
            continue
        same = [a for a in local if ipaddress.ip_address(a).version == version]
        for address in same:
            if len(same) == 1 or not ipaddress.ip_address(address).is_loopback:
                externals[address] = override
    return externals


def port_for(address: str, override: PortOverride, local: Sequence[str]) -> int:
    """The port that is told with the external address of `address`; 0: the media port itself.

    A map may hold many machines' addresses: an entry for `address` itself wins, then the first that is
    one of this machine's.
    """
    if override.port:
        return override.port
    by_address = dict(override.by_address)
    if address in by_address:
        return by_address[address]
    return next((port for a, port in override.by_address if a in local), 0)


def first_stun_url(servers: Sequence[IceServer]) -> str | None:
    """The first URL of the first STUN server."""
    return next((server.urls[0] for server in servers if server.is_stun), None)


def stun_address(url: str) -> tuple[str, int]:
    """Host and port of a STUN URL. Raises AddressError: the port is missing (rtcd.md trap 33)."""
    host, colon, port = url.partition(":")[2].partition("?")[0].rpartition(":")
    if not colon or not port.isdecimal() or not host.strip("[]"):
        raise AddressError(f"{url}: needs an explicit port, such as stun:stun.example.com:3478")
    return host.strip("[]"), int(port)


async def _discovered(
    port: int, local: Sequence[str], url: str, resolve: Resolve, discover: Discover
) -> dict[str, str]:
    try:
        host, server_port = stun_address(url)
        servers = [host] if _is_address(host) else await resolve(host)
    except AddressError as error:
        log.warning("stun.not_asked", reason=str(error))
        return {}

    async def ask(address: str, server: str) -> tuple[str, str] | None:
        try:
            return address, await discover(address, port, (server, server_port))
        except DiscoveryError as error:
            log.warning("stun.no_answer", local_address=address, reason=str(error))
            return None

    pairs = _reachable(local, servers)
    answers = await asyncio.gather(*(ask(address, server) for address, server in pairs))
    return dict(answer for answer in answers if answer is not None)


def _reachable(local: Sequence[str], servers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each local address with a server of its family; loopback only reaches loopback."""
    for address in local:
        here = ipaddress.ip_address(address)
        for server in servers:
            there = ipaddress.ip_address(server)
            if there.version == here.version and there.is_loopback == here.is_loopback:
                yield address, server
                break


def _listed(addresses: Sequence[str]) -> list[str]:
    """0.0.0.0 and :: among them mean all addresses, as an empty list does."""
    if any(ipaddress.ip_address(a).is_unspecified for a in addresses):
        return []
    return list(addresses)


def _usable(text: str, *, ipv6: bool) -> bool:
    address = ipaddress.ip_address(text)
    if address.version == 4:
        return True
    return ipv6 and not (address.is_loopback or address.is_link_local or address.is_multicast)


def _is_v4_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return address.version == 4 and address.is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

"""Steps `dns` and `tcp`: what the site's name means here, and whether anybody answers there."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from offloader.backends.surroundings import Surroundings
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.network.way import CONNECT_S, NO_SITE, Way, reason_of
from offloader.doctor.step import Context, Step, aside
from offloader.errors import LaunchFailed

_NO_IPV6: Final = "no IPv6 on this host"
_NO_WAY: Final = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""At once and from the own kernel: nothing was sent."""
_SLOW_S: Final = 1.0
"""Jobs look the name up at each connection; resolvers that fall back to a second server take 5 s."""


async def look_up(context: Context) -> Sequence[Finding]:
    """Both families, and how long the resolver takes."""
    way = Way.of(context)
    if way is None:
        return [skipped("no_site_url", "Mattermost", NO_SITE)]
    found = [*_overridden(way), *_path(way)]
    if way.proxy:
        cause = f"{way.proxy_key}: the proxy {way.proxy_shown} looks it up"
        return [*found, skipped("dns_by_proxy", way.host, cause)]
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(way.host)
        return [*found, ok("dns_address", way.host, "an address, no name")]
    began_s = time.monotonic()
    answers = {
        name: await aside(partial(_addresses, way.host, family))
        for name, family in (("IPv4", socket.AF_INET), ("IPv6", socket.AF_INET6))
    }
    took_s = time.monotonic() - began_s
    return [*found, _resolution(way, answers, took_s)]


def _resolution(way: Way, answers: dict[str, list[str]], took_s: float) -> Finding:
    shown = "; ".join(f"{name} {', '.join(a)}" for name, a in answers.items() if a)
    data = {**answers, "took_ms": round(took_s * 1000, 1)}
    if not shown:
        return failure(
            "dns_no_address",
            way.host,
            "does not resolve",
            cause="this host's resolver knows no address of it",
            fix=(
                f"getent ahosts {way.host}",
                f'jobs.extra_hosts = ["{way.host}:10.0.0.5"]   # its address, for jobs in containers',
            ),
            data=data,
        )
    value = f"{shown}; {took_s * 1000:.0f} ms"
    if took_s > _SLOW_S:
        return warning(
            "dns_slow",
            way.host,
            value,
            cause="the resolver answers slowly: often the first server of /etc/resolv.conf is dead",
            fix=("put a name server that answers first in /etc/resolv.conf",),
            data=data,
        )
    return ok("dns_resolves", way.host, value, data=data)


def _overridden(way: Way) -> list[Finding]:
    if way.url == way.given_url:
        return []
    return [
        note(
            "site_url_overridden",
            way.given_url,
            way.url,
            cause="jobs.site_url_overrides: jobs go there, and so does this examination",
        )
    ]


def _path(way: Way) -> list[Finding]:
    if not urlsplit(way.given_url).path:
        return []
    return [
        failure(
            "site_url_has_path",
            way.given_url,
            cause="the Calls plugin starts no job for a site URL with a path",
            fix=("System Console > Environment > Web Server > Site URL: a URL without a path",),
        )
    ]


def _addresses(host: str, family: socket.AddressFamily) -> list[str]:
    """Blocks."""
    try:
        found = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(entry[4][0]) for entry in found})


async def connect(context: Context) -> Sequence[Finding]:
    """To every address of the site, or to the proxy."""
    way = Way.of(context)
    if way is None:
        return [skipped("no_site_url", "Mattermost", NO_SITE)]
    found = _container_itself(context, way)
    if way.proxy:
        return [*found, await _by_proxy(way)]
    addresses = [
        address
        for family in (socket.AF_INET, socket.AF_INET6)
        for address in await aside(partial(_addresses, way.host, family))
    ]
    if not addresses:
        return [*found, skipped("tcp_no_address", way.place, "the name does not resolve: see dns")]
    results = await asyncio.gather(*(_connect_one(a, way.port) for a in addresses))
    return [*found, _connection(way, dict(zip(addresses, results, strict=True)))]


def _connection(way: Way, results: dict[str, float | str]) -> Finding:
    good = {address: took for address, took in results.items() if isinstance(took, float)}
    bad = {address: why for address, why in results.items() if isinstance(why, str)}
    data = {"connected_ms": {a: round(t * 1000, 1) for a, t in good.items()}, "failed": bad}
    shown = ", ".join(f"{a} {t * 1000:.0f} ms" for a, t in good.items())
    told = ", ".join(f"{a}: {why}" for a, why in bad.items())
    if not good:
        return failure(
            "tcp_refused"
            if all(why == "connection refused" for why in bad.values())
            else "tcp_blocked",
            way.place,
            told,
            cause="nobody listens there, or a firewall between this host and Mattermost drops the connection",
            fix=(
                f"nc -vz {way.host} {way.port}",
                f"let this host reach {way.place}/tcp, or name the proxy in {way.proxy_key}",
            ),
            data=data,
        )
    if any(why != _NO_IPV6 for why in bad.values()):  # jobs take the other family as well
        return warning(
            "tcp_some_addresses",
            way.place,
            f"{shown}; {told}",
            cause="at some addresses of the name nobody answers: connections take longer, and some may fail",
            fix=(
                f"remove the dead addresses of {way.host} from DNS, or let Mattermost listen there",
            ),
            data=data,
        )
    return ok("tcp_connects", way.place, shown, data=data)


async def _by_proxy(way: Way) -> Finding:
    began_s = time.monotonic()
    try:
        async with way.stream():
            took_ms = (time.monotonic() - began_s) * 1000
    except OSError as error:
        return failure(
            "proxy_unusable",
            f"proxy {way.proxy_shown}",
            reason_of(error),
            cause=f"{way.proxy_key} (by default the service's own {way.proxy_key[5:].upper()}) leads nowhere",
            fix=(
                f'{way.proxy_key} = "http://PROXY:3128"   # one that lets {way.place} through',
                f'jobs.no_proxy = "{way.host}"   # if {way.host} is reached directly',
            ),
        )
    return note(
        "by_proxy",
        way.place,
        f"by the proxy {way.proxy_shown} in {took_ms:.0f} ms",
        cause=f"{way.proxy_key}, and jobs.no_proxy does not name {way.host}; media never goes by it",
        data={"took_ms": round(took_ms, 1)},
    )


async def _connect_one(address: str, port: int) -> float | str:
    """Seconds, or why not."""
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address, port)
    except OSError as error:
        return _NO_IPV6 if ":" in address and error.errno in _NO_WAY else reason_of(error)
    took_s = time.monotonic() - began_s
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return took_s


def _container_itself(context: Context, way: Way) -> list[Finding]:
    """A loopback address means something else in a container."""
    jobs = context.settings.jobs
    if jobs.api_type != "docker":
        return []
    try:
        Surroundings(jobs.network).check_reachable(way.url, network_mode=jobs.docker.network)
    except LaunchFailed as error:
        return [
            failure(
                "site_is_container_itself",
                way.url,
                cause=str(error),
                fix=('jobs.docker.network = "host"',),
            )
        ]
    return []


DNS: Final = Step("dns", "Name of the Mattermost server", look_up, timeout_s=25)
TCP: Final = Step("tcp", "Connection to the Mattermost server", connect)

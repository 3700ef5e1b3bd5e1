"""Step `sfu`: do packets get from here to the SFU and back, over UDP and over TCP?

Where the SFU's API is known, a session of our own is made there, and every candidate that it announces is
sent real checks of ICE (rtcd.md 3.11). Otherwise only the port can be knocked at: an SFU does not answer
strangers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import httpx

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.network import stun
from offloader.doctor.network.admin_view import admin_view
from offloader.doctor.network.media_probe import Probe, probe_tcp, probe_udp
from offloader.doctor.network.rtcd import (
    Announced,
    RtcdError,
    RtcdUrl,
    addresses_of,
    session_at,
)
from offloader.doctor.network.rtcd_wire import Candidate
from offloader.doctor.network.way import PLUGIN_PATH, Way, json_object, reason_of, trusting
from offloader.doctor.step import Context, Step, aside

MEDIA_PORT: Final = 8443
VARIABLE: Final = "MM_CALLS_RTCD_SERVICE_URL"
_MOST_SFUS: Final = 8
_MOST_CANDIDATES: Final = 16
_TCP_REQUESTS: Final = 5
_LOSS_WARNS: Final = 0.1
"""Two of twenty: one may be chance."""
_FAR_MS: Final = 300.0

Results = Sequence[tuple[Candidate, Probe]]


async def look(context: Context) -> Sequence[Finding]:
    """Each SFU of the name, or the port of the plugin's own."""
    way = Way.of(context)
    url = await _url(context, way)
    if not url:
        return (
            [await _without_api(way)] if way else [_no_address("neither --rtcd-url nor --site-url")]
        )
    try:
        parsed = RtcdUrl.parse(url)
        addresses = await addresses_of(parsed)
        ca = await aside(lambda: trusting(context.ca_file))
    except RtcdError as error:
        return [_api_failure(error, "SFU", "http://HOST:8045")]
    except OSError as error:
        return [skipped("ca_file_unusable", "SFU", f"{error}: see tls")]
    findings = await asyncio.gather(*(_one(parsed, a, ca) for a in addresses[:_MOST_SFUS]))
    return [finding for found in findings for finding in found]


async def _url(context: Context, way: Way | None) -> str:
    url = context.rtcd_url or context.environ.get(VARIABLE, "")
    if url or way is None:
        return url
    try:
        view = await admin_view(way, context.token)
    except (httpx.HTTPError, OSError):
        return ""
    return view.text("RTCDServiceURL") if view else ""


async def _one(url: RtcdUrl, address: str, ca: ssl.SSLContext) -> list[Finding]:
    what = f"SFU {url.host}" if address == url.host else f"SFU {url.host} ({address})"
    try:
        async with session_at(url, address, ca=ca) as announced:
            results = await _check_all(announced)
    except RtcdError as error:
        return [_api_failure(error, what, url.shown)]
    return _judged(what, announced, results)


async def _check_all(announced: Announced) -> list[tuple[Candidate, Probe]]:
    tie_breaker = os.urandom(8)

    def make(transaction_id: bytes) -> bytes:
        return stun.connectivity_check(
            transaction_id,
            ufrags=announced.ufrags,
            password=announced.password,
            tie_breaker=tie_breaker,
        )

    def accept(response: stun.Response) -> bool:
        return response.succeeded and response.integrity_holds(announced.password.encode())

    candidates = _worth_checking(announced)
    checks = [
        probe_udp(c.address, c.port, make, accept)
        if c.transport == "udp"
        else probe_tcp(c.address, c.port, make, accept, requests=_TCP_REQUESTS)
        for c in candidates
    ]
    return list(zip(candidates, await asyncio.gather(*checks), strict=True))


def _worth_checking(announced: Announced) -> list[Candidate]:
    """Without the SFU's own loopback addresses, which mean this host here, unless the SFU is on it."""
    here = ipaddress.ip_address(announced.address).is_loopback
    return [
        candidate
        for candidate in announced.candidates
        if here or not ipaddress.ip_address(candidate.address).is_loopback
    ][:_MOST_CANDIDATES]


def _judged(what: str, announced: Announced, results: Results) -> list[Finding]:
    data = {"version": announced.version, "candidates": [_document(c, p) for c, p in results]}
    udp, tcp = (_best(results, transport) for transport in ("udp", "tcp"))
    tried = ", ".join(f"{c.address}:{c.port}/{c.transport}" for c, _ in results) or "none"
    if udp is None and tcp is None:
        return [
            failure(
                "sfu_unreachable",
                what,
                f"no answer of {tried}",
                cause="the addresses that it announces cannot be reached from here: it announces inner ones, "
                "or a firewall is between",
                fix=(
                    f"let this host reach {_place(results)}/udp and /tcp",
                    "RTCD_RTC_ICEHOSTOVERRIDE=ADDRESS   # the one under which jobs and people reach the SFU",
                ),
                data=data,
            )
        ]
    if udp is None:
        return [
            warning(
                "sfu_udp_blocked",
                what,
                f"no answer over UDP of {tried}; TCP {_shown(tcp)}",
                cause="a firewall drops UDP: jobs take TCP, where one lost packet holds up all that follow",
                fix=(f"let this host reach {_place(results)}/udp, and its answers come back",),
                data=data,
            )
        ]
    found = [_udp(what, udp, data)]
    if tcp is None:
        cause = "only the second way is missing: networks that drop UDP cannot join"
        found.append(note("sfu_tcp_blocked", what, "no answer over TCP", cause=cause))
    else:
        found.append(ok("sfu_tcp_answers", what, f"TCP {_shown(tcp)}"))
    return found


def _udp(what: str, udp: tuple[Candidate, Probe], data: dict[str, Any]) -> Finding:
    probe = udp[1]
    value = f"UDP {_shown(udp)}"
    if probe.loss >= _LOSS_WARNS:
        return warning(
            "sfu_loses",
            what,
            value,
            cause="packets get lost between this host and the SFU: recordings stutter",
            fix=(f"mtr --udp --port {udp[0].port} {udp[0].address}",),
            data=data,
        )
    if probe.round_trip_ms > _FAR_MS:
        return warning(
            "sfu_far",
            what,
            value,
            cause="lost packets are asked for again too late over such a distance",
            fix=("run jobs nearer to the SFU",),
            data=data,
        )
    return ok("sfu_udp_answers", what, value, data=data)


def _best(results: Results, transport: str) -> tuple[Candidate, Probe] | None:
    answered = [r for r in results if r[0].transport == transport and r[1].answered]
    return min(answered, key=lambda r: (r[1].loss, r[1].round_trip_ms), default=None)


def _shown(best: tuple[Candidate, Probe] | None) -> str:
    if best is None:
        return "no answer"
    candidate, probe = best
    lost = f", {probe.loss:.0%} lost" if candidate.transport == "udp" else ""
    return f"{candidate.address}:{candidate.port} in {probe.round_trip_ms:.1f} ms{lost}"


def _place(results: Results) -> str:
    return next((f"{c.address}:{c.port}" for c, _ in results), f"the SFU, port {MEDIA_PORT}")


def _document(candidate: Candidate, probe: Probe) -> dict[str, Any]:
    return {
        "transport": candidate.transport,
        "address": candidate.address,
        "port": candidate.port,
        "type": candidate.kind,
        "sent": probe.sent,
        "answered": probe.answered,
        "round_trip_ms": round(probe.round_trip_ms, 2),
        "seen_as": probe.mapped,
        "reason": probe.reason,
    }


def _api_failure(error: RtcdError, what: str, shown: str) -> Finding:
    if error.code == "rtcd_wants_credentials":
        return skipped(
            error.code,
            what,
            f"{error}: the plugin's own client may ask, too",
            # Not --rtcd-url: others on the host see arguments.
            fix=(f"export {VARIABLE}={shown.replace('//', '//CLIENT:KEY@', 1)}",),
        )
    return failure(
        error.code,
        what,
        str(error),
        cause="its API is not usable from here: calls may still be; the plugin alone needs the API",
        fix=(
            f"curl -s {shown}/version",
            f"{VARIABLE} or --rtcd-url: http://[CLIENT:KEY@]HOST:8045",
        ),
    )


def _no_address(cause: str) -> Finding:
    return skipped("sfu_unknown", "SFU", f"{cause}: its address is not known")


async def _without_api(way: Way) -> Finding:
    """The plugin's own SFU has the site's address, and answers nobody who is in no call."""
    try:
        async with way.http() as http:
            told = json_object(await http.get(f"{PLUGIN_PATH}/version"))
    except (httpx.HTTPError, OSError) as error:
        return _no_address(f"the plugin does not answer ({reason_of(error)})")
    if told.get("rtcd_version"):
        return _no_address(
            "the plugin uses an rtcd; --rtcd-url http://[CLIENT:KEY@]HOST:8045 names it"
        )
    return await _knock(way.host, MEDIA_PORT)


async def _knock(host: str, port: int) -> Finding:
    make = partial(stun.request, stun.BINDING)
    udp, tcp = await asyncio.gather(
        probe_udp(host, port, make), probe_tcp(host, port, make, requests=1)
    )
    what = f"SFU {host}:{port}"
    data = {"udp": udp.reason or f"{udp.answered} answers", "tcp": tcp.reason}
    if tcp.connected:
        value = "listens on TCP" + ("; UDP refused" if udp.refused else "")
        if not udp.refused:
            cause = "whether UDP passes cannot be told from outside of a call: an SFU answers no strangers"
            return note("sfu_listens", what, value, cause=cause, data=data)
        return warning(
            "sfu_udp_refused",
            what,
            value,
            cause="nobody listens on UDP there: media goes by TCP at best",
            fix=("System Console > Plugins > Calls > RTC server address and port (UDP)",),
            data=data,
        )
    return failure(
        "sfu_not_listening",
        what,
        f"TCP: {tcp.reason}; UDP: {udp.reason or 'no answer'}",
        cause="nobody answers at the port of calls: another address (ICE host override), or a firewall",
        fix=(f"let this host reach {host}:{port}/udp and /tcp", f"nc -vz {host} {port}"),
        data=data,
    )


SFU: Final = Step("sfu", "SFU, the way of sound and pictures", look, timeout_s=60)

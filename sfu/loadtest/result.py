"""From the reports of all processes to one result: a JSON document, numbers with units in their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sfu.loadtest.histogram import Histogram
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.presets import PRESETS
from sfu.loadtest.processes import Usage
from sfu.loadtest.shared import TIMINGS
from sfu.loadtest.stamp import KINDS, kind_of

BUSY_SHARE: Final = 0.85
"""A process that uses more of a core than this is too busy to measure with."""
LATE_MS: Final = 10.0
"""As is one whose packets leave this late (p99)."""
LATE_JOINING_MS: Final = 25.0
"""While people join, handshakes keep a healthy process busy for some milliseconds at a time."""


@dataclass(slots=True)
class Measured:
    """What the run has collected."""

    reports: Sequence[Mapping[str, Any]]
    settled: bool
    wall_s: float
    server_pid: int | None
    server_after_joins: Usage | None
    server_window: tuple[Usage | None, Usage | None]
    server_after: Usage | None
    tool_cpu_s: Sequence[float]
    """Of each process, in the window."""
    tool_udp_drops: int
    recordings: Sequence[Mapping[str, Any]] | None = None
    """What each recorded call told in the end."""
    server_version: str = ""
    server_before: Usage | None = None


def make_result(plan: LoadPlan, measured: Measured, *, preset: str | None) -> dict[str, Any]:
    """Everything that is printed and written."""
    reports = measured.reports
    media = _media(plan, reports)
    joined = sum(report["joined"] for report in reports)
    result: dict[str, Any] = {
        "plan": _public(plan),
        "settled": measured.settled,
        "wall_s": round(measured.wall_s, 3),
        "participants": {
            "planned": plan.participants,
            "joined": joined,
            "failures": _sum_counters(reports, "failures"),
            "messages_refused": _sum_counters(reports, "refused"),
        },
        "timings_ms": {
            name: _in_ms(_merge(report["timings"][name] for report in reports)) for name in TIMINGS
        },
        "media": media,
        "delay_ms": _in_ms(_merge(report["delays"] for report in reports)),
        "server": _server(measured, media, joined),
        "tool": _tool(plan, measured, media),
    }
    if measured.recordings is not None:
        result["recordings"] = [
            {key: value for key, value in one.items() if key != "event"}
            for one in measured.recordings
        ]
    if preset is not None:
        result["preset"] = _extrapolate(preset, result)
    return result


def _media(plan: LoadPlan, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sent: dict[int, Mapping[str, int]] = {}
    received: dict[int, Counter[str]] = {}
    for report in reports:
        sent |= {int(track): books for track, books in report["sent"].items()}
        for track, books in report["received"].items():
            received.setdefault(int(track), Counter()).update(books)
    kinds = {
        name: _kind(
            {track: books for track, books in sent.items() if kind_of(track) == kind},
            {track: books for track, books in received.items() if kind_of(track) == kind},
        )
        for kind, name in enumerate(KINDS)
    }
    totals = {key: sum(kind[key] for kind in kinds.values()) for key in kinds[KINDS[0]]}
    seconds = plan.duration_s
    return {
        **totals,
        "loss_percent": _percent(totals["lost"], totals["expected"]),
        "packets_in_per_s": round(totals["sent"] / seconds, 1),
        "packets_out_per_s": round(totals["received"] / seconds, 1),
        "mbps_in": round(totals["sent_bytes"] * 8 / seconds / 1e6, 3),
        "mbps_out": round(totals["received_bytes"] * 8 / seconds / 1e6, 3),
        "foreign": sum(report["foreign"] for report in reports),
        "misdelivered": sum(report["misdelivered"] for report in reports),
        "kinds": kinds,
    }


def _kind(
    sent: Mapping[int, Mapping[str, int]], received: Mapping[int, Counter[str]]
) -> dict[str, int]:
    expected = sum(
        books["packets"] * received[track]["receivers"]
        for track, books in sent.items()
        if track in received
    )
    got: Counter[str] = Counter()
    for track, books in received.items():
        if track in sent:
            got.update(books)
    return {
        "tracks": len(sent),
        "sent": sum(books["packets"] for books in sent.values()),
        "sent_bytes": sum(books["bytes"] for books in sent.values()),
        "expected": expected,
        "received": got["packets"],
        "received_bytes": got["bytes"],
        "lost": expected - got["packets"],
        "duplicates": got["duplicates"],
        "reordered": got["reordered"],
        "subscriptions": got["receivers"],
        "never_heard": got["never_heard"],
    }


def _server(measured: Measured, media: Mapping[str, Any], joined: int) -> dict[str, Any]:
    server: dict[str, Any] = {"version": measured.server_version, "pid": measured.server_pid}
    before, joins, after = (
        measured.server_before,
        measured.server_after_joins,
        measured.server_after,
    )
    began, ended = measured.server_window
    if before and joins and after and began and ended:
        cpu_s = ended.cpu_s - began.cpu_s
        forwarded = media["received"]
        server |= {
            "processes": ended.processes,
            "cpu_s": round(cpu_s, 2),
            "cores": round(cpu_s / measured.wall_s, 3),
            "cpu_s_per_million_packets": round(cpu_s / forwarded * 1e6, 2) if forwarded else None,
            "packets_per_cpu_s": round(forwarded / cpu_s) if cpu_s else None,
            "join_cpu_ms": round((joins.cpu_s - before.cpu_s) / joined * 1e3, 1)
            if joined
            else None,
            "rss_before_bytes": before.rss_bytes,
            "rss_joined_bytes": joins.rss_bytes,
            "rss_after_bytes": after.rss_bytes,
            "rss_per_participant_bytes": (joins.rss_bytes - before.rss_bytes) // joined
            if joined
            else None,
            "udp_drops": after.udp_drops - before.udp_drops,
        }
    return server


def _tool(plan: LoadPlan, measured: Measured, media: Mapping[str, Any]) -> dict[str, Any]:
    shares = [cpu_s / measured.wall_s for cpu_s in measured.tool_cpu_s]
    lateness = _in_ms(_merge(report["lateness"] for report in measured.reports))
    joining = _in_ms(_merge(report["lateness_joining"] for report in measured.reports))
    planned = plan.packets_in_per_s() * plan.duration_s
    limits = []
    busiest = max(shares, default=0.0)
    if busiest > BUSY_SHARE:
        limits.append(f"a process of it used {busiest:.0%} of a core")
    if lateness["p99"] is not None and lateness["p99"] > LATE_MS:
        limits.append(
            f"it was {lateness['p99']:.1f} ms late (p99) with what it had to send: too busy itself, or "
            "others are on its cores"
        )
    if joining["p99"] is not None and joining["p99"] > LATE_JOINING_MS:
        limits.append(
            f"it was {joining['p99']:.1f} ms late (p99) while people joined: so are join times"
        )
    if measured.tool_udp_drops:
        limits.append(f"{measured.tool_udp_drops} datagrams did not fit into its receive buffers")
    if measured.settled and media["sent"] < 0.98 * planned:
        limits.append(f"it sent {media['sent']} of {planned:.0f} packets")
    return {
        "processes": len(measured.reports),
        "cpu_s": round(sum(measured.tool_cpu_s), 2),
        "cores_busiest_process": round(busiest, 3),
        "lateness_ms": lateness,
        "lateness_joining_ms": joining,
        "udp_drops": measured.tool_udp_drops,
        "bottleneck": limits,
    }


def _extrapolate(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    row = PRESETS[name]
    whole = LoadPlan(
        url="",
        client_id="",
        auth_key="",
        call_prefix="",
        session_prefix="",
        calls=row.calls,
        users_per_call=row.users_per_call,
        unmuted=row.unmuted,
        screen_sharing=row.calls if row.sharing else 0,
    )
    cost_s = result["server"].get("cpu_s_per_million_packets")
    packets_per_s = whole.packets_out_per_s()
    return {
        "name": name,
        "published": row.published,
        "whole_participants": whole.participants,
        "whole_packets_in_per_s": round(whole.packets_in_per_s()),
        "whole_packets_out_per_s": round(packets_per_s),
        "cores_at_measured_cost": None
        if cost_s is None
        else round(packets_per_s * cost_s / 1e6, 2),
    }


def _public(plan: LoadPlan) -> dict[str, Any]:
    document = plan.to_json()
    del document["auth_key"]
    return document


def _merge(documents: Any) -> Histogram:
    merged = Histogram()
    for document in documents:
        merged.merge(Histogram.from_json(document))
    return merged


def _in_ms(histogram: Histogram) -> dict[str, Any]:
    shares = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    values = {name: histogram.percentile_ns(share) for name, share in shares.items()}
    values["max"] = histogram.max_ns if histogram.count else None
    in_ms = {name: None if ns is None else round(ns / 1e6, 3) for name, ns in values.items()}
    return {"count": histogram.count, **in_ms}


def _sum_counters(reports: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report[key])
    return dict(total.most_common())


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 4) if whole else 0.0

"""The result for a person: a few aligned lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def make_table(result: Mapping[str, Any]) -> str:
    """Text with a line end."""
    plan, people, media = result["plan"], result["participants"], result["media"]
    server, tool = result["server"], result["tool"]
    lines = [
        f"{plan['calls']} calls × {plan['users_per_call']}, {plan['unmuted']} unmuted each, "
        f"{plan['screen_sharing']} with screen; {plan['duration_s']:g} s at {plan['url']} "
        f"({server['version'] or 'version not told'})",
        "",
        _row("joined", f"{people['joined']} of {people['planned']}"),
    ]
    lines += [_row("  failed", f"{n} × {why}") for why, n in people["failures"].items()]
    lines += [_row("  refused", f"{n} × {why}") for why, n in people["messages_refused"].items()]
    for name, title in (
        ("join", "join to data channel"),
        ("answer", "  to the answer"),
        ("connected", "  to ICE and DTLS"),
        ("first_media", "join to first media"),
        ("track_start", "both there to heard"),
        ("lock", "wait for the lock"),
        ("renegotiation", "renegotiation"),
    ):
        lines.append(_row(title, _milliseconds(result["timings_ms"][name], ("p50", "p95", "max"))))
    lines += [
        "",
        _row("in", f"{media['packets_in_per_s']:,.0f} packets/s, {media['mbps_in']:,.2f} Mb/s"),
        _row("out", f"{media['packets_out_per_s']:,.0f} packets/s, {media['mbps_out']:,.2f} Mb/s"),
    ]
    for name, kind in media["kinds"].items():
        if kind["tracks"]:
            lines.append(
                _row(
                    f"  {name}",
                    f"{kind['received']:,} of {kind['expected']:,} received, {kind['lost']:,} lost, "
                    f"{kind['duplicates']:,} twice, {kind['reordered']:,} out of order",
                )
            )
    lines.append(_row("loss", f"{media['loss_percent']:.4f} %"))
    for key, title in (
        ("never_heard", "subscriptions without a packet"),
        ("misdelivered", "packets to the wrong people"),
        ("foreign", "packets of others"),
    ):
        if media[key]:
            lines.append(_row(title, str(media[key])))
    delay = _milliseconds(result["delay_ms"], ("p50", "p90", "p99", "max"))
    lines += [_row("forwarding delay", delay), "", *_server_lines(server), *_tool_lines(tool)]
    for number, one in enumerate(result.get("recordings", [])):
        cpu = ", ".join(f"{name} {cpu_s:.1f} CPU-s" for name, cpu_s in one["cpu_s"].items())
        lines.append(
            _row(f"recording {number}", f"{one['size_bytes'] // 1000} kB in {one['file']}; {cpu}")
        )
    if "preset" in result:
        lines += ["", *_preset_lines(result["preset"])]
    return "\n".join(lines) + "\n"


def _server_lines(server: Mapping[str, Any]) -> list[str]:
    if "cpu_s" not in server:
        return [_row("server", "not on this host, or gone: no CPU figures (--server-pid)")]
    cost, rate = server["cpu_s_per_million_packets"], server["packets_per_cpu_s"]
    per_packet = (
        f"; {cost:g} CPU-s per million, {rate:,} packets per CPU-s" if cost and rate else ""
    )
    per_head = server["rss_per_participant_bytes"] or 0
    return [
        _row("server CPU", f"{server['cpu_s']:.2f} s, {server['cores']:.2f} cores{per_packet}"),
        _row("server CPU per join", f"{server['join_cpu_ms']} ms, settling included"),
        _row(
            "server RSS",
            f"{_mib(server['rss_before_bytes'])} before, {_mib(server['rss_joined_bytes'])} joined, "
            f"{_mib(server['rss_after_bytes'])} after; {per_head / 1000:.0f} kB per participant",
        ),
        _row("server's lost datagrams", f"{server['udp_drops']} (full receive buffer)"),
    ]


def _tool_lines(tool: Mapping[str, Any]) -> list[str]:
    lines = [
        _row(
            "load tool",
            f"{tool['processes']} processes, {tool['cpu_s']:.2f} CPU-s, the busiest "
            f"{tool['cores_busiest_process']:.0%} of a core; late "
            f"{_milliseconds(tool['lateness_ms'], ('p50', 'p99'))}",
        )
    ]
    if tool["bottleneck"]:
        lines.append("THE LOAD TOOL ITSELF WAS THE BOTTLENECK; delay and loss are not the SFU's:")
        lines += [f"  {reason}" for reason in tool["bottleneck"]]
        lines.append("  More --processes, cores of their own (--cpus), or another machine.")
    return lines


def _preset_lines(preset: Mapping[str, Any]) -> list[str]:
    cores = preset["cores_at_measured_cost"]
    return [
        _row(
            f"whole {preset['name']}",
            f"{preset['whole_participants']} participants, "
            f"{preset['whole_packets_in_per_s']:,} packets/s in, "
            f"{preset['whole_packets_out_per_s']:,} out",
        ),
        _row("  at the cost measured", "not known" if cores is None else f"{cores:.2f} cores"),
        _row("  published, original", preset["published"]),
    ]


def _row(title: str, text: str) -> str:
    return f"{title:32}{text}"


def _milliseconds(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    if not values["count"]:
        return "–"
    return ", ".join(f"{name} {values[name]:.1f}" for name in names) + " ms"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"

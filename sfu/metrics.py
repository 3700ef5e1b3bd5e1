"""What the SFU counts: plain numbers, cheap to update, added up over processes (rtcd.md 1.6).

`FAMILIES` names every metric with its labels and buckets. Each process has one `SfuMetrics`; a `Snapshot` of
it crosses to the process that answers `GET /metrics` (`metrics_text`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Snapshot = Mapping[str, Any]
"""`{"values": {name: [[labels, number]]}, "histograms": {name: [[labels, counts, sum]]}}`.

Fit for MessagePack and JSON."""

ConnState = Literal["connected", "disconnected", "failed", "closed"]
ErrorType = Literal["signaling", "ice", "rtp", "track", "signaling_lock_timeout"]
Direction = Literal["in", "out"]
WriteType = Literal["voice", "screen-audio", "screen"]
"""All video counts as `screen`, the camera too."""

LATENCY_S: Final = (
    *(0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0),
)
RATIO: Final = (0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0)
DEFAULT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


FAMILIES: Final[dict[str, Family]] = {
    "rtcd_rtc_rtp_tracks_total": Family(
        "gauge", ("groupID", "direction", "type"), "Active tracks; type is the MIME type."
    ),
    "rtcd_rtc_rtp_tracks_writes_time": Family(
        "histogram", ("groupID", "type"), "Time to write a packet to a receiver, s.", LATENCY_S
    ),
    "rtcd_rtc_sessions_total": Family("gauge", ("groupID",), "Active sessions."),
    "rtcd_rtc_conn_states_total": Family("counter", ("type",), "Changes of connection states."),
    "rtcd_rtc_errors_total": Family("counter", ("groupID", "type"), "Errors of sessions."),
    "rtcd_rtc_connection_time": Family(
        "histogram", ("groupID",), "From a session's start to each `connected`, s.", DEFAULT_S
    ),
    "rtcd_rtc_dc_open_time": Family(
        "histogram", ("groupID",), "From the first answer to the open data channel, s.", DEFAULT_S
    ),
    "rtcd_rtc_signaling_lock_grab_time": Family(
        "histogram", ("groupID",), "How long the server waited for signaling locks, s.", DEFAULT_S
    ),
    "rtcd_rtc_signaling_lock_locked_time": Family(
        "histogram", ("groupID",), "How long signaling locks were held, s.", DEFAULT_S
    ),
    "rtcd_rtc_client_loss_rate": Family(
        "histogram", ("groupID",), "Loss that clients report, 0 to 1.", RATIO
    ),
    "rtcd_rtc_client_rtt": Family(
        "histogram", ("groupID",), "Round trip that clients report, s.", LATENCY_S
    ),
    "rtcd_rtc_client_jitter": Family(
        "histogram", ("groupID",), "Jitter that clients report, s.", LATENCY_S
    ),
    "rtcd_ws_connections_total": Family("gauge", ("clientID",), "Open signaling connections."),
    "rtcd_ws_messages_total": Family(
        "counter", ("clientID", "type", "direction"), "Signaling messages."
    ),
    # From here on ours: rtcd does not have them.
    "rtcd_rtc_calls_total": Family("gauge", ("groupID",), "Calls with at least one session."),
    "rtcd_rtc_packets_received_total": Family(
        "counter",
        ("groupID", "type"),
        "RTP packets of publishers; type: voice, screen-audio, screen.",
    ),
    "rtcd_rtc_packets_forwarded_total": Family(
        "counter", ("groupID", "type"), "RTP packets sent to receivers, retransmissions left out."
    ),
    "rtcd_rtc_bytes_received_total": Family(
        "counter", ("groupID", "type"), "Bytes of those received."
    ),
    "rtcd_rtc_bytes_forwarded_total": Family(
        "counter", ("groupID", "type"), "Bytes of those sent."
    ),
    "rtcd_rtc_packets_dropped_total": Family(
        "counter", ("groupID", "reason"), "RTP packets that went to nobody, by reason."
    ),
    "rtcd_rtc_nacks_total": Family(
        "counter",
        ("groupID", "direction"),
        "Packets asked for again, by receivers (in) or us (out).",
    ),
    "rtcd_rtc_retransmissions_total": Family(
        "counter", ("groupID",), "Packets sent again to receivers that asked."
    ),
    "rtcd_rtc_plis_total": Family(
        "counter", ("groupID", "direction"), "Key frames asked for, by receivers (in) or us (out)."
    ),
    "rtcd_rtc_undecided_total": Family(
        "counter", ("groupID", "outcome"), "Video tracks held until announced: decided, rejected."
    ),
    "rtcd_rtc_layer_switches_total": Family(
        "counter", ("groupID", "direction"), "Switches between simulcast layers: up, down."
    ),
    "rtcd_rtc_datagrams_dropped_total": Family(
        "counter", ("reason",), "Datagrams at the media port that belong to nobody, by reason."
    ),
    "rtcd_rtc_connections_refused_total": Family(
        "counter", (), "TCP connections at the media port that did not say whose they are, or lied."
    ),
    "rtcd_rtc_refused_total": Family(
        "counter",
        ("groupID", "type"),
        "What sessions sent that was of no use: ice_request, srtp, sctp_packet, sctp_chunk, channel,"
        " channel_message, sdp, offer, answer, candidate, candidate_address, signal_size,"
        " signal_rate, track.",
    ),
    "rtcd_rtc_checks_held_total": Family(
        "counter", ("groupID",), "Connectivity checks that waited: limits.checks_per_second."
    ),
    "rtcd_rtc_processes": Family("gauge", ("state",), "Media processes: serving, missing."),
    "rtcd_rtc_processes_died_total": Family(
        "counter", (), "Media processes that ended before they should."
    ),
    "rtcd_ws_messages_dropped_total": Family(
        "counter",
        ("clientID", "reason"),
        "Signaling messages that were dropped: queue, flood, invalid.",
    ),
    "rtcd_ws_joins_refused_total": Family(
        "counter", ("clientID", "reason"), "Joins answered by close, by reason."
    ),
}


class Distribution:
    """One histogram with fixed bounds; hold on to it where it is fed often."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values of each bucket alone; the last one is above every bound."""
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, which happened `times` times."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times


class SfuMetrics:
    """The counters of one process. Not for several threads."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._distributions: dict[str, dict[tuple[str, ...], Distribution]] = {}

    # sessions and tracks

    def session_opened(self, group: str) -> None:
        self.add("rtcd_rtc_sessions_total", group)

    def session_closed(self, group: str) -> None:
        self.add("rtcd_rtc_sessions_total", group, amount=-1)

    def call_opened(self, group: str) -> None:
        self.add("rtcd_rtc_calls_total", group)

    def call_closed(self, group: str) -> None:
        self.add("rtcd_rtc_calls_total", group, amount=-1)

    def track_opened(self, group: str, direction: Direction, mime: str) -> None:
        """`mime`: such as `audio/opus`, `video/VP8`; `unknown` for what has none."""
        self.add("rtcd_rtc_rtp_tracks_total", group, direction, mime)

    def track_closed(self, group: str, direction: Direction, mime: str) -> None:
        self.add("rtcd_rtc_rtp_tracks_total", group, direction, mime, amount=-1)

    def conn_state(self, state: ConnState) -> None:
        self.add("rtcd_rtc_conn_states_total", state)

    def error(self, group: str, kind: ErrorType) -> None:
        self.add("rtcd_rtc_errors_total", group, kind)

    # times, in seconds

    def write_times(self, group: str, kind: WriteType) -> Distribution:
        """Where the forwarding path puts the time of each write."""
        return self._distribution("rtcd_rtc_rtp_tracks_writes_time", group, kind)

    def write_time(self, group: str, kind: WriteType, seconds: float) -> None:
        self.write_times(group, kind).observe(seconds)

    def connection_time(self, group: str, seconds: float) -> None:
        self._distribution("rtcd_rtc_connection_time", group).observe(seconds)

    def dc_open_time(self, group: str, seconds: float) -> None:
        self._distribution("rtcd_rtc_dc_open_time", group).observe(seconds)

    def lock_grab_time(self, group: str, seconds: float) -> None:
        self._distribution("rtcd_rtc_signaling_lock_grab_time", group).observe(seconds)

    def lock_locked_time(self, group: str, seconds: float) -> None:
        self._distribution("rtcd_rtc_signaling_lock_locked_time", group).observe(seconds)

    # what clients report over their data channel; anything may come from there

    def client_loss(self, group: str, ratio: float) -> None:
        self._reported("rtcd_rtc_client_loss_rate", group, ratio)

    def client_rtt(self, group: str, seconds: float) -> None:
        self._reported("rtcd_rtc_client_rtt", group, seconds)

    def client_jitter(self, group: str, seconds: float) -> None:
        self._reported("rtcd_rtc_client_jitter", group, seconds)

    # signaling connections

    def ws_connection_opened(self, client: str) -> None:
        self.add("rtcd_ws_connections_total", client)

    def ws_connection_closed(self, client: str) -> None:
        self.add("rtcd_ws_connections_total", client, amount=-1)

    def ws_message(self, client: str, kind: str, direction: Direction) -> None:
        """`kind`: a type of our protocol, never one that a client made up."""
        self.add("rtcd_ws_messages_total", client, kind, direction)

    # anything

    def add(self, name: str, *labels: str, amount: float = 1) -> None:
        """Change a counter or a gauge of `FAMILIES`; labels in its order."""
        values = self._values.get(name)
        if values is None:
            values = self._values[name] = {}
        values[labels] = values.get(labels, 0) + amount

    def total(self, name: str, *labels: str, value: float) -> None:
        """Of a counter that somebody else counts, or a gauge: its value now."""
        self._values.setdefault(name, {})[labels] = value

    def value(self, name: str, *labels: str) -> float:
        """Of a counter or a gauge; 0 when nothing has happened."""
        return self._values.get(name, {}).get(labels, 0)

    def snapshot(self) -> Snapshot:
        """Everything, fit to be sent to another process."""
        return {
            "values": {
                name: [[list(labels), number] for labels, number in values.items()]
                for name, values in self._values.items()
            },
            "histograms": {
                name: [[list(labels), list(d.counts), d.total] for labels, d in family.items()]
                for name, family in self._distributions.items()
            },
        }

    def merge(self, snapshot: Snapshot, *, gauges: bool = True) -> None:
        """Add another process's numbers.

        `gauges=False` for a process that has ended: what it counted stays counted, what it had is gone.

        Raises:
            ValueError: the snapshot has a metric, or a number of buckets, that is not known here.
        """
        for name, entries in snapshot["values"].items():
            if name not in FAMILIES:
                raise ValueError(f"metric {name} is not known")
            if FAMILIES[name].kind == "gauge" and not gauges:
                continue
            for labels, number in entries:
                self.add(name, *labels, amount=number)
        for name, entries in snapshot["histograms"].items():
            for labels, counts, total in entries:
                mine = self._distribution(name, *labels)
                if len(counts) != len(mine.counts):
                    raise ValueError(f"metric {name} has {len(counts)} buckets")
                mine.counts = [a + b for a, b in zip(mine.counts, counts, strict=True)]
                mine.total += total

    def _distribution(self, name: str, *labels: str) -> Distribution:
        family = self._distributions.setdefault(name, {})
        found = family.get(labels)
        if found is None:
            known = FAMILIES.get(name)
            if known is None:
                raise ValueError(f"metric {name} is not known")
            found = family[labels] = Distribution(known.buckets)
        return found

    def _reported(self, name: str, group: str, value: float) -> None:
        # A client may send a NaN, which would spoil the sum for good.
        if 0 <= value < 1e6:
            self._distribution(name, group).observe(value)

"""Every row of rtcd's metrics, and sums over processes (rtcd.md 1.6, trap 11)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgpack
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sfu.metrics import FAMILIES, SfuMetrics
from sfu.metrics_text import family_of, render


def bounds(*values: float) -> list[str]:
    return [f"{value:g}" for value in values]


LATENCIES = bounds(
    0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.3, 0.4, 0.5, 0.75, 1
)
RATIOS = bounds(0.001, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1)
DEFAULTS = bounds(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

ROWS = {
    "rtcd_rtc_rtp_tracks_total": ("gauge", ("groupID", "direction", "type"), None),
    "rtcd_rtc_rtp_tracks_writes_time": ("histogram", ("groupID", "type"), LATENCIES),
    "rtcd_rtc_sessions_total": ("gauge", ("groupID",), None),
    "rtcd_rtc_conn_states_total": ("counter", ("type",), None),
    "rtcd_rtc_errors_total": ("counter", ("groupID", "type"), None),
    "rtcd_rtc_connection_time": ("histogram", ("groupID",), DEFAULTS),
    "rtcd_rtc_dc_open_time": ("histogram", ("groupID",), DEFAULTS),
    "rtcd_rtc_signaling_lock_grab_time": ("histogram", ("groupID",), DEFAULTS),
    "rtcd_rtc_signaling_lock_locked_time": ("histogram", ("groupID",), DEFAULTS),
    "rtcd_rtc_client_loss_rate": ("histogram", ("groupID",), RATIOS),
    "rtcd_rtc_client_rtt": ("histogram", ("groupID",), LATENCIES),
    "rtcd_rtc_client_jitter": ("histogram", ("groupID",), LATENCIES),
    "rtcd_ws_connections_total": ("gauge", ("clientID",), None),
    "rtcd_ws_messages_total": ("counter", ("clientID", "type", "direction"), None),
}


def busy() -> SfuMetrics:
    """Everything has happened once."""
    metrics = SfuMetrics()
    metrics.track_opened("g", "in", "audio/opus")
    metrics.write_time("g", "voice", 0.002)
    metrics.session_opened("g")
    metrics.conn_state("connected")
    metrics.error("g", "signaling_lock_timeout")
    metrics.connection_time("g", 0.3)
    metrics.dc_open_time("g", 0.4)
    metrics.lock_grab_time("g", 0.001)
    metrics.lock_locked_time("g", 20.0)
    metrics.client_loss("g", 0.02)
    metrics.client_rtt("g", 0.08)
    metrics.client_jitter("g", 0.003)
    metrics.ws_connection_opened("c")
    metrics.ws_message("c", "join", "in")
    return metrics


def families(metrics: SfuMetrics) -> dict[str, tuple[str, list[tuple[str, dict[str, str], float]]]]:
    """Type and samples by the name in the text, rtcd's rows only."""
    text = render([metrics.snapshot()]).decode()
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE rtcd_"))
    samples = {name: (kind, []) for name, kind in types.items()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = next(
                (n for n in samples if sample.name in (n, n + "_bucket", n + "_sum", n + "_count")),
                None,
            )
            if name is not None:
                samples[name][1].append((sample.name, sample.labels, sample.value))
    return samples


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_contract_has_its_type_labels_and_buckets(name: str) -> None:
    kind, labels, buckets = ROWS[name]
    found_kind, samples = families(busy())[name]
    assert found_kind == kind
    assert samples
    for _, found_labels, _ in samples:
        assert set(found_labels) - {"le"} == set(labels)
    if buckets is not None:
        told = [found["le"] for sample, found, _ in samples if sample.endswith("_bucket")]
        assert told == [*buckets, "+Inf"]


def test_there_are_no_created_series_and_gauges_keep_their_names() -> None:
    text = render([busy().snapshot()]).decode()
    assert "_created" not in text
    assert 'rtcd_rtc_sessions_total{groupID="g"} 1.0' in text
    assert "_total_total" not in text


def test_what_never_happened_is_not_there_as_in_the_original() -> None:
    assert not [name for name in families(SfuMetrics()) if name in FAMILIES]


def test_the_process_has_its_figures_under_our_prefix() -> None:
    text = render([]).decode()
    for name in ("cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes"):
        assert f"\nrtcd_process_{name} " in text
    assert "\nrtcd_process_start_time_seconds " in text
    assert "\nrtcd_process_virtual_memory_bytes " in text
    assert "\nprocess_" not in text


def test_a_bucket_holds_what_is_at_most_its_bound() -> None:
    metrics = SfuMetrics()
    for value in (0.001, 0.002, 0.005, 5.0):
        metrics.write_time("g", "screen", value)
    _, samples = families(metrics)["rtcd_rtc_rtp_tracks_writes_time"]
    counts = {labels.get("le", name): value for name, labels, value in samples}
    assert (counts["0.001"], counts["0.005"], counts["1"], counts["+Inf"]) == (1, 3, 3, 4)
    assert counts["rtcd_rtc_rtp_tracks_writes_time_sum"] == pytest.approx(5.008)


def test_a_batch_of_writes_is_counted_in_one_go() -> None:
    metrics = SfuMetrics()
    metrics.write_times("g", "voice").observe(0.002, times=10)
    _, samples = families(metrics)["rtcd_rtc_rtp_tracks_writes_time"]
    values = {name: value for name, _, value in samples}
    assert values["rtcd_rtc_rtp_tracks_writes_time_count"] == 10
    assert values["rtcd_rtc_rtp_tracks_writes_time_sum"] == pytest.approx(0.02)


@pytest.mark.parametrize("pack", [json.dumps, msgpack.packb])
def test_snapshots_of_several_processes_add_up_after_they_were_sent(pack) -> None:
    unpack = json.loads if pack is json.dumps else msgpack.unpackb
    total = busy()
    total.merge(unpack(pack(busy().snapshot())))
    total.merge(unpack(pack(SfuMetrics().snapshot())))
    for name, (_, samples) in families(busy()).items():
        if name in ROWS:
            doubled = [(n, labels, 2 * value) for n, labels, value in samples]
            assert families(total)[name][1] == doubled


def test_of_a_process_that_has_ended_only_what_it_counted_stays() -> None:
    total = SfuMetrics()
    total.merge(busy().snapshot(), gauges=False)
    kinds = {kind for name, (kind, _) in families(total).items() if name in ROWS}
    assert kinds == {"counter", "histogram"}


def test_a_metric_that_is_not_known_is_refused() -> None:
    for snapshot in (
        {"values": {"rtcd_nothing": [[[], 1]]}, "histograms": {}},
        {"values": {}, "histograms": {"rtcd_nothing": [[["g"], [1], 1.0]]}},
        {"values": {}, "histograms": {"rtcd_rtc_client_rtt": [[["g"], [1, 2], 1.0]]}},
    ):
        with pytest.raises(ValueError, match="metric rtcd_"):
            SfuMetrics().merge(snapshot)


def test_gauges_go_down_again() -> None:
    metrics = busy()
    metrics.session_closed("g")
    metrics.track_closed("g", "in", "audio/opus")
    metrics.ws_connection_closed("c")
    metrics.call_opened("g")
    metrics.call_closed("g")
    for name, kind in ((n, k) for n, (k, _) in families(metrics).items() if n in FAMILIES):
        if kind == "gauge":
            assert [value for _, _, value in families(metrics)[name][1]] == [0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e9])
def test_nonsense_that_a_client_reports_is_not_counted(value: float) -> None:
    metrics = SfuMetrics()
    for report in (metrics.client_loss, metrics.client_rtt, metrics.client_jitter):
        report("g", value)
    assert not metrics.snapshot()["histograms"]


def test_every_metric_has_a_help_text_and_our_prefix() -> None:
    for name, family in FAMILIES.items():
        assert name.startswith(("rtcd_rtc_", "rtcd_ws_"))
        assert family.help.endswith(".")
        assert bool(family.buckets) == (family.kind == "histogram")


def test_the_processes_that_a_process_has_started_count_as_its_own() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert family_of(os.getpid())[:1] == [os.getpid()]
        assert child.pid in family_of(os.getpid())
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
        assert child.wait(25) == 0
    assert child.pid not in family_of(os.getpid())

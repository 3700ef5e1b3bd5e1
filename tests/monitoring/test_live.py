"""Every query of every panel against Debian's Prometheus, which watches a real call."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed.demo.options import DemoOptions
from testbed.demo.run import run_demo
from testbed.demo.show import Show
from testbed.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from testbed.polling import until
from testbed.ports import Ports

PLUGIN_COUNTS = (
    "websocket_connections_total > 0",
    'websocket_events_total{direction="in",type="join"} > 0',
    "jobs_live_captions_new_audio_len_ms_count > 0",
    "jobs_live_captions_window_dropped_total",
    "jobs_live_captions_transcriber_buf_full_total",
    "jobs_live_captions_pktPayloadCh_buf_full_total",
)
"""What the plugin itself serves, under its names."""
pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.alone]


@pytest.mark.timeout(240)
async def test_every_panel_shows_data_of_a_call_in_which_no_alert_fires(
    tmp_path: Path,
    prometheus: Callable[..., Any],
    queries: list[Any],
    alerts: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for panels about workers and certificates, see `test_live_alerts.py`."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setenv("JOBS_COPIESURL", f"file://{tmp_path}/copies")
    ports = Ports.free()
    options = DemoOptions(output=tmp_path / "demo", scenario="short", ports=ports)
    targets = {
        "calls-offloader": [f"127.0.0.1:{ports.offloader}"],
        "calls-sfu": [f"127.0.0.1:{ports.sfu}"],
        "calls-plugin": [f"127.0.0.1:{ports.plugin}"],
    }
    with otlp_receiver() as collector:
        monkeypatch.setenv("TRACING_OTLPENDPOINT", collector.url)
        begin = time.time()
        async with prometheus(targets) as watching:
            # It begins with its targets some seconds after its own start.
            await until(lambda: watching.over("up", begin=begin, end=time.time()), "up", limit_s=20)
            result = await run_demo(options, Show(Console(file=io.StringIO(), width=120)))
            assert [check.detail for check in result.failed] == []
            assert_traced(collector)

            async def seen(expr: str) -> list[Any]:
                return await watching.over(expr, begin=begin, end=time.time())

            asked = [query for query in queries if not query.beyond_a_call]
            empty = [query.where for query in asked if not await seen(query.expr)]
            assert not empty, "\n".join(empty)
            groups = (await watching.ask("rules"))["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts}
            assert {
                rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"
            } == {}
            for counted in PLUGIN_COUNTS:
                assert await seen(f"mattermost_plugin_calls_{counted}"), counted
            assert await seen('ALERTS{alertstate="firing"}') == [], "all is well"


def assert_traced(collector: OtlpReceiver) -> None:
    """Both jobs of the call are a trace each, from the request to the post, in which nothing failed and which
    tells of nobody."""
    in_call = {"recording": {"recording"}, "transcribing": {"listening", "transcribing"}}
    for kind, own in in_call.items():
        requests = collector.named("POST /jobs")
        assert sorted(span.attributes["calls.job.type"] for span in requests) == sorted(in_call)
        (request,) = [span for span in requests if span.attributes["calls.job.type"] == kind]
        trace = [span for span in collector.spans if span.trace_id == request.trace_id]

        def inside(parent: ReceivedSpan, trace: list[ReceivedSpan] = trace) -> set[str]:
            return {span.name for span in trace if span.parent_id == parent.span_id}

        assert inside(request) == {"admission", "launch", "start", "job", f"{kind} job"}
        job = collector.one(f"{kind} job")
        assert inside(job) == {"join", "media", "upload", "publish", *own}
        uploads = 1 if kind == "recording" else 2
        often = Counter(span.name for span in trace if span.name not in inside(request))
        assert often == {**dict.fromkeys(own, 1), "POST /jobs": 1, "join": 1, "media": 1} | {
            "upload": uploads,
            "publish": 1,
        }
        assert [(span.name, span.message) for span in trace if span.failed] == []
        assert any("calls.figure.packets_dropped" in span.attributes for span in trace) == (
            kind == "transcribing"
        )
    for secret in (b"alice", b"bob", b"://", b"password"):
        assert secret not in collector.told

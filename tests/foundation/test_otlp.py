"""Spans that go to a real receiver over HTTP, and what happens where it is slow, full or gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from foundation.otlp import OtlpTracing
from foundation.spans import (
    NO_SPAN,
    NoTracing,
    current_span,
    step,
    traceparent_or_none,
    within,
)
from foundation.tracing import check_collector, endpoint_of, open_tracing, traces_url
from testbed.otlp_receiver import OtlpReceiver, otlp_receiver

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Refused(Exception):
    """As `ApiError` is: it says which HTTP status it was."""

    status = 403


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def tracing_to(receiver: OtlpReceiver) -> OtlpTracing:
    return OtlpTracing(endpoint=traces_url(receiver.url), service="a-service")


def test_steps_arrive_as_children_of_those_around_them(receiver: OtlpReceiver) -> None:
    tracing = tracing_to(receiver)
    with within(tracing.begin("outer", attributes={"n": 1})) as outer:
        with step("inner", {"kind": "mp4"}) as inner:
            inner.note({"bytes": 17})
        assert current_span() is outer
    assert current_span() is NO_SPAN
    tracing.close(limit_s=10)
    outside, inside = receiver.one("outer"), receiver.one("inner")
    assert (outside.service, outside.parent_id, outside.attributes) == ("a-service", "", {"n": 1})
    assert (inside.trace_id, inside.parent_id) == (outside.trace_id, outside.span_id)
    assert inside.attributes == {"kind": "mp4", "bytes": 17}
    assert outside.start_ns <= inside.start_ns <= inside.end_ns <= outside.end_ns
    assert not outside.failed
    assert not inside.failed


def test_a_span_goes_on_with_another_process_s_trace_and_links_to_a_span(
    receiver: OtlpReceiver,
) -> None:
    tracing = tracing_to(receiver)
    first = tracing.begin("first", traceparent=PARENT, start_ns=1_000, serves=True)
    other = tracing.begin("other", traceparent=first.traceparent, links=[PARENT, "", "rubbish"])
    other.end()
    first.end(at_ns=3_000)
    tracing.close(limit_s=10)
    began, linked = receiver.one("first"), receiver.one("other")
    assert (began.trace_id, began.parent_id) == (TRACE, SPAN)
    assert (began.start_ns, began.end_ns) == (1_000, 3_000)
    assert (linked.trace_id, linked.parent_id, linked.links) == (TRACE, began.span_id, (SPAN,))


def test_a_failed_step_names_the_kind_of_error_and_never_its_text(receiver: OtlpReceiver) -> None:
    tracing = tracing_to(receiver)
    with within(tracing.begin("job")):
        with pytest.raises(Refused):
            with step("upload"):
                raise Refused("alice said so at https://chat.example.com?token=secret")
    tracing.close(limit_s=10)
    upload = receiver.one("upload")
    assert (upload.failed, upload.message) == (True, "Refused")
    assert upload.attributes == {"error.type": "Refused", "http.response.status_code": 403}
    assert not receiver.one("job").failed
    assert not any(text in receiver.told for text in (b"alice", b"secret"))


async def test_what_is_cancelled_is_no_failure(receiver: OtlpReceiver) -> None:
    tracing = tracing_to(receiver)

    async def work() -> None:
        with within(tracing.begin("work")):
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await asyncio.to_thread(tracing.close, limit_s=10)
    span = receiver.one("work")
    assert (span.failed, span.attributes) == (False, {"cancelled": True})


def test_a_caller_that_does_not_sample_has_nothing_traced(receiver: OtlpReceiver) -> None:
    tracing = tracing_to(receiver)
    span = tracing.begin("unwanted", traceparent=f"00-{TRACE}-{SPAN}-00")
    assert span.traceparent.startswith(f"00-{TRACE}-")
    assert span.traceparent.endswith("-00")
    span.child("inner").end()
    span.end()
    tracing.close(limit_s=10)
    assert receiver.spans == []


def test_a_collector_that_never_answers_holds_up_nobody(receiver: OtlpReceiver) -> None:
    receiver.silent = threading.Event()
    tracing = tracing_to(receiver)
    for _ in range(3000):  # more than the queue holds
        tracing.begin("span").end()
    assert tracing.dropped >= 3000 - 2048 - 512  # one batch may be on its way
    began_s = time.monotonic()
    tracing.close(limit_s=0.3)
    assert time.monotonic() - began_s < 10  # of the SDK's own thirty seconds; the limit is 0.3
    assert receiver.spans == []


@pytest.mark.parametrize("status", [400, 404, 413])
def test_what_a_collector_refuses_is_counted(receiver: OtlpReceiver, status: int) -> None:
    receiver.answer = status
    tracing = tracing_to(receiver)
    tracing.begin("one").end()
    tracing.begin("two").end()
    tracing.close(limit_s=10)
    assert tracing.dropped == 2


def test_a_collector_that_is_gone_costs_its_spans_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    with otlp_receiver() as receiver:
        tracing = tracing_to(receiver)
    tracing.begin("span").end()
    tracing.close(limit_s=20)
    assert tracing.dropped == 1


def test_keys_go_along_by_the_standard_variable(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    tracing = tracing_to(receiver)
    tracing.begin("span").end()
    tracing.close(limit_s=10)
    assert receiver.headers[0]["x-key"] == "secret"


def test_without_a_collector_nothing_is_imported_and_nothing_kept() -> None:
    code = (
        "import sys\n"
        "from foundation.spans import step\n"
        "from foundation.tracing import open_tracing\n"
        "open_tracing('', service='x').begin('a').child('b').end()\n"
        "with step('c') as span: assert span.traceparent == ''\n"
        "print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_wrong_standard_variable_switches_tracing_off_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    opened = open_tracing("http://127.0.0.1:1/v1/traces", service="x")
    assert isinstance(opened, NoTracing)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/x/"}, "http://c:4318/x/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/t"}, "http://c/t"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_the_standard_variables_say_where_the_collector_is(
    environ: dict[str, str], url: str
) -> None:
    assert endpoint_of(environ) == url


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://c", "http://", "http://u:p@c", "http://c?key=s", "http://c:0"]
)
def test_what_is_no_collector_s_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="should be the URL of an OTLP collector") as refused:
        check_collector(url)
    assert "p@c" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (PARENT, True),
        (PARENT.upper(), False),
        (f"01-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"{PARENT}\n", False),
        (17, False),
        (None, False),
    ],
)
def test_only_a_whole_traceparent_is_taken(text: object, good: bool) -> None:
    assert traceparent_or_none(text) == (text if good else "")


def test_what_a_collector_answers_is_in_no_log(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = 400
    tracing = tracing_to(receiver)
    tracing.begin("x").end()
    tracing.close(limit_s=10)
    assert tracing.dropped == 1
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []

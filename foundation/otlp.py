"""Sends spans to a collector by OTLP over HTTP, with OpenTelemetry's own packages.

A thread of its own sends; whoever makes spans only puts them into a queue that drops the oldest. A collector
that is slow, full or gone costs its spans, which are counted, and nothing else. The standard variables
(OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER*, OTEL_RESOURCE_ATTRIBUTES) mean what OpenTelemetry says.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan

from foundation.logs import get_logger
from foundation.spans import Attributes, Span, traceparent_or_none
from foundation.version import build_version

_QUEUE_SPANS: Final = 2048
_TIMEOUT_S: Final = 5.0
"""For one request with its retries, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise."""
_COMPLAIN_EVERY_S: Final = 60.0

_log = get_logger(component="tracing")


class OtlpTracing:
    """See `foundation.spans.Tracing`."""

    def __init__(self, *, endpoint: str, service: str, ca_file: str = "") -> None:
        """`endpoint`: the whole URL of the collector's traces. `ca_file`: a private CA, unless the standard
        variable names one."""
        # It would tell what the collector answered, word by word.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        own_timeout = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"}
        own_ca = {"OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"}
        exporter = OTLPSpanExporter(
            endpoint=endpoint,
            timeout=None if own_timeout & os.environ.keys() else _TIMEOUT_S,
            certificate_file=None if own_ca & os.environ.keys() else ca_file or None,
        )
        self._sending = _Counted(exporter)
        self._queue = _Queue(self._sending)
        provider = TracerProvider(
            resource=Resource.create({"service.name": service, "service.version": build_version()}),
            shutdown_on_exit=False,  # it would wait half a minute for a collector that is gone
        )
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer("calls-native-offloader", build_version())

    @property
    def dropped(self) -> int:
        return self._queue.overflown + self._sending.failed

    def begin(
        self,
        name: str,
        *,
        traceparent: str = "",
        links: Sequence[str] = (),
        start_ns: int | None = None,
        serves: bool = False,
        attributes: Attributes | None = None,
    ) -> Span:
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(NonRecordingSpan(_context(traceparent))),
            kind=SpanKind.SERVER if serves else SpanKind.INTERNAL,
            attributes=attributes,
            links=[Link(_context(link)) for link in links if traceparent_or_none(link)],
            start_time=start_ns,
        )
        return _OtlpSpan(self._tracer, span)

    def close(self, *, limit_s: float) -> None:
        # In a thread: the processor itself would wait for half a minute.
        closing = threading.Thread(target=self._queue.shutdown, name="spans-close", daemon=True)
        closing.start()
        closing.join(limit_s)
        dropped = self._queue.ended - self._sending.sent
        log = _log.warning if dropped else _log.debug
        log("tracing.closed", sent=self._sending.sent, dropped=dropped)


class _OtlpSpan:
    """See `foundation.spans.Span`."""

    def __init__(self, tracer: Tracer, span: SdkSpan) -> None:
        self._tracer = tracer
        self._span = span
        self._ended = False

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(
        self, name: str, attributes: Attributes | None = None, *, start_ns: int | None = None
    ) -> Span:
        inside = set_span_in_context(self._span)
        span = self._tracer.start_span(
            name, context=inside, attributes=attributes, start_time=start_ns
        )
        return _OtlpSpan(self._tracer, span)

    def note(self, attributes: Attributes) -> None:
        if not self._ended:
            self._span.set_attributes(attributes)

    def failed(self, reason: str) -> None:
        if not self._ended:
            self._span.set_attribute("error.type", reason)
            self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self, *, at_ns: int | None = None) -> None:
        if not self._ended:
            self._ended = True
            self._span.end(at_ns)


class _Counted(SpanExporter):
    """Counts what arrives and what does not, and says so once a minute."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._complained_s = -_COMPLAIN_EVERY_S
        self.taken = 0
        """Spans that have left the queue."""
        self.sent = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
            return result
        self.failed += len(spans)
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            _log.warning("tracing.not_sent", spans=len(spans), dropped=self.failed)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _Queue(BatchSpanProcessor):
    """Bounded: the oldest span goes when there is no room."""

    def __init__(self, exporter: _Counted) -> None:
        super().__init__(exporter, max_queue_size=_QUEUE_SPANS, schedule_delay_millis=1000)
        self._taken_by = exporter
        self.ended = 0
        self.overflown = 0

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags.sampled:
            waiting = self.ended - self.overflown - self._taken_by.taken
            self.overflown += waiting >= _QUEUE_SPANS
            self.ended += 1
        super().on_end(span)


def _context(traceparent: str) -> SpanContext:
    """Of a span in another process; of none where the text names none."""
    if not traceparent_or_none(traceparent):
        return INVALID_SPAN_CONTEXT
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )

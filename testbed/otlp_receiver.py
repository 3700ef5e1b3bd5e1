"""A collector of traces for tests: takes OTLP over HTTP and decodes it by the official schema."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

PATH: Final = "/v1/traces"
_ERROR: Final = 2
"""`STATUS_CODE_ERROR` of the schema."""


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span, its IDs in hexadecimal digits."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it has none."""
    links: tuple[str, ...]
    """Span IDs."""
    start_ns: int
    end_ns: int
    failed: bool
    message: str
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class OtlpReceiver:
    """What has come so far."""

    url: str
    """As `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    """Of every request."""
    told: bytes = b""
    """All that was sent but times and IDs, in whose bytes any short word turns up by chance."""
    answer: int = 200
    """The status of the next answers."""
    silent: threading.Event | None = None
    """While it is there and not set, requests get no answer."""

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str, *, service: str = "") -> ReceivedSpan:
        """Raises ValueError unless there is exactly one."""
        (span,) = [s for s in self.named(name) if service in ("", s.service)]
        return span


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver on loopback while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.headers.append(dict(self.headers.items()))
            if receiver.silent is not None:
                receiver.silent.wait(20)
            status = receiver.answer if self.path == PATH else 404
            if status == 200:
                request = ExportTraceServiceRequest.FromString(body)
                receiver.spans += _spans(request)
                receiver.told += _without_chance(request)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        if receiver.silent is not None:
            receiver.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_process in request.resource_spans:
        known = {entry.key: _value(entry.value) for entry in of_process.resource.attributes}
        for scope in of_process.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    service=str(known.get("service.name", "")),
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=tuple(link.span_id.hex() for link in span.links),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    failed=span.status.code == _ERROR,
                    message=span.status.message,
                    attributes={entry.key: _value(entry.value) for entry in span.attributes},
                )


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


def _without_chance(request: ExportTraceServiceRequest) -> bytes:
    rest = ExportTraceServiceRequest()
    rest.CopyFrom(request)
    for of_process in rest.resource_spans:
        for span in (span for scope in of_process.scope_spans for span in scope.spans):
            by_chance = {"trace_id", "span_id", "parent_span_id", "time_unix_nano"}
            by_chance |= {"start_time_unix_nano", "end_time_unix_nano"}
            for part in (span, *span.links, *span.events):
                for name in by_chance & set(part.DESCRIPTOR.fields_by_name):
                    part.ClearField(name)
    rest_bytes: bytes = rest.SerializeToString()
    return rest_bytes

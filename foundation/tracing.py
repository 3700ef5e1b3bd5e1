"""Whether there is a collector for traces, by OpenTelemetry's own variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from foundation.logs import get_logger
from foundation.spans import NoTracing, Tracing

TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PATH: Final = "v1/traces"

_log = get_logger(component="tracing")


def traces_url(base_url: str) -> str:
    """Where a collector at `base_url` takes traces (OTLP specification, *OTLP/HTTP request*)."""
    return f"{base_url.rstrip('/')}/{_PATH}" if base_url else ""


def check_collector(url: str) -> str:
    """`url`, which may be empty, if it can be a collector's.

    Raises:
        ValueError: another form; the value is not shown, since it may hold a password.
    """
    wanted = "should be the URL of an OTLP collector over HTTP, such as http://collector:4318; keys go into "
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if url and (not usable or parts.username is not None or parts.query or parts.fragment):
        raise ValueError(f"{wanted}OTEL_EXPORTER_OTLP_HEADERS")
    return url


def endpoint_of(environ: Mapping[str, str]) -> str:
    """The whole URL that traces go to; empty: nowhere."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return ""
    return environ.get(TRACES_ENDPOINT, "") or traces_url(environ.get(ENDPOINT, ""))


def open_tracing(endpoint: str, *, service: str, ca_file: str = "") -> Tracing:
    """To `endpoint`, a whole URL; nothing is imported where it is empty. `service`: what spans are said to be
    from. What cannot be used is a warning: whoever traces does so for others."""
    if not endpoint:
        return NoTracing()
    try:
        from foundation.otlp import OtlpTracing

        return OtlpTracing(endpoint=endpoint, service=service, ca_file=ca_file)
    except Exception as error:  # noqa: BLE001 - a wrong OTEL_* variable, whatever its error; work goes on
        _log.warning("tracing.off", reason=type(error).__name__)
        return NoTracing()

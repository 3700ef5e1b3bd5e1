"""The traces of a job's own process (docs/tracing.md): off unless the environment names a collector."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from foundation.spans import Span, within
from foundation.tracing import endpoint_of, open_tracing
from jobs.job_directory import span_of
from jobs.settings import JobSettings

RESCUE_BEGAN: Final = "RESCUE_BEGAN_NS"
"""By `rescue` to the `salvage` that it calls: since when it has been at it, ns since the epoch."""
_NS: Final = re.compile(r"[0-9]{1,19}")
_CLOSE_S: Final = 2.0
"""So long an ended job waits for a collector."""


@contextmanager
def traced_job(settings: JobSettings, *, job_type: str) -> Iterator[Span]:
    """The span of a job that runs, as the current one; sent when the block is left."""
    with _traced(settings, f"{job_type} job", service=_service(job_type)) as span:
        yield span


@contextmanager
def traced_salvage(
    settings: JobSettings, directory: Path, environ: Mapping[str, str], *, job_type: str
) -> Iterator[Span]:
    """The span of whoever finishes a dead job: part of the job's trace, and linked to the dead one's span."""
    # A client can set any variable of its job: what is no time must not keep the files from being published.
    began = _NS.fullmatch(environ.get(RESCUE_BEGAN, ""))
    with _traced(
        settings,
        "rescue" if began else "salvage",
        service=_service(job_type),
        link=span_of(directory),
        start_ns=int(began[0]) if began else None,
    ) as span:
        yield span


def figures(values: Mapping[str, int | float]) -> dict[str, int | float]:
    """What a job counts, as attributes of a span."""
    return {f"calls.figure.{name}": value for name, value in values.items()}


def rescue_environment(environ: Mapping[str, str], *, began_ns: int) -> dict[str, str]:
    """`environ` for the `salvage` of a rescue that began at `began_ns` since the epoch."""
    return {**environ, RESCUE_BEGAN: str(began_ns)}


def now_ns() -> int:
    """The wall clock, ns since the epoch: the clock of spans."""
    return time.time_ns()


@contextmanager
def _traced(
    settings: JobSettings, name: str, *, service: str, link: str = "", start_ns: int | None = None
) -> Iterator[Span]:
    tracing = open_tracing(
        endpoint_of(os.environ),
        service=service,
        ca_file=str(settings.ca_file) if settings.ca_file else "",
    )
    span = tracing.begin(
        name,
        traceparent=settings.traceparent,
        links=[link],
        start_ns=start_ns,
        attributes={"calls.plugin_job.id": settings.job_id},
    )
    try:
        with within(span):
            yield span
    finally:
        tracing.close(limit_s=_CLOSE_S)


def _service(job_type: str) -> str:
    return "calls-recorder" if job_type == "recording" else "calls-transcriber"

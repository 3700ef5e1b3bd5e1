"""What a support bundle asks the running service for: its state, its metrics, its last failed jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

FAILED_JOBS: Final = 20
LOGS: Final = 5
_PAGES: Final = 5
_PAGE: Final = "100"
LOG_TAIL_BYTES: Final = 128 * 1024
_METRICS_BYTES: Final = 4 << 20
_INPUTS: Final = frozenset(
    {
        *("site_url", "call_id", "post_id", "recording_id", "transcription_id"),
        *("width", "height", "video_rate", "audio_rate", "frame_rate", "video_preset"),
        *("output_format", "transcribe_api", "model_size", "num_threads", "webvtt_omit_speaker"),
        *("live_captions_on", "live_captions_model_size", "live_captions_language"),
        *("live_captions_num_transcribers", "live_captions_num_threads_per_transcriber"),
        *("text_compact_silence_threshold_ms", "text_compact_max_segment_duration_ms"),
        *("layout", "artifacts", "quality", "languages", "ice_transport"),
    }
)
"""Of a job's input only these: what else an admin passes to jobs is nobody else's business."""
_IDS: Final = ("call_id", "post_id", "recording_id", "transcription_id")


class Service(Protocol):
    """How the running service is asked (offloader.cli.requests)."""

    def get(self, *path: str, query: Mapping[str, str | None] | None = None) -> Any: ...

    def stream(
        self, *path: str, query: Mapping[str, str | None] | None = None, patient: bool = False
    ) -> AbstractContextManager[Iterator[bytes]]: ...


def state(service: Service) -> dict[str, Any]:
    """Status and capacity."""
    return {"status": service.get("admin", "status"), "capacity": service.get("capacity")}


def metrics(service: Service) -> str:
    """As Prometheus reads them."""
    with service.stream("metrics") as chunks:
        return _last(chunks, _METRICS_BYTES)


def failed_jobs(service: Service) -> list[dict[str, Any]]:
    """The newest ones that failed or left something unpublished; inputs by the list above."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = service.get("jobs", query={"limit": _PAGE, "before": cursor})
        found += [job for job in page["jobs"] if job.get("failure") or job.get("unpublished")]
        cursor = page["next"]
        if cursor is None or len(found) >= FAILED_JOBS:
            break
    return [_narrowed(job) for job in found[:FAILED_JOBS]]


def with_details(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """The same with its last log lines and all evidence; it may be gone meanwhile."""
    return _narrowed(service.get("jobs", job["id"], query={"details": "1"}))


def job_log(service: Service, job_id: str) -> str:
    """Its newest part."""
    with service.stream("jobs", job_id, "logs") as chunks:
        return _last(chunks, LOG_TAIL_BYTES)


def readable_ids(jobs: list[dict[str, Any]]) -> Iterator[str]:
    """By which people look for these jobs: their own, their calls', posts' and recordings'."""
    for job in jobs:
        yield str(job["id"])
        yield from (str(value) for key, value in job["input_data"].items() if key in _IDS)


def _narrowed(job: dict[str, Any]) -> dict[str, Any]:
    given = job.get("input_data") or {}
    kept = {key: value for key, value in given.items() if key.lower() in _INPUTS}
    left_out = sorted(set(given) - set(kept))
    return {**job, "input_data": kept, "input_keys_left_out": left_out, "client_id": ""}


def _last(chunks: Iterator[bytes], limit: int) -> str:
    """Everything is read, and the end of it kept."""
    data = b""
    cut = False
    for chunk in chunks:
        data += chunk
        if len(data) > 2 * limit:
            data, cut = data[-limit:], True
    if len(data) > limit:
        data, cut = data[-limit:], True
    text = data.decode(errors="replace")
    return text.partition("\n")[2] if cut else text

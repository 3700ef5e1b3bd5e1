"""What a receiver is told of a job, and how it knows that it was us. Pure.

IDs and states only: no name, address, token or text of anybody.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from offloader.models import Job

EVENT_TYPE: Final = "job.state_changed"
TIMESTAMP: Final = "X-Offloader-Timestamp"
EVENT_ID: Final = "X-Offloader-Event-Id"
SIGNATURE: Final = "X-Offloader-Signature"


def is_told(before: Job | None, after: Job) -> bool:
    """Whether the change is one of the job's state; None: it is new."""
    return before is None or before.state is not after.state


def event_body(job: Job, event_id: str, at_ms: int) -> str:
    """The JSON of an event about what the job is now; `at_ms`: when that came to be, since the epoch."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)
    return json.dumps(
        {
            "event_id": event_id,
            "type": EVENT_TYPE,
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "job_id": job.id,
            "job_type": job.spec.type.value,
            "state": job.state.value,
            "stop_reason": job.stop_reason and job.stop_reason.value,
        },
        separators=(",", ":"),
    )


def signed_headers(body: str, *, event_id: str, secret: bytes, now: datetime) -> Mapping[str, str]:
    """The headers of one attempt: HMAC-SHA256 over its time (seconds since the epoch), a dot, and the body.
    The time is the attempt's, so that a receiver can refuse old ones; the ID stays, so that it knows them."""
    timestamp = str(int(now.timestamp()))
    digest = hmac.new(secret, f"{timestamp}.{body}".encode(), "sha256").hexdigest()
    return {TIMESTAMP: timestamp, EVENT_ID: event_id, SIGNATURE: f"v1={digest}"}

"""When a recording begins and ends, by what the server told and what this host's clock says of it.

The server's clock may jump, or be told late: a time that cannot be true is not believed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from callclient.events import CallEvent, JobKind, JobStateChanged

_TOLERANCE_NS: Final = 5_000_000_000
"""An `end_at` farther from now than this is not the end of our recording, or a clock has jumped; a `start_at`
later than that has not come about by our report."""
_START_TOLERANCE_NS: Final = 30_000_000_000
"""So long ago the report may have arrived: longer than it is tried."""


def believed_start(start_ms: int, *, told_ns: int, reported_ns: int) -> tuple[int, datetime] | None:
    """The recording's start on the monotonic clock, ns, and in UTC; None: it cannot be.

    `start_ms` is the server's `start_at`, `told_ns` the same on this host's clock, `reported_ns` the moment
    in which `started` was reported.
    """
    if not -_START_TOLERANCE_NS < told_ns - reported_ns < _TOLERANCE_NS:
        return None
    return told_ns, datetime.fromtimestamp(start_ms / 1000, UTC)


def believed_end_ns(told_ns: int, *, now_ns: int) -> int:
    """The recording's end on the monotonic clock, ns: as it was told, or now."""
    return told_ns if abs(told_ns - now_ns) < _TOLERANCE_NS else now_ns


def is_end(event: CallEvent) -> bool:
    """Has the host stopped the recording?

    An end with an error is told when the transcription could not be started; the recording's row stays open
    then and its job runs on (calls-plugin.md 6.7).
    """
    return (
        isinstance(event, JobStateChanged)
        and event.kind is JobKind.RECORDING
        and event.end_at_ms > 0
        and not event.error
    )

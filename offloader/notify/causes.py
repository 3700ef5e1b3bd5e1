"""What an admin is told of, from what is known of the service; pure.

The thresholds are those of the alerts (docs/monitoring.md), so that both say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from offloader.condition import Capacity


class Cause(StrEnum):
    """Why a line is written; at most one for each in an hour."""

    RECORDING_FAILED = "recording_failed"
    TRANSCRIPTION_FAILED = "transcription_failed"
    RESULT_WAITS = "result_waits"
    NO_CAPACITY = "no_capacity"
    DISK_LOW = "disk_low"
    CERTIFICATE_ENDS = "certificate_ends"
    WORKER_LOST = "worker_lost"
    BACKEND_UNREACHABLE = "backend_unreachable"
    DATABASE_UNREACHABLE = "database_unreachable"
    WELL_AGAIN = "well_again"


WAITS_AFTER: Final = timedelta(minutes=15)
CERTIFICATE_SOON: Final = timedelta(days=14)
PATIENCE: Final[Mapping[Cause, timedelta]] = {
    Cause.NO_CAPACITY: timedelta(minutes=5),
    Cause.DISK_LOW: timedelta(minutes=5),
    Cause.BACKEND_UNREACHABLE: timedelta(minutes=2),
    Cause.DATABASE_UNREACHABLE: timedelta(minutes=2),
}
"""How long a state lasts before it is told; others are told at once."""
_NO_BACKEND: Final = "what runs the jobs cannot be used; nobody gets a recording."


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the service has found."""

    capacity: Capacity | None = None
    """None: nobody could tell: because of `backend_fault`, or else of the database."""
    backend_fault: str = ""
    workers: Mapping[str, bool] = field(default_factory=dict)
    oldest_result: timedelta = timedelta(0)
    certificate_end: datetime | None = None


def troubles(look: Look, *, now: datetime) -> dict[Cause, str]:
    """Every state that is bad now, with a sentence about it; without names, reasons or addresses."""
    if look.capacity is None:
        if look.backend_fault:
            return {Cause.BACKEND_UNREACHABLE: _NO_BACKEND}
        return {Cause.DATABASE_UNREACHABLE: "the database cannot be used; nobody gets a recording."}
    found: dict[Cause, str] = {}
    if look.oldest_result > WAITS_AFTER:
        text = "a recording or transcript has not been published for {} minutes; it is kept and tried again."
        found[Cause.RESULT_WAITS] = text.format(look.oldest_result // timedelta(minutes=1))
    lost = sum(not there for there in look.workers.values())
    if lost:
        text = "{} of {} workers cannot be reached; their jobs and places are missing."
        found[Cause.WORKER_LOST] = text.format(lost, len(look.workers))
    if look.backend_fault:
        found[Cause.BACKEND_UNREACHABLE] = _NO_BACKEND
    elif look.capacity.free == 0 and not look.capacity.draining:
        text = "there is no place for a further recording ({} in use); whoever presses record is refused."
        found[Cause.NO_CAPACITY] = text.format(look.capacity.calls_in_progress)
    free, least = look.capacity.tightest_disk_bytes, look.capacity.min_free_disk_bytes
    if free is not None and least is not None and free < 2 * least:
        text = "the disk of the jobs has {:.1f} GiB left; below {:.1f} GiB no recording is started."
        found[Cause.DISK_LOW] = text.format(free / 2**30, least / 2**30)
    if look.certificate_end is not None and look.certificate_end - now < CERTIFICATE_SOON:
        days = max((look.certificate_end - now) // timedelta(days=1), 0)
        text = "its TLS certificate ends in {} days; then the Calls plugin cannot reach it."
        found[Cause.CERTIFICATE_ENDS] = text.format(days)
    return found

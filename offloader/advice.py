"""What an admin should do about a job, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from offloader.models import Job, Publication, StopReason

_AFTER: Final[Mapping[StopReason, str]] = {
    StopReason.CRASHED: "read the last log lines; what was recorded is published where there is anything",
    StopReason.START_FAILED: "see `detail`: it never ran, so put that right and start the recording again",
    StopReason.LOST: "see whether the host or the container engine was restarted, or ran out of memory",
    StopReason.MAX_DURATION: "raise the plugin's maximum recording duration if calls last longer",
}
_OF_PUBLICATION: Final[Mapping[Publication, str]] = {
    Publication.WAITING: "wait, or start a recording on the same site, which brings a fresh token; "
    "to try now: POST /jobs/{id}/republish",
    Publication.RUNNING: "wait: an attempt to publish is under way",
    Publication.UNPUBLISHABLE: "fetch the files by GET /jobs/{id}/artifacts and post them by hand, "
    "or try again by POST /jobs/{id}/republish",
}


def next_step(job: Job) -> str:
    """Empty when there is nothing to do."""
    if job.live or job.stop_reason is None:
        return ""
    if job.unpublished:
        publication = job.outbox.publication if job.outbox else Publication.WAITING
        return _OF_PUBLICATION.get(publication, "").replace("{id}", job.id)
    return _AFTER.get(job.stop_reason, "")

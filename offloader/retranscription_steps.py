"""How a wish to transcribe kept audio again goes on, and what its run tells of itself. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from offloader.backends.base import Observation
from offloader.errors import NotRetranscribable
from offloader.models import Job, Retranscription, RetranscriptionState, Workload


def folder_of(job: Job) -> str:
    """Where the files of the newest wish are, as the names of artifacts begin."""
    if job.retranscription is None:
        return ""
    result = str(job.spec.input_data.get("transcription_id") or "")
    return f"{result}/artifacts/{job.retranscription.name}/"


def asked(job: Job, *, wanted: Retranscription) -> Job:
    """The wish is kept. Raises NotRetranscribable: another one is under way."""
    present = job.retranscription
    if present is not None and present.under_way:  # somebody else was faster
        if (present.name, present.publish) == (wanted.name, wanted.publish):
            return job
        raise NotRetranscribable(f"job {job.id} is being transcribed again already")
    return replace(job, retranscription=wanted)


def _same(job: Job, seen: Retranscription) -> Retranscription | None:
    """The wish as it is, when it is the one that was `seen`, and as far as then; a stop may have come."""
    present = job.retranscription
    if present is None or replace(present, stop=seen.stop) != seen:
        return None
    return present


def started(job: Job, *, wish: Retranscription, workload: Workload) -> Job:
    """`wish`, as it was seen, runs; a job whose wish has moved on meanwhile is left as it is."""
    present = _same(job, wish)
    if present is None:
        return job
    running = replace(present, state=RetranscriptionState.RUNNING, workload=workload)
    return replace(job, retranscription=running)


def ended(
    job: Job,
    *,
    wish: Retranscription,
    state: RetranscriptionState,
    detail: str,
    exit_code: int | None,
    now: datetime,
) -> Job:
    """`wish`, as it was seen, has ended; a job whose wish has moved on meanwhile is left as it is."""
    present = _same(job, wish)
    if present is None:
        return job
    ended = replace(present, state=state, ended_at=now, exit_code=exit_code, detail=detail)
    return replace(job, retranscription=ended)


def told(log_tail: bytes, *, publish: bool) -> str:
    """What is to be said about one that ended well; often nothing."""
    line = _last_line(log_tail, "retranscription.done")
    if line.get("segments") == 0:
        return "nobody says anything in the kept audio"
    found = []
    if inaudible := line.get("inaudible"):
        found.append(f"{inaudible} pieces are [inaudible]: transcript.json says why")
    if publish and line.get("certain") is False:
        found.append("its post may exist already: look into the channel")
    return "; ".join(found)


def reason(log_tail: bytes, observation: Observation) -> str:
    """Why one failed."""
    told = str(_last_line(log_tail, "retranscription.failed").get("reason") or "")[:500]
    if told or observation.detail:
        return told or observation.detail
    code = observation.exit_code
    return "its process is lost" if code is None else f"it ended with code {code}"


def _last_line(log_tail: bytes, event: str) -> Mapping[str, object]:
    for line in reversed(log_tail.splitlines()):
        if event.encode() in line:
            try:
                document = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(document, dict) and document.get("event") == event:
                return document
    return {}

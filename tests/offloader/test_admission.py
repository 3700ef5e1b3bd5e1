from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest

from offloader.admission import admits, calls_in_progress
from offloader.models import Job, JobSpec, JobState, JobType

_ids = count()


def job(short: str, client: str = "client") -> Job:
    """`r1` is a recording of call 1, `t2` a transcription of call 2."""
    job_type = JobType.RECORDING if short[0] == "r" else JobType.TRANSCRIBING
    spec = JobSpec(job_type, "runner", 60, {"call_id": short[1:], "post_id": "p"})
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Job(f"{next(_ids):012x}", client, spec, moment, state=JobState.RUNNING)


@pytest.mark.parametrize(
    ("live", "calls"),
    [
        ("", 0),
        ("r1", 1),
        ("r1 t1", 1),
        ("t1", 1),
        ("r1 t1 r2", 2),
        ("r1 r1 t1", 2),
        ("r1 r1 t1 t1", 2),
        ("r1 t2", 2),
    ],
)
def test_a_recording_and_its_transcription_are_one_call(live: str, calls: int) -> None:
    assert calls_in_progress(job(short) for short in live.split()) == calls


@pytest.mark.parametrize(
    ("live", "candidate", "limit", "fits"),
    [
        ("", "r1", 1, True),
        ("r1", "r2", 1, False),
        ("r1", "r2", 2, True),
        ("r1", "t1", 1, True),
        ("r1 r2", "t2", 1, True),  # the limit was lowered meanwhile: the sibling is still admitted
        ("r1", "r1", 1, False),
        ("r1 t1", "t1", 1, False),
        ("t1", "r1", 1, True),
    ],
)
def test_the_sibling_of_an_admitted_job_is_never_refused(
    live: str, candidate: str, limit: int, fits: bool
) -> None:
    assert admits([job(short) for short in live.split()], job(candidate), limit=limit) is fits


def test_another_clients_job_for_the_same_ids_is_no_sibling() -> None:
    assert not admits([job("r1")], job("t1", client="other"), limit=1)

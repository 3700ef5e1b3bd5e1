"""Of each failure stage, cause, evidence and next step are told, by what the record and the log have."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from offloader.backends.base import Observation, Phase
from offloader.failure_log import in_its_own_words, newest_error
from offloader.failures import STAGES, failure_line, failure_of, refusal_of
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    StopReason,
)

NOW = datetime(2026, 1, 31, 10, tzinfo=UTC)
RECORDING = JobSpec(JobType.RECORDING, "runner", 60, {})
ENDED = Job(
    "abcdef012345",
    "plugin",
    RECORDING,
    NOW,
    state=JobState.FINISHED,
    stop_reason=StopReason.COMPLETED,
    stopped_at=NOW,
    exit_code=0,
)
NEVER_BEGAN = {"figures": {"start_failed": 1.0}}
CRASHED = {"stop_reason": StopReason.CRASHED, "exit_code": 1}
NO_START = {"stop_reason": StopReason.START_FAILED, "exit_code": None}
UNPUBLISHED = {"exit_code": 1, "unpublished": True, "post_call": True}


@pytest.mark.parametrize(
    ("changes", "detail", "stage", "cause", "step"),
    [
        (NO_START, "docker: No such image: x/calls-recorder:v1", "launch", "image", "load or pull"),
        (NO_START, "docker: image x is not on the engine: y", "launch", "image", "load or pull"),
        (NO_START, "its image cannot be pulled (x): y", "launch", "image", "load or pull"),
        (NO_START, "not started: check the image and its command", "launch", "not be", "see"),
        (NO_START, "docker: permission denied", "launch", "may not", "right"),
        (NO_START, "who knows", "launch", "could not be started", "see `detail`"),
        (NEVER_BEGAN, "an address that no job connects to", "join", "may not", "allowed_site_urls"),
        (NEVER_BEGAN, "the call is on LiveKit (livekit_url is set)", "join", "LiveKit", "rtcd"),
        (NEVER_BEGAN, "no media within 10 s; pairs tried: a", "media", "SFU", "8443"),
        (NEVER_BEGAN, "the name of https://x does not resolve", "join", "unknown", "DNS"),
        (NEVER_BEGAN, "the server answered with HTTP 401", "join", "token", "fresh token"),
        (NEVER_BEGAN, "the server answered with HTTP 502", "join", "error", "Mattermost's log"),
        (NEVER_BEGAN, "certificate is not trusted", "join", "trust", "ca_cert_file"),
        (
            NEVER_BEGAN,
            "the call could not be joined: the call is full",
            "join",
            "refused",
            "reason",
        ),
        (NEVER_BEGAN, "", "join", "could not take part", "start the recording again"),
        (CRASHED, "no model 'base' in /models", "transcription", "speech model", "models'"),
        (
            CRASHED | {"exit_code": 137},
            "ended by signal 9",
            "recording",
            "most often because memory ran out",
            "kernel's log",
        ),
        (CRASHED, "killed: it needed more memory than 2 MiB", "recording", "memory ran", "model"),
        (CRASHED, "", "recording", "ended with an error", "last log lines"),
        (UNPUBLISHED, "POST upload: refused with HTTP 413", "upload", "takes less", "republish"),
        (UNPUBLISHED, "x: refused with HTTP 401", "publication", "token", "fresh token"),
        (UNPUBLISHED, "x: refused with HTTP 403", "publication", "not permit", "licence"),
        (UNPUBLISHED | {"exit_code": 0}, "", "publication", "tried again", "republish"),
        ({"stop_reason": StopReason.LOST, "exit_code": None}, "", "host", "gone", "restarted"),
        ({"stop_reason": StopReason.MAX_DURATION}, "", "recording", "longest", "maximum"),
        (
            {"stop_reason": StopReason.REQUESTED, "exit_code": 137},
            "killed: it did not end within the grace",
            "recording",
            "longer to end",
            "stop_grace_s",
        ),
    ],
)
def test_a_failure_has_its_stage_its_cause_and_what_to_do(
    changes: dict[str, Any], detail: str, stage: str, cause: str, step: str
) -> None:
    failure = failure_of(replace(ENDED, detail=detail, **changes))
    assert failure is not None
    assert (failure.stage, cause in failure.cause, step in failure.next_step) == (
        stage,
        True,
        True,
    ), failure
    assert failure.stage in STAGES
    assert "{id}" not in failure.next_step


def test_what_lives_and_what_ended_well_has_none() -> None:
    assert failure_of(ENDED) is None
    assert failure_of(replace(ENDED, state=JobState.RUNNING, stop_reason=None)) is None
    assert failure_of(replace(ENDED, stop_reason=StopReason.REQUESTED)) is None


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"stop_reason": StopReason.LOST, "exit_code": None}, "host"),
        ({"stop_reason": StopReason.MAX_DURATION}, "recording"),
        ({"unpublished": True}, "publication"),
    ],
)
def test_an_error_that_a_job_may_have_got_over_is_evidence_and_no_cause(
    changes: dict[str, Any], stage: str
) -> None:
    failure = failure_of(replace(ENDED, **changes), said="x: refused with HTTP 413")
    assert failure is not None
    assert (failure.stage, failure.evidence["log"]) == (stage, "x: refused with HTTP 413")


def test_what_is_not_tried_any_more_is_for_somebodys_hands() -> None:
    entry = OutboxEntry(Publication.UNPUBLISHABLE, attempts=3, detail="its channel or post is gone")
    failure = failure_of(replace(ENDED, unpublished=True, outbox=entry))
    assert failure is not None
    assert failure.stage == "publication"
    assert "/jobs/abcdef012345/artifacts" in failure.next_step
    assert failure.evidence["publication"] == "its channel or post is gone"
    assert failure.evidence["publication_attempts"] == 3


def test_the_evidence_has_pairs_and_statuses_by_name() -> None:
    detail = "no media within 10 s; pairs tried: a → b failed; c → d refused; relays: none"
    failure = failure_of(replace(ENDED, detail=detail, **NEVER_BEGAN))
    assert failure is not None
    assert failure.evidence == {
        "stop_reason": "completed",
        "exit_code": 0,
        "detail": "no media within 10 s",
        "candidate_pairs": ["a → b failed", "c → d refused"],
        "relays": ["none"],
    }
    refused = failure_of(replace(ENDED, detail="x: refused with HTTP 503", **CRASHED))
    assert refused is not None
    assert refused.evidence["http_status"] == 503


def test_the_newest_error_of_a_log_is_what_it_died_of() -> None:
    lines = [
        {"event": "x", "level": "error", "reason": "an older one"},
        {"event": "job.failed", "level": "error", "exception": _TRACE},
        {"event": "metrics", "level": "info", "error": 1},
    ]
    log = b"\n".join(json.dumps(line).encode() for line in lines) + b'\n{"level": "error", "cut'
    assert newest_error(log) == "POST upload: refused with HTTP 413"
    assert newest_error(b'{"event": "engine.given_up", "level": "error"}\n') == "engine.given_up"
    assert newest_error(b"") == ""
    assert len(newest_error(json.dumps({"level": "error", "reason": "x" * 9999}).encode())) == 1000


_TRACE = """Traceback (most recent call last):
  File "x.py", line 1, in f
callclient.plugin_api.ApiError: POST upload: refused with HTTP 413"""


def test_only_an_end_that_was_not_clean_is_told_in_the_jobs_words() -> None:
    log = b'{"event": "start.failed", "level": "error", "reason": "the call is full"}\n'
    for end, figures, told in (
        (Observation(Phase.EXITED, 1), {}, "the call is full"),
        (Observation(Phase.EXITED, 0), {"start_failed": 1.0}, "the call is full"),
        (Observation(Phase.EXITED, 0), {}, ""),
        (Observation(Phase.LOST), {}, ""),
        (Observation(Phase.EXITED, 137, detail="killed"), {}, "killed"),
    ):
        assert in_its_own_words(end, figures=figures, log_tail=log).detail == told


@pytest.mark.parametrize(
    ("reason", "stage", "step"),
    [
        ("max concurrent jobs reached", "admission", "max_concurrent_jobs"),
        ("not enough disk: 1 GiB", "admission", "min_free_disk"),
        ("the service is being drained and takes no new jobs", "admission", "undrain"),
        ("the service is shutting down", "admission", "when it has started"),
        ("docker: no such image", "launch", "pull"),
        ("who knows", "launch", "start the recording again"),
    ],
)
def test_a_refused_job_is_explained_too(reason: str, stage: str, step: str) -> None:
    failure = refusal_of(reason)
    assert (failure.stage, step in failure.next_step) == (stage, True)
    assert failure.evidence == {"detail": reason}


def test_the_last_line_of_the_log_is_one_line_of_json() -> None:
    job = replace(ENDED, detail="two\nlines", **CRASHED)
    failure = failure_of(job)
    assert failure is not None
    line = failure_line(failure, job)
    assert line.count(b"\n") == 1
    document = json.loads(line)
    assert (document["event"], document["stage"]) == ("job.failure", "recording")
    assert document["evidence"]["detail"] == "two\nlines"

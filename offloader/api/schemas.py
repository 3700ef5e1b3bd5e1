"""The wire's bodies (job-service.md 1). Types are checked here, values behind the door."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from foundation.clock import epoch_ms
from offloader.advice import next_step
from offloader.models import Job, OutboxEntry
from offloader.service import JobWish


class InitRequest(BaseModel):
    """`POST /jobs/init`."""

    model_config = ConfigDict(strict=True, frozen=True)

    runners: list[str] = Field(default_factory=list, alias="Runners")


class JobCreate(BaseModel):
    """`POST /jobs`. A missing member has its zero value, as in Go, so that the texts come in their order."""

    model_config = ConfigDict(strict=True, frozen=True)

    type: str = ""
    runner: str = ""
    max_duration_sec: int = 0
    input_data: dict[str, Any] = Field(default_factory=dict, repr=False)

    def to_wish(self) -> JobWish:
        return JobWish(self.type, self.runner, self.max_duration_sec, self.input_data)


class RepublishRequest(BaseModel):
    """`POST /jobs/{id}/republish`."""

    model_config = ConfigDict(strict=True, frozen=True)

    auth_token: str = Field(default="", repr=False)


def job_document(job: Job) -> dict[str, Any]:
    """A job as clients see it; `stop_at` and `output_data` are left out while they say nothing."""
    document: dict[str, Any] = {
        "type": job.spec.type.value,
        "max_duration_sec": job.spec.max_duration_s,
        "runner": job.spec.runner,
        "input_data": dict(job.spec.input_data),
        "id": job.id,
        "start_at": epoch_ms(job.created_at),
    }
    if job.stopped_at is not None:
        document["stop_at"] = epoch_ms(job.stopped_at)
    if job.output_data:
        document["output_data"] = dict(job.output_data)
    return document


def details_document(job: Job) -> dict[str, Any]:
    """What the added routes tell besides: where the job is, how it ended, and what to do about it."""
    return job_document(job) | {
        "state": job.state.value,
        "stop_reason": job.stop_reason and job.stop_reason.value,
        "exit_code": job.exit_code,
        "detail": job.detail,
        "next_step": next_step(job),
        "deadline_at": epoch_ms(job.deadline_at),
        "post_call": job.post_call,
        "unpublished": job.unpublished,
        "publication": job.outbox and _publication_document(job.outbox),
        "figures": dict(job.figures),
    }


def _publication_document(entry: OutboxEntry) -> dict[str, Any]:
    return {
        "state": entry.publication.value,
        "attempts": entry.attempts,
        "next_at": entry.next_at and epoch_ms(entry.next_at),
        "detail": entry.detail,
    }

"""The wire's bodies (job-service.md 1). Types are checked here, values behind the door."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from foundation.clock import epoch_ms
from offloader.models import Job
from offloader.service import JobWish


class InitRequest(BaseModel):
    """`POST /jobs/init`."""

    model_config = ConfigDict(strict=True, frozen=True)

    runners: list[str] = Field(default_factory=list, alias="Runners")

    @field_validator("runners", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value


class JobCreate(BaseModel):
    """`POST /jobs`. A missing member has its zero value, as in Go, so that the texts come in their order."""

    model_config = ConfigDict(strict=True, frozen=True)

    type: str = ""
    runner: str = ""
    max_duration_sec: int = 0
    input_data: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("input_data", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    def to_wish(self) -> JobWish:
        return JobWish(self.type, self.runner, self.max_duration_sec, self.input_data)


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

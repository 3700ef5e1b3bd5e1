"""The wire's bodies (job-service.md 1). Types are checked here, values behind the door."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from clientauth.service import Identity
from foundation.clock import epoch_ms, rfc3339
from offloader.failures import failure_document, failure_of
from offloader.job_wish import JobWish
from offloader.models import Job, OutboxEntry
from offloader.retranscription_steps import folder_of
from offloader.retranscription_wish import RetranscriptionWish
from offloader.secrets import shown


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


class RetranscribeRequest(BaseModel):
    """`POST /jobs/{id}/retranscribe`."""

    model_config = ConfigDict(strict=True, frozen=True)

    model: str = ""
    language: str = ""
    engine: str = ""
    vocabulary: list[str] | None = None
    engine_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    publish: bool = False
    auth_token: str = Field(default="", repr=False)

    def to_wish(self) -> RetranscriptionWish:
        return RetranscriptionWish(
            model=self.model,
            language=self.language,
            engine=self.engine,
            vocabulary=self.vocabulary,
            engine_options=self.engine_options,
            publish=self.publish,
            auth_token=self.auth_token,
        )


def job_document(job: Job) -> dict[str, Any]:
    """A job as clients see it; `stop_at` and `output_data` are left out while they say nothing."""
    document: dict[str, Any] = {
        "type": job.spec.type.value,
        "max_duration_sec": job.spec.max_duration_s,
        "runner": job.spec.runner,
        "input_data": shown(job.spec.input_data),
        "id": job.id,
        "start_at": epoch_ms(job.created_at),
    }
    if job.stopped_at is not None:
        document["stop_at"] = epoch_ms(job.stopped_at)
    if job.output_data:
        document["output_data"] = dict(job.output_data)
    return document


def details_document(job: Job, *, client: Identity, said: str = "") -> dict[str, Any]:
    """What the added routes tell `client` besides: where the job is, how it ended, what to do about it; the
    admin also whose it is, where it runs, who holds or deletes it. `said`: the newest error of its log, where
    that was read."""
    admins = _admins_document(job) if client.admin else {}
    failure = failure_of(job, said=said)
    return (
        job_document(job)
        | admins
        | {
            "state": job.state.value,
            "stop_reason": job.stop_reason and job.stop_reason.value,
            "exit_code": job.exit_code,
            "detail": job.detail,
            "next_step": failure.next_step if failure else "",
            "failure": failure and failure_document(failure),
            "deadline_at": epoch_ms(job.deadline_at),
            "times": _times(job),
            "post_call": job.post_call,
            "unpublished": job.unpublished,
            "publication": job.outbox and _publication_document(job.outbox),
            "retranscription": _retranscription_document(job),
            "figures": dict(job.figures),
        }
    )


def _times(job: Job) -> dict[str, str | None]:
    """In RFC 3339; the wire's own members are milliseconds."""
    wish = job.retranscription
    moments = {
        "created": job.created_at,
        "deadline": job.deadline_at,
        "stopped": job.stopped_at,
        "next_attempt": job.outbox and job.outbox.next_at,
        "retranscription_requested": wish and wish.requested_at,
        "retranscription_ended": wish and wish.ended_at,
    }
    return {name: rfc3339(moment) if moment else None for name, moment in moments.items()}


def _admins_document(job: Job) -> dict[str, Any]:
    return {
        "client_id": job.client_id,
        "host": _host(job),
        "hold": job.hold,
        "deletion": job.deletion_at
        and {"requested_at": epoch_ms(job.deletion_at), "when": _deleted_when(job)},
    }


def _deleted_when(job: Job) -> str:
    """What its deletion waits for (`removal`): a text that goes on from "to be deleted"."""
    place = _host(job)
    return f"as soon as what it left{f' on {place}' if place else ''} can be reached"


def _host(job: Job) -> str:
    """The worker that has it, or the host that alone can reach it; empty: there is only one."""
    worker = job.workload.reference.get("worker") if job.workload else None
    return str(worker or job.host)


def _publication_document(entry: OutboxEntry) -> dict[str, Any]:
    return {
        "state": entry.publication.value,
        "attempts": entry.attempts,
        "next_at": entry.next_at and epoch_ms(entry.next_at),
        "detail": entry.detail,
    }


def _retranscription_document(job: Job) -> dict[str, Any] | None:
    wish = job.retranscription
    if wish is None:
        return None
    return {
        "state": wish.state.value,
        "options": dict(wish.options),
        "publish": wish.publish,
        "artifacts": folder_of(job),
        "requested_at": epoch_ms(wish.requested_at),
        "ended_at": wish.ended_at and epoch_ms(wish.ended_at),
        "exit_code": wish.exit_code,
        "detail": wish.detail,
    }

"""The tables, and how a job becomes a row and back. Nothing else knows the columns of `jobs`.

Times are stored as epoch milliseconds, mappings as JSON. A change here needs a migration in
`migrations/versions/`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    false,
    text,
)

from foundation.clock import epoch_ms
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    Retranscription,
    RetranscriptionState,
    StopReason,
    Workload,
)

metadata: Final = MetaData()

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("type", String(32), nullable=False),
    Column("runner", Text, nullable=False),
    Column("max_duration_s", Integer, nullable=False),
    Column("input_data", JSON, nullable=False),  # secrets masked
    Column("state", String(32), nullable=False),
    Column("stop_reason", String(32)),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("stopped_at_ms", BigInteger),
    Column("exit_code", Integer),
    Column("detail", Text, nullable=False),
    Column("workload", JSON),
    Column("figures", JSON, nullable=False),
    Column("output_data", JSON, nullable=False),
    Column("unpublished", Boolean, nullable=False),
    Column("post_call", Boolean, nullable=False, server_default=false()),
    Column("outbox", JSON),  # see OutboxEntry
    Column("host", Text, nullable=False, server_default=""),
    Column("owner", Text),  # the replica that watches over it, see Lease
    Column("lease_until_ms", BigInteger),
    Column("retranscribing", Boolean, nullable=False, server_default=false()),
    Column("retranscription", JSON),  # see Retranscription
    Column("revision", BigInteger, nullable=False, server_default=text("0")),  # counts its changes
    Column("registration", String(64), nullable=False, server_default=""),  # see Job
    Column("wish_hash", String(64), nullable=False, server_default=""),  # see Job
    Column("hold", Text, nullable=False, server_default=""),
    Column("published_at_ms", BigInteger),
    Column("erased_at_ms", BigInteger),
    Column("deletion_at_ms", BigInteger),
    Column("left_bytes", BigInteger),
    Index("jobs_by_state", "state", "stopped_at_ms"),
    Index("jobs_by_creation", "created_at_ms", "id"),
    # Looked for with every round, and mostly none.
    Index(
        "jobs_unpublished",
        "stopped_at_ms",
        sqlite_where=text("unpublished = 1"),
        postgresql_where=text("unpublished"),
    ),
    Index(
        "jobs_retranscribing",
        "stopped_at_ms",
        sqlite_where=text("retranscribing = 1"),
        postgresql_where=text("retranscribing"),
    ),
    Index(
        "jobs_with_files",
        "stopped_at_ms",
        sqlite_where=text("left_bytes IS NULL OR left_bytes > 0"),
        postgresql_where=text("left_bytes IS NULL OR left_bytes > 0"),
    ),
    Index(
        "jobs_to_delete",
        "deletion_at_ms",
        sqlite_where=text("deletion_at_ms IS NOT NULL"),
        postgresql_where=text("deletion_at_ms IS NOT NULL"),
    ),
)

deleted_jobs: Final = Table(
    "deleted_jobs",  # whose files may come back with a host that was away when they were to be removed
    metadata,
    Column("job_id", String(63), primary_key=True),
    Column("deleted_at_ms", BigInteger, nullable=False),
    Index("deleted_jobs_by_age", "deleted_at_ms"),
)

clients: Final = Table(
    "clients",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key_hash", Text, nullable=False),
    Column("registration", String(64), nullable=False, server_default=""),  # see StoredClient
    # Of which key: an earlier release that gives the client another one leaves the mark as it was.
    Column("marked_hash", Text, nullable=False, server_default=""),
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("client_id", Text, primary_key=True),  # one live token for each client
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("expires_at_ms", BigInteger, nullable=False),
)

job_secrets: Final = Table(
    "job_secrets",
    metadata,
    # Tells which is the newest, whatever the clocks say.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job_id", String(63), nullable=False, unique=True),
    Column("client_id", Text, nullable=False),
    Column("site_url", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("registration", String(64), nullable=False, server_default=""),  # as its job has it
    Index("job_secrets_by_site", "client_id", "site_url", "number"),
)

job_variables: Final = Table(
    "job_variables",  # keys of speech services, for whoever finishes a job or transcribes it again
    metadata,
    Column("job_id", String(63), primary_key=True),
    Column("ciphertext", LargeBinary, nullable=False),
)

answers: Final = Table(
    "answers",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("key_hash", String(64), primary_key=True),
    Column("job_id", String(63), nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("answers_by_end", "expires_at_ms"),
)

webhook_events: Final = Table(
    "webhook_events",  # what receivers of notify.webhooks are still to be told, in this order
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("webhook", String(63), nullable=False),  # its name in the configuration
    Column("job_id", String(63), nullable=False),
    Column("event_id", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at_ms", BigInteger, nullable=False),
    Index("webhook_events_by_job", "webhook", "job_id", "number"),
)

webhook_turns: Final = Table(
    "webhook_turns",  # which replica delivers them, one row
    metadata,
    Column("name", String(63), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)

facts: Final = Table(
    "facts",  # what happened once and must not happen again
    metadata,
    Column("name", String(63), primary_key=True),
    Column("value", Text, nullable=False),
)


def job_to_row(job: Job) -> dict[str, Any]:
    """Every column of `jobs` but those of the lease and the revision. PostgreSQL refuses NUL in texts, so
    none is stored."""
    workload = job.workload and _workload_to_json(job.workload)
    return {
        "id": job.id,
        "client_id": job.client_id,
        "type": job.spec.type.value,
        "runner": job.spec.runner,
        "max_duration_s": job.spec.max_duration_s,
        "input_data": dict(job.spec.input_data),
        "state": job.state.value,
        "stop_reason": job.stop_reason and job.stop_reason.value,
        "created_at_ms": epoch_ms(job.created_at),
        "stopped_at_ms": job.stopped_at and epoch_ms(job.stopped_at),
        "exit_code": job.exit_code,
        "detail": job.detail.replace("\0", "\ufffd"),
        "workload": workload,
        "figures": dict(job.figures),
        "output_data": dict(job.output_data),
        "unpublished": job.unpublished,
        "post_call": job.post_call,
        "outbox": job.outbox and _outbox_to_json(job.outbox),
        "host": job.host,
        "retranscribing": job.retranscribing,
        "retranscription": job.retranscription and _retranscription_to_json(job.retranscription),
        "registration": job.registration,
        "wish_hash": job.wish_hash,
        "hold": job.hold.replace("\0", "\ufffd"),
        "published_at_ms": job.published_at and epoch_ms(job.published_at),
        "erased_at_ms": job.erased_at and epoch_ms(job.erased_at),
        "deletion_at_ms": job.deletion_at and epoch_ms(job.deletion_at),
        "left_bytes": job.left_bytes,
    }


def job_from_row(row: RowMapping) -> Job:
    """The job of a row of `jobs`."""
    workload = row["workload"]
    return Job(
        id=row["id"],
        client_id=row["client_id"],
        spec=JobSpec(
            type=JobType(row["type"]),
            runner=row["runner"],
            max_duration_s=row["max_duration_s"],
            input_data=row["input_data"],
        ),
        created_at=_moment(row["created_at_ms"]),
        state=JobState(row["state"]),
        stop_reason=row["stop_reason"] and StopReason(row["stop_reason"]),
        stopped_at=_moment_or_none(row["stopped_at_ms"]),
        exit_code=row["exit_code"],
        detail=row["detail"],
        workload=workload and Workload(workload["backend"], workload["reference"]),
        figures=row["figures"],
        output_data=row["output_data"],
        unpublished=row["unpublished"],
        post_call=row["post_call"],
        outbox=row["outbox"] and _outbox_from_json(row["outbox"]),
        host=row["host"],
        retranscription=row["retranscription"]
        and _retranscription_from_json(row["retranscription"]),
        registration=row["registration"],
        wish_hash=row["wish_hash"],
        hold=row["hold"],
        published_at=_moment_or_none(row["published_at_ms"]),
        erased_at=_moment_or_none(row["erased_at_ms"]),
        deletion_at=_moment_or_none(row["deletion_at_ms"]),
        left_bytes=row["left_bytes"],
    )


def _outbox_to_json(entry: OutboxEntry) -> dict[str, Any]:
    return {
        "publication": entry.publication.value,
        "attempts": entry.attempts,
        "next_at_ms": entry.next_at and epoch_ms(entry.next_at),
        "workload": entry.workload and _workload_to_json(entry.workload),
        "detail": entry.detail,
        "copied": entry.copied,
        "vouched": entry.vouched,
    }


def _outbox_from_json(value: Mapping[str, Any]) -> OutboxEntry:
    workload, next_at_ms = value["workload"], value["next_at_ms"]
    return OutboxEntry(
        publication=Publication(value["publication"]),
        attempts=value["attempts"],
        next_at=None if next_at_ms is None else _moment(next_at_ms),
        workload=workload and Workload(workload["backend"], workload["reference"]),
        detail=value["detail"],
        copied=value.get("copied", False),
        vouched=value.get("vouched", False),
    )


def _retranscription_to_json(wish: Retranscription) -> dict[str, Any]:
    return {
        "name": wish.name,
        "options": dict(wish.options),
        "publish": wish.publish,
        "requested_at_ms": epoch_ms(wish.requested_at),
        "state": wish.state.value,
        "ended_at_ms": wish.ended_at and epoch_ms(wish.ended_at),
        "workload": wish.workload and _workload_to_json(wish.workload),
        "exit_code": wish.exit_code,
        "detail": wish.detail.replace("\0", "\ufffd"),
        "stop": wish.stop,
    }


def _retranscription_from_json(value: Mapping[str, Any]) -> Retranscription:
    workload, ended_at_ms = value["workload"], value["ended_at_ms"]
    return Retranscription(
        name=value["name"],
        options=value["options"],
        publish=value["publish"],
        requested_at=_moment(value["requested_at_ms"]),
        state=RetranscriptionState(value["state"]),
        ended_at=None if ended_at_ms is None else _moment(ended_at_ms),
        workload=workload and Workload(workload["backend"], workload["reference"]),
        exit_code=value["exit_code"],
        detail=value["detail"],
        stop=value["stop"],
    )


def _workload_to_json(workload: Workload) -> dict[str, Any]:
    return {"backend": workload.backend, "reference": dict(workload.reference)}


def _moment(epoch: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=epoch)


def _moment_or_none(epoch: int | None) -> datetime | None:
    return None if epoch is None else _moment(epoch)

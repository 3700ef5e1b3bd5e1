"""When a job's result was published and its files were erased, how much of it is left, whether it is to be
deleted or held; which jobs were deleted, whose files a host may still bring back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("hold", sa.Text, nullable=False, server_default=""))
    for moment in ("published_at_ms", "erased_at_ms", "deletion_at_ms"):
        op.add_column("jobs", sa.Column(moment, sa.BigInteger))
    op.add_column("jobs", sa.Column("left_bytes", sa.BigInteger))
    op.create_index(
        "jobs_with_files",
        "jobs",
        ["stopped_at_ms"],
        sqlite_where=sa.text("left_bytes IS NULL OR left_bytes > 0"),
        postgresql_where=sa.text("left_bytes IS NULL OR left_bytes > 0"),
    )
    op.create_index(
        "jobs_to_delete",
        "jobs",
        ["deletion_at_ms"],
        sqlite_where=sa.text("deletion_at_ms IS NOT NULL"),
        postgresql_where=sa.text("deletion_at_ms IS NOT NULL"),
    )
    op.create_table(
        "deleted_jobs",
        sa.Column("job_id", sa.String(63), primary_key=True),
        sa.Column("deleted_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("deleted_jobs_by_age", "deleted_jobs", ["deleted_at_ms"])

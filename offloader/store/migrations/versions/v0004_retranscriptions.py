"""Transcripts made again, and the keys of speech services at rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("retranscribing", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("jobs", sa.Column("retranscription", sa.JSON))
    op.create_index(
        "jobs_retranscribing",
        "jobs",
        ["stopped_at_ms"],
        sqlite_where=sa.text("retranscribing = 1"),
        postgresql_where=sa.text("retranscribing"),
    )
    op.create_table(
        "job_variables",
        sa.Column("job_id", sa.String(63), primary_key=True),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    )

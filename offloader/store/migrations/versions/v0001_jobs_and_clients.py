"""Jobs and clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("runner", sa.Text, nullable=False),
        sa.Column("max_duration_s", sa.Integer, nullable=False),
        sa.Column("input_data", sa.JSON, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("stop_reason", sa.String(32)),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("stopped_at_ms", sa.BigInteger),
        sa.Column("exit_code", sa.Integer),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("workload", sa.JSON),
        sa.Column("figures", sa.JSON, nullable=False),
        sa.Column("output_data", sa.JSON, nullable=False),
        sa.Column("unpublished", sa.Boolean, nullable=False),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "stopped_at_ms"])
    op.create_table(
        "clients",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("key_hash", sa.Text, nullable=False),
    )

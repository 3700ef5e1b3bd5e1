"""Events that wait for their receivers, and which replica delivers them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "webhook_events",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
        ),
        sa.Column("webhook", sa.String(63), nullable=False),
        sa.Column("job_id", sa.String(63), nullable=False),
        sa.Column("event_id", sa.String(32), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("webhook_events_by_job", "webhook_events", ["webhook", "job_id", "number"])
    op.create_table(
        "webhook_turns",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )

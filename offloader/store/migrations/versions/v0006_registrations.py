"""Jobs and tokens belong to a registration, not to a name; what was asked for under an Idempotency-Key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for table in ("clients", "jobs", "job_secrets"):
        mark = sa.Column("registration", sa.String(64), nullable=False, server_default="")
        op.add_column(table, mark)
    op.add_column("clients", sa.Column("marked_hash", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("wish_hash", sa.String(64), nullable=False, server_default=""))

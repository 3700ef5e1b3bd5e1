"""How often a job has changed, so that thousands of live ones are not read again with every look; an index of
what is not published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
    op.create_index(
        "jobs_unpublished",
        "jobs",
        ["stopped_at_ms"],
        sqlite_where=sa.text("unpublished = 1"),
        postgresql_where=sa.text("unpublished"),
    )

"""Several replicas: leases, sessions, tokens at rest, answers to repeated requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("host", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("owner", sa.Text))
    op.add_column("jobs", sa.Column("lease_until_ms", sa.BigInteger))
    op.create_index("jobs_by_creation", "jobs", ["created_at_ms", "id"])
    op.create_table(
        "sessions",
        sa.Column("client_id", sa.Text, primary_key=True),
        sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "job_secrets",
        sa.Column("number", number, primary_key=True),
        sa.Column("job_id", sa.String(63), nullable=False, unique=True),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("site_url", sa.Text, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("job_secrets_by_site", "job_secrets", ["client_id", "site_url", "number"])
    op.create_table(
        "answers",
        sa.Column("client_id", sa.Text, primary_key=True),
        sa.Column("key_hash", sa.String(64), primary_key=True),
        sa.Column("job_id", sa.String(63), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("answers_by_end", "answers", ["expires_at_ms"])
    op.create_table(
        "facts",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )

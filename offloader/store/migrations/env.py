"""What Alembic runs to migrate; `offloader.store.migrate` gives the connection, inside its transaction."""

from __future__ import annotations

from alembic import context

from offloader.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()

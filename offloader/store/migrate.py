"""Brings a database to this release's schema, inside one transaction of the caller.

The steps are Alembic's. A database that was made before there were any is told by its columns and enters at
the step that it equals. Alembic is imported only when there is something to do: most starts have nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from offloader.errors import StoreError

HEAD: Final = "0007"
"""The newest step."""
_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """The caller has seen to it that nobody else migrates: two replicas may start at once.

    Raises:
        StoreError: a later release has changed the schema already.
    """
    present = _present(connection)
    if present == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        raise StoreError(
            f"its schema is of a later release (step {present}, this one knows {HEAD}): "
            "start that release again, or restore the backup from before its upgrade"
        )
    if (baseline := _baseline(connection)) is not None and present is None:
        command.stamp(config, baseline)
    command.upgrade(config, HEAD)


def _present(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    step: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return step


def _baseline(connection: Connection) -> str | None:
    """The step that a database without a recorded one equals; None: it is empty."""
    inspector = inspect(connection)
    if not inspector.has_table("jobs"):
        return None
    columns = {column["name"] for column in inspector.get_columns("jobs")}
    return "0002" if "outbox" in columns else "0001"

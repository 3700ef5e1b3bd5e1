"""Brings a database to this release's schema, inside one transaction of the caller.

The steps are Alembic's. A database that was made before there were any is told by its columns and enters at
the step that it equals. Alembic is imported only when there is something to do: most starts have nothing.

A step only adds: tables, and columns that are nullable or have a server default. So a replica of the release
before goes on beside one that has migrated; a test looks at every step.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, delete, insert, inspect, select, text

from offloader.errors import StoreError
from offloader.store.schema import facts
from offloader.store.sqlite_copy import copies_before_steps
from offloader.version import BUILD_VERSION

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0008"
"""The newest step."""
RELEASE_FACT: Final = "schema.release"
"""Which release has brought the schema to its step."""
_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(connection: Connection, *, file: Path | None = None) -> None:
    """The caller has seen to it that nobody else migrates: two replicas may start at once.

    `file`: of an embedded database; beside it are copies from before earlier steps.

    Raises:
        StoreError: a later release has changed the schema already; says which, and the way back.
    """
    present = step_of(connection)
    if present == HEAD:
        return
    if present is not None and present not in known_steps():
        raise StoreError(_too_new(connection, present, file))
    bring_to(connection, HEAD)
    _note_release(connection)


def bring_to(connection: Connection, step: str) -> None:
    """From an earlier step, or from nothing, to `step`, one of `known_steps`."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    if step_of(connection) is None and (baseline := _baseline(connection)) is not None:
        command.stamp(config, baseline)
    command.upgrade(config, step)


def step_of(connection: Connection) -> str | None:
    """The recorded step; None: it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    step: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return step


def step_to_leave(connection: Connection) -> str | None:
    """The step from which `migrate` would go on; None: it is there, there is nothing to lose, or it would
    refuse."""
    present = step_of(connection) or _baseline(connection)
    return present if present != HEAD and present in known_steps() else None


def known_steps() -> frozenset[str]:
    """Those that this release can make."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return frozenset(script.revision for script in scripts)


def release_of(connection: Connection) -> str:
    """Which release has brought the schema to its step; empty: it is not recorded."""
    if not inspect(connection).has_table(facts.name):
        return ""
    query = select(facts.c.value).where(facts.c.name == RELEASE_FACT)
    return connection.execute(query).scalar() or ""


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def _baseline(connection: Connection) -> str | None:
    """The step that a database without a recorded one equals; None: it is empty."""
    inspector = inspect(connection)
    if not inspector.has_table("jobs"):
        return None
    columns = {column["name"] for column in inspector.get_columns("jobs")}
    return "0002" if "outbox" in columns else "0001"


def _note_release(connection: Connection) -> None:
    if inspect(connection).has_table(facts.name):
        connection.execute(delete(facts).where(facts.c.name == RELEASE_FACT))
        connection.execute(insert(facts).values(name=RELEASE_FACT, value=BUILD_VERSION))


def _too_new(connection: Connection, present: str, file: Path | None) -> str:
    release = release_of(connection)
    by = f", made by release {release}" if release else ""
    ours = [copy for step, copy in copies_before_steps(file) if step <= HEAD] if file else []
    way_back = (
        f"what was before its upgrade: offloader store restore {ours[-1]}"
        if ours
        else "the backup from before its upgrade"
    )
    return (
        f"its schema is of a later release (step {present}{by}, this one knows {HEAD}): "
        f"start that release again, or restore {way_back}"
    )

"""A database server for several replicas, PostgreSQL: by one connection of the store's own driver."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from offloader.doctor.finding import Finding, failure, ok, warning
from offloader.doctor.store import schema_finding

_WHAT: Final = "store.data_source"
_SLOW_S: Final = 0.05
_ROUNDS: Final = 5
_POOL: Final = 8
"""Connections of one replica (offloader/store/postgresql.py)."""


async def look_at_server(source: str) -> Sequence[Finding]:
    """Connection, rights, schema, time for an answer. Writes nothing."""
    from sqlalchemy import text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from offloader.store import postgresql

    scheme = source.partition("://")[0]
    try:
        url = make_url(source)
        if scheme not in postgresql.SCHEMES:
            return [_unreachable(f"{scheme}://", "there is no driver for it here")]
        engine = postgresql.create_engine(url)
    except (ArgumentError, ImportError, ValueError) as error:  # ValueError: a port that is none
        return [_unreachable(f"{scheme}://", str(error).split("\n")[0])]
    shown = postgresql.shown(url)
    try:
        async with engine.connect() as connection:
            facts: dict[str, Any] = {}
            for name, query in _QUERIES.items():
                facts[name] = (await connection.execute(text(query))).scalar()
            began_s = time.monotonic()
            for _ in range(_ROUNDS):
                await connection.execute(text("SELECT 1"))
            round_s = (time.monotonic() - began_s) / _ROUNDS
            step = None
            if facts["has_schema"]:
                query = "SELECT version_num FROM alembic_version"
                step = (await connection.execute(text(query))).scalar()
    except Exception as error:  # noqa: BLE001 - driver, network and server each have errors of their own
        return [_unreachable(shown, _reason(error, source))]
    finally:
        await engine.dispose()
    return [
        schema_finding(step, f"{shown}, PostgreSQL {facts['version']}", took_s=round_s),
        *judge_rights(shown, facts),
        *judge_room(shown, facts, round_s),
    ]


_QUERIES: Final = {
    "version": "SHOW server_version",
    "standby": "SELECT pg_is_in_recovery()",
    "may_create": "SELECT has_schema_privilege(current_schema(), 'CREATE')",
    "has_schema": "SELECT to_regclass('alembic_version') IS NOT NULL",
    "most": "SELECT current_setting('max_connections')::int",
    "used": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
}


def judge_rights(shown: str, facts: Mapping[str, Any]) -> list[Finding]:
    """`standby`, `may_create`: what the server told."""
    if facts["standby"]:
        return [
            failure(
                "store_standby",
                _WHAT,
                shown,
                cause="this server is a standby: nothing can be written there",
                fix=("name the primary in store.data_source, or add target_session_attrs=primary",),
            )
        ]
    if not facts["may_create"]:
        return [
            failure(
                "store_no_rights",
                _WHAT,
                shown,
                cause="its user may not create tables: the schema cannot be brought to this release's",
                fix=("GRANT CREATE, USAGE ON SCHEMA public TO the user of store.data_source;",),
            )
        ]
    return []


def judge_room(shown: str, facts: Mapping[str, Any], round_s: float) -> list[Finding]:
    """`used`, `most`: connections. `round_s`: for one answer."""
    data = {"round_s": round(round_s, 4), "connections": facts["used"], "most": facts["most"]}
    if int(facts["used"]) + _POOL > int(facts["most"]):
        return [
            warning(
                "store_connections",
                _WHAT,
                f"{shown}: {facts['used']} of {facts['most']} connections in use",
                cause=f"each replica of the service wants {_POOL}",
                fix=("ALTER SYSTEM SET max_connections = 200;", "restart PostgreSQL"),
                data=data,
            )
        ]
    if round_s > _SLOW_S:
        return [
            warning(
                "store_slow",
                _WHAT,
                f"{shown}: {round_s * 1000:.0f} ms for an answer",
                cause="a job takes about five transactions, and the plugin waits a minute for it",
                fix=("a database server in the same place as the service",),
                data=data,
            )
        ]
    return [
        ok("store_answers", _WHAT, f"{shown}: {round_s * 1000:.1f} ms for an answer", data=data)
    ]


def _unreachable(shown: str, reason: str) -> Finding:
    return failure(
        "store_unreachable",
        _WHAT,
        f"{shown}: {reason}",
        cause="the service does not start without its database",
        fix=("psql URL (as in store.data_source) from this host", "pg_isready -h HOST -p PORT"),
    )


def _reason(error: Exception, source: str) -> str:
    """The server's words, without the password, whatever a driver may put there."""
    from urllib.parse import urlsplit

    from offloader.store import postgresql

    text = postgresql.explained(getattr(error, "orig", None) or error).split("\n")[0]
    try:
        password = urlsplit(source).password
    except ValueError:
        password = None
    return text.replace(password, "***") if password else text

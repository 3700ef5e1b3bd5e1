"""PostgreSQL, for several replicas: the driver's options, and what its errors mean."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_CONNECT_TIMEOUT_S: Final = 5.0
_COMMAND_TIMEOUT_S: Final = 20.0
"""Beyond the server's own limits: only for a server that says nothing any more."""
_POOL_SIZE: Final = 8
_POOL_WAIT_S: Final = 10.0
_RECYCLE_S: Final = 1800
APPLICATION: Final = "calls-offloader"
"""By which the server tells who is connected."""
_SERVER_SETTINGS: Final = {
    "application_name": APPLICATION,
    "statement_timeout": "15000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "30000",
    "timezone": "UTC",
}

SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")


def create_engine(url: URL) -> AsyncEngine:
    """An engine that connects at its first use. The URL's parameters mean what libpq makes of them.

    Raises:
        ImportError: the driver is not installed.
    """
    import asyncpg

    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def connect() -> Any:
        try:
            return await asyncpg.connect(
                dsn,
                timeout=_CONNECT_TIMEOUT_S,
                command_timeout=_COMMAND_TIMEOUT_S,
                server_settings=_SERVER_SETTINGS,
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConnectionError(str(error)) from error

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_S,
        pool_recycle=_RECYCLE_S,
        pool_pre_ping=True,  # a connection that died while it was idle is replaced unseen
    )


def shown(url: URL) -> str:
    """Where it is, without who or any parameter: those may be secret."""
    host = url.host or url.query.get("host") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{host}{port}/{url.database or ''}"


def explained(error: BaseException) -> str:
    """The server's or the system's own words."""
    inner = error.__cause__ or error  # SQLAlchemy's adapter puts a class name in front
    if isinstance(inner, TimeoutError | asyncio.TimeoutError) and not str(inner):
        return "no answer in time"
    return str(inner) or type(inner).__name__

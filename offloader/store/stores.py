"""Opens everything the service keeps in its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from offloader.store.database import Database, open_database
from offloader.store.key_place import VARIABLE, KeyPlace, load_cipher
from offloader.store.reference_clients import import_reference_clients
from offloader.store.secret_key import Cipher
from offloader.store.sql import SqlJobStore
from offloader.store.sql_answers import SqlAnswerStore
from offloader.store.sql_clients import SqlClientStore, SqlSessionStore
from offloader.store.sql_keys import SqlKeyUse
from offloader.store.sql_secrets import SqlSecretStore
from offloader.store.sqlite_file import key_file_of

log = get_logger()


@dataclass(frozen=True, slots=True)
class Stores:
    """What `open_stores` gives out."""

    database: Database
    jobs: SqlJobStore
    clients: SqlClientStore
    sessions: SqlSessionStore
    secrets: SqlSecretStore
    answers: SqlAnswerStore
    cipher: Cipher
    """What `secrets` are encrypted by."""
    key_place: KeyPlace
    """Where its keys come from."""
    keys: SqlKeyUse
    """What is stored under which of them."""

    @property
    def shared(self) -> bool:
        """Several replicas may use them: jobs have to be claimed."""
        return self.database.shared


@asynccontextmanager
async def open_stores(
    data_source: str,
    *,
    environ: Mapping[str, str],
    state_dir: Path,
    clock: Clock | None = None,
) -> AsyncIterator[Stores]:
    """Open `data_source` (see `open_database`) while the block runs.

    `state_dir`: where a server's database has its key file when the environment gives no key; the embedded
    one has it beside itself. `clock`: None for the database's own (see `open_database`).

    Raises:
        StoreError: it cannot be opened; names it and the cause.
    """
    database = await open_database(data_source, clock=clock)
    try:
        await import_reference_clients(database, clock=clock or SystemClock())
        file = database.file
        if file is None and not environ.get(VARIABLE):
            log.warning("secrets.other_replicas_need_the_key", variable=VARIABLE)
        key_file = key_file_of(file) if file is not None else state_dir / "offloader.key"
        cipher = await asyncio.to_thread(load_cipher, environ, key_file=key_file)
        keys = SqlKeyUse(database, cipher)
        await keys.check()
        jobs = SqlJobStore(database)
        try:
            yield Stores(
                database=database,
                jobs=jobs,
                clients=SqlClientStore(database),
                sessions=SqlSessionStore(database),
                secrets=SqlSecretStore(database, cipher),
                answers=SqlAnswerStore(database),
                cipher=cipher,
                key_place=KeyPlace(environ, key_file),
                keys=keys,
            )
        finally:
            await jobs.aclose()
    finally:
        await database.aclose()

"""Takes over the clients of the reference from its store, once: an upgrade must not lock anybody out.

Where `store.data_source` names the reference's directory, its files lie beside our database and are left as
they are, so the way back is open. The values of clients are bcrypt hashes; everything else there (jobs) is
not wanted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from sqlalchemy import insert, select

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.store.bitcask import BitcaskContent, is_bitcask, read_bitcask
from offloader.store.database import Database
from offloader.store.schema import clients, facts

_BCRYPT: Final = re.compile(rb"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
_DONE: Final = "reference_clients_imported"

log = get_logger()


async def import_reference_clients(database: Database, *, clock: Clock) -> None:
    """Import what lies beside the embedded database, unless it was done before; known clients win.

    What cannot be read is told in the log; files that cannot be opened are tried again at the next start.

    Raises:
        StoreError: our own database cannot be used.
    """
    if database.file is None:
        return
    directory = database.file.parent
    try:
        if not await asyncio.to_thread(is_bitcask, directory) or await _done(database):
            return
        now_s = clock.utc_now().timestamp()
        content = await asyncio.to_thread(read_bitcask, directory, now_s=now_s)
    except OSError as error:
        log.error("store.reference_unreadable", directory=str(directory), error=str(error))
        return
    if content.problems:
        problems = list(content.problems[:10])
        log.error("store.reference_damaged", directory=str(directory), problems=problems)
    hashes = _hashes_in(content)
    imported = await _import(database, hashes)
    log.info(
        "store.reference_clients_imported",
        directory=str(directory),
        found=len(hashes),
        imported=imported,
    )


def _hashes_in(content: BitcaskContent) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for key, value in content.values.items():
        if _BCRYPT.fullmatch(value) and b"\0" not in key:
            try:
                found[key.decode()] = value.decode()
            except UnicodeDecodeError:
                continue  # no HTTP header could name such a client to us
    return found


async def _done(database: Database) -> bool:
    async with database.read() as connection:
        query = select(facts.c.value).where(facts.c.name == _DONE)
        return (await connection.execute(query)).first() is not None


async def _import(database: Database, hashes: Mapping[str, str]) -> int:
    async with database.write() as connection:
        known = set((await connection.execute(select(clients.c.id))).scalars())
        new = [
            {"id": client_id, "key_hash": key_hash}
            for client_id, key_hash in hashes.items()
            if client_id not in known
        ]
        if new:
            await connection.execute(insert(clients), new)
        await connection.execute(insert(facts).values(name=_DONE, value=str(len(new))))
    return len(new)

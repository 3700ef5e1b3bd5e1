"""Where client ids and the hashes of their keys are kept."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class ClientExists(Exception):
    """The client id is taken."""


class ClientUnknown(Exception):
    """There is no such client."""


@dataclass(frozen=True, slots=True)
class StoredClient:
    """What is known of a registered client."""

    key_hash: str
    registration: str = ""
    """The mark of its registration (`ClientAuth`), which what it owns carries as well; empty: it was
    registered when there were no marks, or nothing here belongs to registrations."""


class ClientStore(Protocol):
    """Client id to key hash and registration. Every method may be called concurrently."""

    async def get(self, client_id: str) -> str | None:
        """The hash, or None for an unknown client."""

    async def find(self, client_id: str) -> StoredClient | None:
        """Hash and registration, as they belong together; None for an unknown client."""

    async def put(
        self,
        client_id: str,
        key_hash: str,
        *,
        registration: str = "",
        former: Sequence[str] = (),
    ) -> None:
        """Add a client; what is marked with one of `former` is its own, too. Raises ClientExists; of several
        concurrent puts exactly one wins."""

    async def replace(self, client_id: str, key_hash: str, *, registration: str = "") -> None:
        """Give a client another key; what its registration owns goes over to the new mark. Raises
        ClientUnknown."""

    async def settle(self, client_id: str, client: StoredClient, *, registration: str) -> None:
        """Give the registration `client` another mark, and what it owns with it; nothing when it is not
        there any more."""

    async def delete(self, client_id: str) -> None:
        """Forget a client; an unknown one is fine."""

    async def ids(self) -> Sequence[str]:
        """Every client id, sorted."""

    async def count(self) -> int:
        """How many clients there are."""


class MemoryClientStore:
    """Forgets everything with the process; for tests."""

    def __init__(self) -> None:
        self._clients: dict[str, StoredClient] = {}

    async def get(self, client_id: str) -> str | None:
        client = self._clients.get(client_id)
        return None if client is None else client.key_hash

    async def find(self, client_id: str) -> StoredClient | None:
        return self._clients.get(client_id)

    async def put(
        self,
        client_id: str,
        key_hash: str,
        *,
        registration: str = "",
        former: Sequence[str] = (),
    ) -> None:
        if client_id in self._clients:
            raise ClientExists(client_id)
        self._clients[client_id] = StoredClient(key_hash, registration)

    async def replace(self, client_id: str, key_hash: str, *, registration: str = "") -> None:
        if client_id not in self._clients:
            raise ClientUnknown(client_id)
        self._clients[client_id] = StoredClient(key_hash, registration)

    async def settle(self, client_id: str, client: StoredClient, *, registration: str) -> None:
        if self._clients.get(client_id) == client:
            self._clients[client_id] = StoredClient(client.key_hash, registration)

    async def delete(self, client_id: str) -> None:
        self._clients.pop(client_id, None)

    async def ids(self) -> Sequence[str]:
        return sorted(self._clients)

    async def count(self) -> int:
        return len(self._clients)


class FileClientStore:
    """One JSON file of mode 0600, replaced as a whole: a crash leaves the old or the new one. For services in
    which nothing outlives a registration: marks of registrations are not kept.

    Raises ValueError at first use when the file is damaged, naming it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "clients.json"
        self._lock = asyncio.Lock()
        self._hashes: dict[str, str] | None = None

    async def get(self, client_id: str) -> str | None:
        async with self._lock:
            return (await self._load()).get(client_id)

    async def find(self, client_id: str) -> StoredClient | None:
        key_hash = await self.get(client_id)
        return None if key_hash is None else StoredClient(key_hash)

    async def put(
        self,
        client_id: str,
        key_hash: str,
        *,
        registration: str = "",
        former: Sequence[str] = (),
    ) -> None:
        async with self._lock:
            hashes = await self._load()
            if client_id in hashes:
                raise ClientExists(client_id)
            await self._replace(hashes | {client_id: key_hash})

    async def replace(self, client_id: str, key_hash: str, *, registration: str = "") -> None:
        async with self._lock:
            hashes = await self._load()
            if client_id not in hashes:
                raise ClientUnknown(client_id)
            await self._replace(hashes | {client_id: key_hash})

    async def settle(self, client_id: str, client: StoredClient, *, registration: str) -> None:
        return None

    async def delete(self, client_id: str) -> None:
        async with self._lock:
            hashes = await self._load()
            if client_id in hashes:
                await self._replace({c: h for c, h in hashes.items() if c != client_id})

    async def ids(self) -> Sequence[str]:
        async with self._lock:
            return sorted(await self._load())

    async def count(self) -> int:
        async with self._lock:
            return len(await self._load())

    async def _load(self) -> dict[str, str]:
        if self._hashes is None:
            self._hashes = await asyncio.to_thread(_read, self._path)
        return self._hashes

    async def _replace(self, hashes: dict[str, str]) -> None:
        await asyncio.to_thread(_write, self._path, hashes)
        self._hashes = hashes


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON; move it aside to start with no clients") from error
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError(f"{path}: should be an object of texts")
    return value


def _write(path: Path, hashes: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".clients-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(hashes, file)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)

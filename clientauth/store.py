"""Where client ids and the hashes of their keys are kept."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class ClientExists(Exception):
    """The client id is taken."""


class ClientUnknown(Exception):
    """There is no such client."""


class ClientStore(Protocol):
    """Client id to key hash. Every method may be called concurrently."""

    async def get(self, client_id: str) -> str | None:
        """The hash, or None for an unknown client."""

    async def put(self, client_id: str, key_hash: str) -> None:
        """Add a client. Raises ClientExists; of several concurrent puts exactly one wins."""

    async def replace(self, client_id: str, key_hash: str) -> None:
        """Give a client another key. Raises ClientUnknown."""

    async def delete(self, client_id: str) -> None:
        """Forget a client; an unknown one is fine."""

    async def ids(self) -> Sequence[str]:
        """Every client id, sorted."""


class MemoryClientStore:
    """Forgets everything with the process; for tests."""

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}

    async def get(self, client_id: str) -> str | None:
        return self._hashes.get(client_id)

    async def put(self, client_id: str, key_hash: str) -> None:
        if client_id in self._hashes:
            raise ClientExists(client_id)
        self._hashes[client_id] = key_hash

    async def replace(self, client_id: str, key_hash: str) -> None:
        if client_id not in self._hashes:
            raise ClientUnknown(client_id)
        self._hashes[client_id] = key_hash

    async def delete(self, client_id: str) -> None:
        self._hashes.pop(client_id, None)

    async def ids(self) -> Sequence[str]:
        return sorted(self._hashes)


class FileClientStore:
    """One JSON file of mode 0600, replaced as a whole: a crash leaves the old or the new one.

    Raises ValueError at first use when the file is damaged, naming it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "clients.json"
        self._lock = asyncio.Lock()
        self._hashes: dict[str, str] | None = None

    async def get(self, client_id: str) -> str | None:
        async with self._lock:
            return (await self._load()).get(client_id)

    async def put(self, client_id: str, key_hash: str) -> None:
        async with self._lock:
            hashes = await self._load()
            if client_id in hashes:
                raise ClientExists(client_id)
            await self._replace(hashes | {client_id: key_hash})

    async def replace(self, client_id: str, key_hash: str) -> None:
        async with self._lock:
            hashes = await self._load()
            if client_id not in hashes:
                raise ClientUnknown(client_id)
            await self._replace(hashes | {client_id: key_hash})

    async def delete(self, client_id: str) -> None:
        async with self._lock:
            hashes = await self._load()
            if client_id in hashes:
                await self._replace({c: h for c, h in hashes.items() if c != client_id})

    async def ids(self) -> Sequence[str]:
        async with self._lock:
            return sorted(await self._load())

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

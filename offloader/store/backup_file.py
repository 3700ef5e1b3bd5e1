"""A backup of the store in one file, and what it holds.

A tar archive of mode 0600 with `manifest.json` (schema step, release, when, and each member's size and
SHA-256), the database as an SQLite file, whatever the store is, and the key file if that was asked for. So it
is looked at by ordinary tools, and a backup of the one kind of store can be restored into the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from offloader.errors import StoreError
from offloader.store.sqlite_copy import to_disk
from offloader.version import BUILD_VERSION

DATABASE_NAME: Final = "offloader.db"
KEY_NAME: Final = "offloader.db.key"
_MANIFEST_NAME: Final = "manifest.json"
_FORMAT: Final = 1
_SQLITE: Final = b"SQLite format 3\0"
_MOST_MANIFEST_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """`manifest.json`; without `files` for a plain database, which says nothing of itself."""

    format: int = _FORMAT
    created_at: str = ""
    """RFC 3339, UTC."""
    release: str = ""
    """That made the backup."""
    schema: str = ""
    """Step of the schema."""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name `size_bytes` and `sha256`."""


def write(target: Path, *, schema: str, members: Mapping[str, Path]) -> Manifest:
    """Make `target` of these files, complete or not at all. Blocks.

    Raises:
        FileExistsError: something is there.
        OSError: it cannot be written.
    """
    created_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    files = {
        name: {"size_bytes": path.stat().st_size, "sha256": _digest(path)}
        for name, path in members.items()
    }
    manifest = Manifest(_FORMAT, created_at, BUILD_VERSION, schema, files)
    text = json.dumps(asdict(manifest), indent=1).encode()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.addfile(_member(_MANIFEST_NAME, len(text)), io.BytesIO(text))
            for name, path in members.items():
                with path.open("rb") as content:
                    archive.addfile(_member(name, path.stat().st_size), content)
        to_disk(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return manifest


def unpack(source: Path, directory: Path) -> Manifest:
    """Put the database of `source`, and its key file if it holds one, into `directory` (of mode 0700), each
    as the manifest says. A plain SQLite file is taken, too: a copy from before a migration is one. Blocks.

    Raises:
        StoreError: it is no backup, of a later release, or not what it was when it was made.
        OSError: it cannot be read, or `directory` not written.
    """
    with source.open("rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            file.seek(0)
            with _private(directory / DATABASE_NAME) as target:
                shutil.copyfileobj(file, target, _CHUNK_BYTES)
            return Manifest()
    try:
        with tarfile.open(source, mode="r:") as archive:
            manifest = _manifest_of(archive, source)
            for name in (DATABASE_NAME, KEY_NAME):
                if name in manifest.files:
                    _extract(archive, name, directory / name)
                    _verify(source, name, directory / name, manifest.files[name])
    except (tarfile.TarError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{source}: is no whole backup of a store: {error}") from error
    if DATABASE_NAME not in manifest.files:
        raise StoreError(f"{source}: is no whole backup of a store: it has no {DATABASE_NAME}")
    return manifest


def _manifest_of(archive: tarfile.TarFile, source: Path) -> Manifest:
    member = archive.extractfile(_MANIFEST_NAME)
    try:
        if member is None:
            raise ValueError("is no file")
        with closing(member):
            document = json.loads(member.read(_MOST_MANIFEST_BYTES))
        if document["format"] != _FORMAT:
            raise StoreError(
                f"{source}: has format {document['format']!r}, this release knows {_FORMAT}: restore it by "
                f"release {document.get('release')!r} or a later one"
            )
        return Manifest(**document)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise StoreError(
            f"{source}: is no whole backup of a store: {_MANIFEST_NAME}: {error}"
        ) from error


def _extract(archive: tarfile.TarFile, name: str, path: Path) -> None:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(f"{name} is no file")
    with closing(member), _private(path) as target:
        shutil.copyfileobj(member, target, _CHUNK_BYTES)


def _verify(source: Path, name: str, path: Path, told: Mapping[str, Any]) -> None:
    if path.stat().st_size != told.get("size_bytes") or _digest(path) != told.get("sha256"):
        raise StoreError(f"{source}: {name} in it is not what it was when the backup was made")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size_bytes, 0o600, int(datetime.now(UTC).timestamp())
    return info


def _private(path: Path) -> io.BufferedWriter:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")

"""Where copies lie: a directory that other hosts see, or an S3-compatible bucket.

Both hold small immutable objects under keys of plain parts joined by `/`. An object is complete or not
there at all, and as safe as the store makes it when `put` returns.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit

from foundation.copies.own_thread import OwnThread
from foundation.files_below import open_below

if TYPE_CHECKING:
    from obstore.store import S3Store

_REQUEST_S: Final = 20
_RETRY_S: Final = 10
_RETRIES: Final = 3


class StoreError(Exception):
    """The store cannot be used; one plain sentence without secrets or what a server answered."""


class ObjectExists(StoreError):
    """Somebody else has written it."""


class CopyStore(Protocol):
    """Every method raises StoreError."""

    async def put(self, key: str, data: bytes) -> None:
        """Write an object, or another content of it."""

    async def create(self, key: str, data: bytes) -> None:
        """Write an object that is not there yet: of several who try, one does it. Raises ObjectExists to the
        others, and perhaps to that one, too, when its first answer got lost."""

    async def get(self, key: str) -> bytes:
        """An object's content. Raises StoreError also when there is none."""

    async def start_of(self, key: str, length: int) -> bytes:
        """As `get`, but the first `length` bytes at most."""

    async def names(self, prefix: str) -> list[str]:
        """What lies right below `prefix`, objects and prefixes, sorted; empty when there is nothing."""

    async def remove(self, prefix: str) -> None:
        """Delete everything below `prefix`. Idempotent."""


def open_store(url: str) -> CopyStore:
    """The store at `file:///DIRECTORY` or `s3://BUCKET[/PREFIX]`.

    For a bucket credentials, region and address come from the environment, by the variables that all clients
    of S3 know: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, web identity;
    an authority of its own is trusted by `SSL_CERT_FILE`.

    Raises:
        StoreError: the URL has another form.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc and not parts.query:
        return BucketStore(url)
    raise StoreError("the address of copies should be file:///DIRECTORY or s3://BUCKET[/PREFIX]")


class DirectoryStore:
    """A CopyStore in a directory that several hosts mount. Files are private and synced.

    A mount that hangs takes a thread of ours along, and nothing else.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._thread = OwnThread("copies")

    async def put(self, key: str, data: bytes) -> None:
        try:
            await self._thread.call(self._put, self._root / key, data)
        except OSError as error:
            raise self._failure(error) from error

    async def create(self, key: str, data: bytes) -> None:
        try:
            await self._thread.call(self._create, self._root / key, data)
        except FileExistsError:
            raise ObjectExists(f"{self._root / key} is there already") from None
        except OSError as error:
            raise self._failure(error) from error

    async def get(self, key: str) -> bytes:
        try:
            return await self._thread.call(_read, self._root, key)
        except OSError as error:
            raise self._failure(error) from error

    async def start_of(self, key: str, length: int) -> bytes:
        try:
            return await self._thread.call(_read, self._root, key, length)
        except OSError as error:
            raise self._failure(error) from error

    async def names(self, prefix: str) -> list[str]:
        try:
            names = await self._thread.call(os.listdir, self._root / prefix)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failure(error) from error
        return sorted(name for name in names if not name.startswith("."))

    async def remove(self, prefix: str) -> None:
        try:
            await self._thread.call(shutil.rmtree, self._root / prefix)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failure(error) from error

    def _put(self, path: Path, data: bytes) -> None:
        temporary = path.with_name("." + path.name)
        _write(temporary, data)
        temporary.replace(path)

    def _create(self, path: Path, data: bytes) -> None:
        # A link is made once, on file systems of networks as well; what it names is complete.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            _write(temporary, data)
            path.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(f"{self._root}: {error.strerror or str(error)}")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(root: Path, key: str, length: int = -1) -> bytes:
    """Jobs write there: a link leads nowhere."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = open_below(folder, key)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(length)


class BucketStore:
    """A CopyStore in a bucket, by obstore: one small library, asynchronous, for every dialect of S3."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: S3Store | None = None

    async def put(self, key: str, data: bytes) -> None:
        import obstore

        with self._errors_of("write"):
            await obstore.put_async(self._store, key, data)

    async def create(self, key: str, data: bytes) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._errors_of("write"):
            try:
                await obstore.put_async(self._store, key, data, mode="create")
            except AlreadyExistsError:
                raise ObjectExists(f"{self._url}: {key} is there already") from None

    async def get(self, key: str) -> bytes:
        import obstore

        with self._errors_of("read"):
            answer = await obstore.get_async(self._store, key)
            return bytes(await answer.bytes_async())

    async def start_of(self, key: str, length: int) -> bytes:
        import obstore

        with self._errors_of("read"):
            return bytes(await obstore.get_range_async(self._store, key, start=0, length=length))

    async def names(self, prefix: str) -> list[str]:
        import obstore

        with self._errors_of("list"):
            found = await obstore.list_with_delimiter_async(self._store, prefix or None)
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return sorted(PurePosixPath(path).name for path in paths)

    async def remove(self, prefix: str) -> None:
        import obstore

        with self._errors_of("delete"):
            async for batch in obstore.list(self._store, prefix=prefix):
                await obstore.delete_async(self._store, [entry["path"] for entry in batch])

    @property
    def _store(self) -> S3Store:
        if self._opened is None:
            from obstore.store import S3Store

            self._opened = S3Store.from_url(
                self._url,
                client_options={"allow_http": True, "timeout": f"{_REQUEST_S}s"},
                retry_config={
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=_RETRY_S),
                },
            )
        return self._opened

    @contextmanager
    def _errors_of(self, what: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (OSError, BaseError) as error:
            # Its text repeats what the server said.
            raise StoreError(f"{self._url}: cannot {what}: {type(error).__name__}") from None

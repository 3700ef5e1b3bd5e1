"""What is in a job's volume, read through the engine's archives: no access to the engine's disk is needed.

Every function blocks. Archives come from the job's own container, running or not, or, when somebody removed
that, from a container that is made for the look and never started.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from docker.errors import APIError

from offloader.backends.base import Artifact
from offloader.backends.docker.container import DATA_DIR, OWN_FILES_DIR, plan_look
from offloader.backends.docker.engine import Engine, EngineError
from offloader.backends.docker.options import Reference
from offloader.errors import BackendError

_CHUNK_BYTES: Final = 256 * 1024
_MOST_FILES: Final = 1000
_LONGEST_WALK_S: Final = 120.0
_GO_MODE_TYPE: Final = 0x8F280000
"""Any of these bits of Go's os.FileMode: not a plain file (os.ModeType)."""
_GO_MODE_DIR: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a volume."""

    name: str
    """Below /data."""
    size_bytes: int
    plain: bool
    """A regular file."""
    modified_s: float = 0.0
    directory: bool = False


@contextmanager
def opened(engine: Engine, reference: Reference) -> Iterator[str | None]:
    """A container through which the volume can be read; None when there is no volume any more."""
    if engine.container(reference.volume) is not None:
        yield reference.volume
        return
    if engine.volume(reference.volume) is None:
        yield None
        return
    name = f"{reference.volume}-look-{secrets.token_hex(4)}"
    engine.client.create_container_from_config(plan_look(reference), name)
    try:
        yield name
    finally:
        engine.client.remove_container(name, v=True, force=True)


def walk(engine: Engine, container: str) -> Iterator[Entry]:
    """Everything below /data, as far as the caller goes; file contents pass by unread."""
    give_up_s = time.monotonic() + _LONGEST_WALK_S
    with (
        engine.archive(container, DATA_DIR) as response,
        tarfile.open(fileobj=response.raw, mode="r|", bufsize=_CHUNK_BYTES) as tar,
    ):
        for member in tar:
            if time.monotonic() > give_up_s:
                raise EngineError(f"{container}: its files take too long to list")
            name = member.name.partition("/")[2]
            if name and not f"{DATA_DIR}/{name}/".startswith(f"{OWN_FILES_DIR}/"):
                yield Entry(name, member.size, member.isreg(), member.mtime, member.isdir())


def has_unpublished(engine: Engine, reference: Reference) -> bool:
    """Whether a result is left (docs/job-contract.md 4). A volume that cannot be looked into, because its
    image is gone too, counts as one: better kept for nothing than lost."""
    try:
        return first_result(engine, reference) is not None
    except APIError:
        return True


def first_result(engine: Engine, reference: Reference) -> str | None:
    """Path of a directory with a `job.json`, as the job sees it; None: everything is published."""
    with opened(engine, reference) as container:
        if container is None:
            return None
        if reference.result:
            directory = f"{DATA_DIR}/{reference.result}"
            found = engine.path_status(container, f"{directory}/job.json")
            return directory if found is not None else None
        for entry in walk(engine, container):
            directory, _, name = entry.name.partition("/")
            if name == "job.json" and entry.plain:
                return f"{DATA_DIR}/{directory}"
    return None


def list_artifacts(engine: Engine, reference: Reference) -> list[Artifact]:
    """The plain files with printable names, by name."""
    with opened(engine, reference) as container:
        if container is None:
            return []
        found = [
            Artifact(entry.name, entry.size_bytes, f"{entry.modified_s}-{entry.size_bytes:x}")
            for entry in walk(engine, container)
            if entry.plain and entry.name.isprintable()
        ]
    return sorted(found, key=lambda artifact: artifact.name)[:_MOST_FILES]


def holds_files(engine: Engine, reference: Reference) -> bool:
    """Whether anything but directories is in it, be it listed as an artifact or not."""
    with opened(engine, reference) as container:
        return container is not None and any(
            not entry.directory for entry in walk(engine, container)
        )


def read_artifact(
    engine: Engine, reference: Reference, name: str, *, start: int = 0
) -> Iterator[bytes]:
    """A plain file below /data from byte `start` on, in chunks; what is before it passes by unread.

    Raises:
        BackendError: with the first chunk: there is no such file; links are not followed.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..", ".offloader") or "\0" in part for part in parts):
        raise BackendError(f"no file {name!r}")
    with opened(engine, reference) as container:
        if container is None or not _is_plain_file(engine, container, parts):
            raise BackendError(f"no file {name!r}")
        with (
            engine.archive(container, f"{DATA_DIR}/{name}") as response,
            tarfile.open(fileobj=response.raw, mode="r|", bufsize=_CHUNK_BYTES) as tar,
        ):
            member = tar.next()
            content = tar.extractfile(member) if member is not None and member.isreg() else None
            if content is None:
                raise BackendError(f"no file {name!r}")
            while start > 0 and (skipped := content.read(min(start, _CHUNK_BYTES))):
                start -= len(skipped)  # the stream cannot seek
            while chunk := content.read(_CHUNK_BYTES):
                yield chunk


def put_files(engine: Engine, container: str, files: Mapping[str, bytes]) -> None:
    """Write the service's own files, named as the job sees them, into a container's volume."""
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        folder = tarfile.TarInfo(OWN_FILES_DIR.removeprefix(f"{DATA_DIR}/"))
        folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
        tar.addfile(folder)
        for path, content in files.items():
            member = tarfile.TarInfo(path.removeprefix(f"{DATA_DIR}/"))
            member.size, member.mode, member.mtime = len(content), 0o644, int(time.time())
            tar.addfile(member, io.BytesIO(content))
    engine.client.put_archive(container, DATA_DIR, tar_bytes.getvalue())


def read_document(engine: Engine, container: str, path: str) -> dict[str, Any] | None:
    """A small JSON object, or None when there is none."""
    if engine.path_status(container, path) is None:
        return None
    with (
        engine.archive(container, path) as response,
        tarfile.open(fileobj=response.raw, mode="r|") as tar,
    ):
        member = tar.next()
        content = tar.extractfile(member) if member is not None and member.isreg() else None
        try:
            document = json.loads(content.read(_CHUNK_BYTES)) if content is not None else None
        except (ValueError, RecursionError):
            return None
    return document if isinstance(document, dict) else None


def _is_plain_file(engine: Engine, container: str, parts: list[str]) -> bool:
    """Looked at part by part: the engine itself would follow a link within the container."""
    for depth in range(1, len(parts) + 1):
        status = engine.path_status(container, "/".join((DATA_DIR, *parts[:depth])))
        mode = 0 if status is None else int(status["mode"])
        wanted_type = _GO_MODE_DIR if depth < len(parts) else 0
        if status is None or mode & _GO_MODE_TYPE != wanted_type:
            return False
    return True

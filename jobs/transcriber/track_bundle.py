"""What is to be transcribed elsewhere of one speaker, as one file, and what comes back.

There: a tar archive of `task.json` and the captures that it names, each with its index
(`jobs.transcriber.capture`). Back: a JSON document of segments. Who carries the two looks into neither.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from jobs.transcriber.capture import INDEX_SUFFIX, CapturedTrack
from jobs.transcriber.engines.hints import Hints
from jobs.transcriber.listening import UtteranceEnded
from jobs.transcriber.transcript import Segment, TranscriptWord

_TASK: Final = "task.json"
_VERSION: Final = 1
_DAMAGE: Final = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


class BundleError(ValueError):
    """It is not what this module writes; the message says where, and nothing of what was said."""


@dataclass(frozen=True, slots=True)
class TrackTask:
    """How to transcribe it: the part of the job's settings that matters, and what engines are told."""

    model: str
    """Name of a folder in MODELS_DIR, as `MODEL_SIZE`."""
    compute_type: str
    threads: int
    """What the job would have used; fewer where there are not so many processors."""
    languages: str
    hints: Hints = field(repr=False)
    """Names and vocabulary."""


@dataclass(frozen=True, slots=True)
class TrackResult:
    """What was understood, and with what."""

    engine: dict[str, str]
    """See `jobs.transcriber.models.engine_used`."""
    segments: list[Segment] = field(repr=False)


def pack(
    task: TrackTask, captures: Sequence[tuple[Path, list[UtteranceEnded]]], *, directory: Path
) -> IO[bytes]:
    """The bundle, as a file without a name on the disk of `directory`, to be read from its start. Blocks.

    Raises:
        OSError: a capture cannot be read, or there is no room for a second copy of it.
    """
    document = {
        "version": _VERSION,
        **asdict(task),
        "captures": [[astuple(utterance) for utterance in ended] for _, ended in captures],
    }
    file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - the caller closes what it gets
    try:
        with tarfile.open(fileobj=file, mode="w") as archive:
            _add(archive, _TASK, json.dumps(document).encode())
            for number, (path, _) in enumerate(captures):
                # The index first: it must not speak of sound that came after the copy of the file.
                index = path.with_name(path.name + INDEX_SUFFIX)
                _add(archive, f"{number}.ogg{INDEX_SUFFIX}", index.read_bytes())
                with path.open("rb") as source:
                    entry = tarfile.TarInfo(f"{number}.ogg")
                    entry.size = os.fstat(source.fileno()).st_size
                    archive.addfile(entry, source)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def unpack(
    bundle: Path, directory: Path
) -> tuple[TrackTask, list[tuple[CapturedTrack, list[UtteranceEnded]]]]:
    """The task, and its captures, which are written to `directory`. Blocks.

    Raises:
        BundleError: it is damaged, or another version's.
        OSError: it cannot be read, or its content not be written.
    """
    try:
        with tarfile.open(bundle, mode="r:") as archive:
            document = json.loads(_content(archive, _TASK))
            if document.get("version") != _VERSION:
                raise BundleError(
                    f"{_TASK}: version {document.get('version')!r}: should be {_VERSION}"
                )
            task = TrackTask(
                model=str(document["model"]),
                compute_type=str(document["compute_type"]),
                threads=int(document["threads"]),
                languages=str(document["languages"]),
                hints=Hints(**document["hints"]),
            )
            captures = []
            for number, ended in enumerate(document["captures"]):
                for name in (f"{number}.ogg", f"{number}.ogg{INDEX_SUFFIX}"):
                    _write(archive, name, directory)
                track = CapturedTrack(directory / f"{number}.ogg")
                captures.append((track, [UtteranceEnded(*map(int, times)) for times in ended]))
    except (tarfile.TarError, *_DAMAGE) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"the bundle is damaged ({type(error).__name__})") from None
    return task, captures


def result_text(result: TrackResult) -> str:
    """The document for `read_result`."""
    segments = [asdict(segment) for segment in result.segments]
    return json.dumps({"version": _VERSION, "engine": result.engine, "segments": segments})


def read_result(content: bytes) -> TrackResult:
    """What `result_text` wrote.

    Raises:
        BundleError: it is damaged, or another version's.
    """
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            raise BundleError(f"the result's version {document['version']!r}: should be {_VERSION}")
        engine = {str(key): str(value) for key, value in document["engine"].items()}
        return TrackResult(engine, [_segment(entry) for entry in document["segments"]])
    except _DAMAGE as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"the result is damaged ({type(error).__name__})") from None


def _segment(entry: dict[str, Any]) -> Segment:
    return Segment(
        session_id=str(entry["session_id"]),
        user_id=str(entry["user_id"]),
        start_ns=int(entry["start_ns"]),
        end_ns=int(entry["end_ns"]),
        text=str(entry["text"]),
        language=str(entry["language"]),
        words=tuple(
            TranscriptWord(
                str(word["text"]),
                int(word["start_ns"]),
                int(word["end_ns"]),
                float(word["probability"]),
            )
            for word in entry["words"]
        ),
        failure=str(entry["failure"]),
    )


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _write(archive: tarfile.TarFile, name: str, directory: Path) -> None:
    # Not `extract`: that would also make links and devices, unless its filters are there (Python 3.11.4).
    with _member(archive, name) as source, (directory / name).open("wb") as target:
        shutil.copyfileobj(source, target)


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    with _member(archive, name) as member:
        return member.read()


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    entry = archive.getmember(name)
    member = archive.extractfile(entry) if entry.isfile() else None  # it would follow a link
    if member is None:
        raise BundleError(f"{name} is no file")
    return member

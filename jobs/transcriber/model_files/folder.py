"""One folder with a model: is everything in it that the engine needs, and is it what its manifest says.

A manifest is `SHA256SUMS` as `sha256sum` writes and checks it, in the model's folder or anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.transcriber.model_files.binary import (
    WHISPER,
    ModelBinary,
    ModelFileError,
    read_model_binary,
)

MODEL: Final = "model.bin"
MANIFEST: Final = "SHA256SUMS"
_VOCABULARIES: Final = ("vocabulary.json", "vocabulary.txt")
_USUAL_MELS: Final = 80
_LINE: Final = re.compile(r"([0-9a-f]{64})[ ][ *](.+)")
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Folder:
    """A model as it lies there."""

    name: str
    path: str
    """With links resolved."""
    size_bytes: int
    hashes: Mapping[str, str]
    """SHA-256 of each file, by its name."""
    stored_as: str
    problems: tuple[str, ...]
    """What keeps the engine from using it, or differs from the manifest; empty: all is well."""
    manifest: str
    """What it was compared with; empty: nothing."""


def find_folders(models_dir: Path) -> Iterator[Path]:
    """Every folder with a `model.bin`, by name."""
    for path in sorted(models_dir.iterdir()):
        if (path / MODEL).is_file():
            yield path


def look_at(path: Path, *, manifest: Path | None = None) -> Folder:
    """Read all files of a model once. Blocks: a gigabyte takes seconds.

    `manifest` takes the place of the folder's own one; its lines may name files with the model's folder
    before them.

    Raises:
        OSError: something cannot be read.
        ModelFileError: a line of the manifest is none.
    """
    own = path / MANIFEST
    used = manifest or (own if own.is_file() else None)
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name != MANIFEST)
    hashes = {file.name: sha256(file) for file in files}
    binary, problems = _structure(path)
    if used is not None:
        problems += _differences(hashes, read_manifest(used, path.name))
    return Folder(
        name=path.name,
        path=str(path.resolve()),
        size_bytes=sum(file.stat().st_size for file in files),
        hashes=hashes,
        stored_as=binary.stored_as if binary else "",
        problems=tuple(problems),
        manifest=str(used or ""),
    )


def read_manifest(path: Path, model: str) -> dict[str, str]:
    """Hashes by file name, of this model only.

    Raises:
        OSError: it cannot be read.
        ModelFileError: a line is not as sha256sum writes it.
    """
    hashes: dict[str, str] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            text = "should be a SHA-256 in hexadecimal digits, two spaces, a file's name"
            raise ModelFileError(f"{path}, line {number}: {text}")
        *parents, name = match[2].removeprefix("./").split("/")
        if not parents or parents[-1] == model:
            hashes[name] = match[1]
    return hashes


def write_manifest(path: Path) -> None:
    """`SHA256SUMS` of a model's folder."""
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name != MANIFEST)
    lines = [f"{sha256(file)}  {file.name}\n" for file in files]
    (path / MANIFEST).write_text("".join(lines))


def sha256(path: Path) -> str:
    """In hexadecimal digits. Blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _structure(path: Path) -> tuple[ModelBinary | None, list[str]]:
    """What the engine would stumble over."""
    problems = []
    try:
        binary = read_model_binary(path / MODEL)
    except ModelFileError as error:
        return None, [f"{MODEL}: {error}"]
    except FileNotFoundError:
        return None, [
            f"{MODEL} is missing: this is no CTranslate2 folder (offloader models convert)"
        ]
    if binary.kind != WHISPER:
        problems.append(f"{MODEL}: it is of the kind {binary.kind}, should be {WHISPER}")
    for name in ("config.json", "tokenizer.json"):
        if _json(path / name) is None:
            without = ": the engine would fetch one from the network" if "tok" in name else ""
            problems.append(f"{name} is missing or no JSON{without}")
    tokens = _vocabulary_size(path)
    if tokens is None:
        problems.append(f"{' or '.join(_VOCABULARIES)} is missing or cannot be read")
    elif binary.tokens and tokens != binary.tokens:
        problems.append(f"the vocabulary has {tokens} tokens, {MODEL} has {binary.tokens}")
    told = _json(path / "preprocessor_config.json")
    mels = told.get("feature_size", _USUAL_MELS) if isinstance(told, dict) else _USUAL_MELS
    if binary.mels and mels != binary.mels:
        problems.append(
            f"preprocessor_config.json: feature_size is {mels}, {MODEL} listens to {binary.mels} bands"
            if told
            else f"preprocessor_config.json is missing: {MODEL} listens to {binary.mels} bands, not to {mels}"
        )
    return binary, problems


def _differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    if not wanted:
        yield "the manifest names none of its files"
    for name, digest in wanted.items():
        if name not in found:
            yield f"{name} is in the manifest, and missing here"
        elif found[name] != digest:
            yield f"{name}: its SHA-256 is {found[name]}, the manifest says {digest}"
    for name in found.keys() - wanted.keys() if wanted else ():
        yield f"{name} is not in the manifest"


def _vocabulary_size(path: Path) -> int | None:
    tokens = _json(path / _VOCABULARIES[0])
    if isinstance(tokens, list):
        return len(tokens)
    try:
        with (path / _VOCABULARIES[1]).open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return None


def _json(path: Path) -> Any:
    """None: not there, or not to be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None

"""The header of CTranslate2's `model.bin`, and whether the file is whole.

The format, little-endian, as `ctranslate2.specs.ModelSpec` writes it: version (u32), name of the
architecture, its revision (u32), number of variables (u32); each variable: name, number of dimensions (u8),
dimensions (u32 each), type (u8), size in bytes (u32), data; then the number of aliases (u32) and two names
for each. A name is its length with a closing zero (u16), and its bytes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

WHISPER: Final = "WhisperSpec"
_VERSIONS: Final = range(2, 7)
"""Of the file's format; CTranslate2 4 reads those up to 6."""
_TYPES: Final = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16", 5: "bfloat16"}
_MOST_VARIABLES: Final = 100_000
_EMBEDDINGS: Final = "decoder/embeddings/weight"
_CONVOLUTION: Final = "encoder/conv1/weight"


class ModelFileError(ValueError):
    """The file cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class ModelBinary:
    """What the file says of itself."""

    kind: str
    stored_as: str
    """Type of the largest part of the weights, such as `int8`."""
    tokens: int
    """Size of the vocabulary; 0 when there are no embeddings."""
    mels: int
    """Bands of the spectrogram that it listens to; 0 when there is no such layer."""


def read_model_binary(path: Path) -> ModelBinary:
    """Walk through all variables without reading their data. Blocks for milliseconds.

    Raises:
        ModelFileError: it is no model of this format, or it is cut short.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read(file, size)
        except (struct.error, UnicodeDecodeError, IndexError):
            raise ModelFileError("it is cut short or no file of CTranslate2") from None


def _read(file: BinaryIO, size: int) -> ModelBinary:
    (version,) = _numbers(file, "<I")
    if version not in _VERSIONS:
        raise ModelFileError("it is no file of CTranslate2, or of a later release of it")
    kind = _name(file)
    _revision, count = _numbers(file, "<II")
    if count > _MOST_VARIABLES:
        raise ModelFileError("it is no file of CTranslate2")
    bytes_of: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(count):
        name = _name(file)
        (dimensions,) = _numbers(file, "<B")
        shapes[name] = _numbers(file, f"<{dimensions}I")
        type_id, data_bytes = _numbers(file, "<BI")
        stored = _TYPES.get(type_id, f"type {type_id}")
        bytes_of[stored] = bytes_of.get(stored, 0) + data_bytes
        if file.seek(data_bytes, os.SEEK_CUR) > size:
            raise ModelFileError(f"it is cut short: {size} bytes, and {name} goes on")
    (aliases,) = _numbers(file, "<I")
    for _ in range(2 * aliases):
        _name(file)
    if file.tell() != size:
        raise ModelFileError(f"{size - file.tell()} bytes follow its end")
    return ModelBinary(
        kind=kind,
        stored_as=max(bytes_of, key=lambda stored: bytes_of[stored], default="nothing"),
        tokens=shapes.get(_EMBEDDINGS, (0,))[0],
        mels=(shapes.get(_CONVOLUTION) or (0, 0))[1],
    )


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _name(file: BinaryIO) -> str:
    (length,) = _numbers(file, "<H")
    data = file.read(length)
    if len(data) < length:
        raise struct.error
    return data.rstrip(b"\0").decode()

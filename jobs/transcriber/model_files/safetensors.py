"""Reads tensors from safetensors files: numbers and nothing else, so that reading one never runs anything.

The format: length of the header (u64, little-endian), header (JSON: name → `dtype`, `shape`,
`data_offsets`), data. A model in several files has `model.safetensors.index.json`, whose `weight_map` says
which tensor is in which.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.model_files.binary import ModelFileError

Array = NDArray[Any]
_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_MOST_HEADER_BYTES: Final = 64 << 20
_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9._-]+\.safetensors")


class Tensors:
    """All tensors of one model; each is read when it is asked for."""

    def __init__(self, model_dir: Path) -> None:
        """Reads the headers.

        Raises:
            ModelFileError: there is no such file, only pickled weights, or one is broken.
            OSError: one cannot be read.
        """
        self._places: dict[str, tuple[Path, Mapping[str, Any], int]] = {}
        for path in _files(model_dir):
            header, start = _header(path)
            for name, entry in header.items():
                if name != "__metadata__":
                    self._places[name.removeprefix("model.")] = (path, entry, start)
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Array:
        """A tensor as float32 or float16, as it is stored (bfloat16 becomes float32).

        Raises:
            ModelFileError: there is none, or it has another shape or type.
        """
        if name not in self._places:
            raise ModelFileError(f"the tensor {name} is missing: is this a Whisper model?")
        self._asked.add(name)
        path, entry, start = self._places[name]
        stored: np.dtype[Any]
        try:
            stored, size = _TYPES[entry["dtype"]], tuple(entry["shape"])
        except (KeyError, TypeError):
            text = f"should be one of {', '.join(_TYPES)}"
            raise ModelFileError(f"{path.name}: {name}: its type {text}") from None
        first, end = _place(entry)
        if shape is not None and size != shape:
            raise ModelFileError(f"{name} has the shape {size}, config.json means {shape}")
        whole = all(isinstance(length, int) and length >= 0 for length in size)
        count = math.prod(size) if whole else -1
        if first < 0 or end - first != count * stored.itemsize:
            raise ModelFileError(f"{path.name}: {name} is not as long as its shape says")
        # Memory is asked for only after that: a header may say anything.
        if start + end > path.stat().st_size:
            raise ModelFileError(f"{path.name} is cut short")
        values: Array = np.fromfile(path, stored, count, offset=start + first)
        if entry["dtype"] == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(size)

    @property
    def left(self) -> list[str]:
        """What nobody has asked for."""
        return sorted(self._places.keys() - self._asked)


def _files(model_dir: Path) -> list[Path]:
    if (model_dir / _SINGLE).is_file():
        return [model_dir / _SINGLE]
    index = model_dir / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelFileError(f"{_INDEX} has no weight_map") from None
        for name in names:
            if not (isinstance(name, str) and _FILE_NAME.fullmatch(name)):
                raise ModelFileError(f"{_INDEX} names {name!r}: should be a file beside it")
            if not (model_dir / name).is_file():
                raise ModelFileError(f"{name} is missing, which {_INDEX} names")
        return [model_dir / name for name in names]
    pickled = sorted(
        path.name for end in ("bin", "pt", "pth") for path in model_dir.glob(f"*.{end}")
    )
    if (model_dir / "model.bin").is_file() and (model_dir / "vocabulary.json").is_file():
        raise ModelFileError("this is a CTranslate2 folder already: copy it as it is")
    if pickled:
        raise ModelFileError(
            f"there are only pickled weights ({', '.join(pickled)}): reading them may run whatever is in "
            f"them, so they are refused; fetch {_SINGLE} of the same model instead"
        )
    raise ModelFileError(f"no {_SINGLE} in it")


def _place(entry: Mapping[str, Any]) -> tuple[int, int]:
    """First byte and the one after the last; what makes no sense is a place that no tensor has."""
    match entry.get("data_offsets"):
        case [int(first), int(end)]:
            return first, end
    return -1, -1


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _MOST_HEADER_BYTES:
            raise ModelFileError(f"{path.name} is no safetensors file")
        data = file.read(length)
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not all(isinstance(e, dict) for e in header.values()):
        raise ModelFileError(f"{path.name} is no safetensors file, or cut short")
    return header, 8 + length

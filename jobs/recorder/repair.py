"""What a file that was cut off holds, by its boxes (ISO/IEC 14496-12 section 4.2). Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_HEADER_BYTES: Final = 8
_LARGE_HEADER_BYTES: Final = 16


def playable_bytes(path: Path) -> int:
    """Up to where the file is whole: the end of the last samples (`mdat`) that have a description. 0: nothing
    can be played, there is no such file. Raises OSError."""
    end, described = 0, False
    try:
        with path.open("rb") as file:
            for kind, box_end in _whole_boxes(file, path.stat().st_size):
                described = described or kind == b"moov"
                if kind == b"mdat":  # a `moof` without samples is of no use
                    end = box_end
    except FileNotFoundError:
        return 0
    return end if described else 0


def cut_to_playable(path: Path) -> None:
    """Cut off what the file's writer did not finish. Raises OSError."""
    size_bytes = playable_bytes(path)
    with path.open("r+b") as file:
        file.truncate(size_bytes)


def _whole_boxes(file: BinaryIO, size_bytes: int) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + _HEADER_BYTES <= size_bytes:
        file.seek(at)
        header = file.read(_LARGE_HEADER_BYTES)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1 and len(header) == _LARGE_HEADER_BYTES:
            length = int.from_bytes(header[8:])
        if length < _HEADER_BYTES or at + length > size_bytes:
            return
        at += length
        yield kind, at

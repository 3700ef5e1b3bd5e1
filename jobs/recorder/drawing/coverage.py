"""Which characters a font file has, read from its `cmap` table (OpenType specification, chapter "cmap").

Pillow does not tell; without it a name in another script would be a row of boxes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

_UNICODE_TABLES: Final = ((3, 10), (0, 6), (0, 4), (3, 1), (0, 3), (0, 2), (0, 1), (0, 0))
"""(platform, encoding), the fullest first."""


class FontFileError(ValueError):
    """Not a font file with a table of characters; the message names it."""


def read_coverage(path: Path) -> frozenset[int]:
    """Code points that have a glyph; of a collection (`.ttc`) those of its first font.

    Raises:
        FontFileError: cannot be read as a font.
        OSError: cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
            start = 0
            if head[:4] == b"ttcf":
                (start,) = struct.unpack(">I", file.read(4))
                file.seek(start)
                head = file.read(12)
            (tables,) = struct.unpack(">H", head[4:6])
            offset, length = _find_cmap(file.read(16 * tables))
            file.seek(offset)
            return _read_cmap(file.read(length))
    except (struct.error, IndexError, KeyError) as error:
        raise FontFileError(f"{path}: no font with a table of characters") from error


def _find_cmap(directory: bytes) -> tuple[int, int]:
    for at in range(0, len(directory), 16):
        tag, _, offset, length = struct.unpack_from(">4sIII", directory, at)
        if tag == b"cmap":
            return offset, length
    raise KeyError("cmap")


def _read_cmap(table: bytes) -> frozenset[int]:
    (count,) = struct.unpack_from(">H", table, 2)
    found = {}
    for number in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", table, 4 + 8 * number)
        found[platform, encoding] = offset
    for key in _UNICODE_TABLES:
        if key in found:
            part = table[found[key] :]
            (kind,) = struct.unpack_from(">H", part)
            if kind == 4:
                return _segments(part)
            if kind == 12:
                return _groups(part)
    raise KeyError("no Unicode table of format 4 or 12")


def _segments(table: bytes) -> frozenset[int]:
    """Format 4: segments of the first 65,536 code points."""
    count = struct.unpack_from(">H", table, 6)[0] // 2
    ends = struct.unpack_from(f">{count}H", table, 14)
    starts = struct.unpack_from(f">{count}H", table, 16 + 2 * count)
    deltas = struct.unpack_from(f">{count}H", table, 16 + 4 * count)
    at = 16 + 6 * count
    offsets = struct.unpack_from(f">{count}H", table, at)
    points: set[int] = set()
    for number in range(count):
        first, last = starts[number], ends[number]
        if first > last or first == 0xFFFF:
            continue
        if offsets[number] == 0:
            missing = -deltas[number] % 0x10000  # the one that maps to glyph 0
            points.update(p for p in range(first, last + 1) if p != missing)
            continue
        glyphs = at + 2 * number + offsets[number]
        values = struct.unpack_from(f">{last - first + 1}H", table, glyphs)
        points.update(first + index for index, glyph in enumerate(values) if glyph)
    return frozenset(points)


def _groups(table: bytes) -> frozenset[int]:
    """Format 12: ranges of all code points."""
    (count,) = struct.unpack_from(">I", table, 12)
    points: set[int] = set()
    for number in range(count):
        first, last, _ = struct.unpack_from(">III", table, 16 + 12 * number)
        points.update(range(first, last + 1))
    return frozenset(points)

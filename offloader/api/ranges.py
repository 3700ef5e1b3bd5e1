"""Which part of a file a request wants (RFC 9110, 13.1.5 and 14): one range of bytes, or all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers

_RANGE: Final = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE)

_MOST_DIGITS: Final = 19


class Unsatisfiable(Exception):
    """Nothing of the range is in the file: 416."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """From `start` up to but not including `end`."""

    start: int
    end: int

    def content_range(self, size_bytes: int) -> str:
        """The header's value: counted inclusively there."""
        return f"bytes {self.start}-{self.end - 1}/{size_bytes}"


def wanted_range(headers: Headers, *, size_bytes: int, etag: str) -> ByteRange | None:
    """The range, or None for the whole file: without `Range`, with one that is none or has several parts,
    and when `If-Range` names another version of the file than `etag` (empty: no version is known).

    Raises:
        Unsatisfiable: it begins past the end, or wants the last 0 bytes.
    """
    values = headers.getlist("range")
    match = _RANGE.fullmatch(values[0]) if len(values) == 1 else None
    condition = headers.get("if-range")
    if match is None or (condition is not None and not (etag and condition.strip() == etag)):
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        wanted = ByteRange(max(size_bytes - _number(suffix), 0), size_bytes)
    elif last and _number(last) < _number(first):
        return None  # no range at all, so it is as if it were not there
    else:
        end = min(_number(last) + 1, size_bytes) if last else size_bytes
        wanted = ByteRange(_number(first), end)
    if wanted.start >= size_bytes:
        raise Unsatisfiable
    return wanted


def _number(digits: str) -> int:
    """More than any file has counts as just that: Python refuses to read numbers of thousands of digits."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _MOST_DIGITS else 10**_MOST_DIGITS

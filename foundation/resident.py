"""Gives back resident memory that only the start of a process needed; Linux (proc(5), madvise(2)).

Importing touches most pages of every shared library: relocations, tables, initialisation. Much of it is never
looked at again, but stays resident until the host is short of memory.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_SMAPS: Final = Path("/proc/self/smaps")
_DONTNEED: Final = 4
"""MADV_DONTNEED: the same on every architecture of Linux but one (alpha)."""
_WORTH_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class _Mapping:
    start: int
    end: int
    droppable: bool
    """Of a library or the program, private, never writable: what is dropped comes back from the file as it
    was. Other files may be unmapped by another thread at any moment, and something else be there."""
    rss_bytes: int = 0
    own_bytes: int = 0
    """Of pages that are not the file's any more, as relocations make them: those must not be dropped."""


def give_back_unused() -> int:
    """Drop the pages of libraries' code and tables, and those of the heap that hold nothing.

    What is in use comes back from the page cache with the next access, 16 pages at a time. Takes some 20 ms;
    call it when everything is loaded. Returns the bytes of libraries that were dropped; 0 where the system
    cannot do that. Never raises.
    """
    libc = _libc()
    if libc is None:
        return 0
    dropped = 0
    with suppress(OSError, ValueError):
        for found in list(_mappings()):
            if not found.droppable or found.own_bytes or found.rss_bytes < _WORTH_BYTES:
                continue
            size = found.end - found.start
            address = ctypes.c_void_p(found.start)
            if libc.madvise(address, ctypes.c_size_t(size), _DONTNEED) == 0:
                dropped += found.rss_bytes
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    return dropped


def _mappings() -> Iterator[_Mapping]:
    current = None
    with _SMAPS.open() as lines:
        for line in lines:
            key, _, rest = line.partition(" ")
            if key == "Rss:" and current is not None:
                current.rss_bytes = _kilobytes(rest)
            elif key == "Anonymous:" and current is not None:
                current.own_bytes = _kilobytes(rest)
            elif not key.endswith(":"):
                if current is not None:
                    yield current
                current = _mapping(key, rest)
    if current is not None:
        yield current


def _mapping(span: str, rest: str) -> _Mapping:
    """From the first line of an entry: span, permissions, offset, device, inode, name."""
    start, end = (int(part, 16) for part in span.split("-"))
    permissions, _, _, inode, *names = rest.split(maxsplit=4)
    name = names[0].strip() if names else ""
    code = inode != "0" and (".so" in Path(name).name or name == _program())
    return _Mapping(start, end, code and permissions[1] == "-" and permissions[3] == "p")


@cache
def _program() -> str:
    return os.path.realpath("/proc/self/exe")


def _kilobytes(text: str) -> int:
    return int(text.split()[0]) * 1024


@cache
def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        libc.madvise.restype = ctypes.c_int
    except (OSError, AttributeError):
        return None
    return libc

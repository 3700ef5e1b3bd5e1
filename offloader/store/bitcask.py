"""Reads the key-value files of the reference's store (prologic/bitcask), which are never written.

A directory of data files, `000000000.data` and up, each a log of records; the newest record of a key counts,
one without a value deletes it. A record, integers big-endian:

    key length u32 | value length u64 | key | value | CRC-32 (IEEE) of the value u32 | expiry u64

The expiry (seconds since the epoch, 0 = never) is there since version 1; earlier versions end with the CRC.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DATA_FILE: Final = re.compile(r"[0-9]{9}\.data")
_HEAD: Final = struct.Struct(">IQ")
_TAILS: Final = (struct.Struct(">IQ"), struct.Struct(">I"))
"""CRC with and without expiry."""
_LONGEST_KEY: Final = 1024
"""The reference allows 128."""
_LONGEST_VALUE: Final = 1 << 20
"""The reference allows 64 KiB."""
_LARGEST_FILE: Final = 64 << 20
"""It begins a new file at 1 MiB."""


@dataclass(frozen=True, slots=True)
class BitcaskContent:
    """What could be read."""

    values: Mapping[bytes, bytes]
    """Every key that is not deleted or expired, with its newest value."""
    problems: Sequence[str]
    """What could not, by file and place."""


@dataclass(frozen=True, slots=True)
class _Log:
    """The records of one file up to the first that is none."""

    records: Sequence[tuple[bytes, bytes, int]]
    """Key, value, expiry in seconds."""
    read_bytes: int


def is_bitcask(directory: Path) -> bool:
    """Are there data files?"""
    return bool(_data_files(directory))


def read_bitcask(directory: Path, *, now_s: float) -> BitcaskContent:
    """The store's content. Blocks. A file is read up to a record that is damaged or was never completed.

    Raises:
        OSError: a file cannot be read.
    """
    values: dict[bytes, bytes] = {}
    problems: list[str] = []
    for path in _data_files(directory):
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            problems.append(f"{path.name}: larger than {_LARGEST_FILE >> 20} MiB")
            continue
        data = path.read_bytes()
        log = max((_parse(data, tail) for tail in _TAILS), key=lambda log: log.read_bytes)
        if log.read_bytes < len(data):
            problems.append(f"{path.name}: no record at byte {log.read_bytes} of {len(data)}")
        for key, value, expires_s in log.records:
            if value and not 0 < expires_s <= now_s:
                values[key] = value
            else:
                values.pop(key, None)
    return BitcaskContent(values, problems)


def _data_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if _DATA_FILE.fullmatch(path.name))


def _parse(data: bytes, tail: struct.Struct) -> _Log:
    records: list[tuple[bytes, bytes, int]] = []
    offset = 0
    while offset + _HEAD.size <= len(data):
        key_size, value_size = _HEAD.unpack_from(data, offset)
        if not 0 < key_size <= _LONGEST_KEY or value_size > _LONGEST_VALUE:
            break
        begin = offset + _HEAD.size
        end = begin + key_size + value_size
        if end + tail.size > len(data):
            break
        key, value = data[begin : begin + key_size], data[begin + key_size : end]
        crc, *expiry = tail.unpack_from(data, end)
        if zlib.crc32(value) != crc:
            break
        records.append((key, value, expiry[0] if expiry else 0))
        offset = end + tail.size
    return _Log(records, offset)

"""Ends what writes to a disk while there is still room to end it well."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 32 << 20
"""The index of a recording of three hours has 12 MB; captures and records of publication have less."""
_LOOK_S: Final = 1.0


class DiskFull(Exception):
    """Less than the reserve is left; the message says how much."""


async def watch_disk(directory: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Look every second.

    Raises:
        DiskFull: as soon as less than `reserve_bytes` is left.
    """
    while True:
        await asyncio.to_thread(check_disk, directory, reserve_bytes=reserve_bytes)
        await asyncio.sleep(_LOOK_S)


def check_disk(directory: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Blocks for a moment. Raises DiskFull; OSError when there is no such directory."""
    disk = os.statvfs(directory)
    left_bytes = disk.f_bavail * disk.f_frsize
    if left_bytes < reserve_bytes:
        raise DiskFull(
            f"the disk is full: {left_bytes >> 20} MiB are left, at least {reserve_bytes >> 20} "
            "should be"
        )

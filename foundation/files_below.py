"""Opens files below a directory that others write to, by names that others have chosen."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags of a directory that is no link."""
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_below(root: int, name: str) -> int:
    """A descriptor of the plain file `name`, for reading; `root` is one of a directory, and stays open.

    It is opened part by part, so that no link, no `..` and nothing that is put in its way meanwhile leads
    anywhere else; a pipe or a device is neither waited for nor read. Blocks as disks do.

    Raises:
        OSError: there is no such file.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    folder = os.dup(root)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        file = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return file

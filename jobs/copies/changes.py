"""What has changed in a job's directory since it was last looked at.

Jobs append to a file or put another one in its place (docs/job-contract.md 4), so what is new lies behind
what was seen. A file whose last known bytes have changed is taken for another one all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Final, NoReturn

from foundation.copies.journal import Change, Entry

_TAIL_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as far as it is copied."""

    inode: int
    size: int
    changed_ns: int
    """The file's last change when it was copied to its end; 0 while it is not."""
    tail: bytes
    """The last bytes that were copied."""


class DirectoryChanges:
    """Of one directory. `next` looks; `done` remembers what it told as copied. Both block for a moment."""

    def __init__(
        self,
        directory: Path,
        *,
        is_copied: Callable[[str], bool],
        stays: frozenset[str] = frozenset(),
    ) -> None:
        """`is_copied` tells by its name below the directory if a file is of interest. When one of `stays`
        goes, that is not told."""
        self._directory = directory
        self._is_copied = is_copied
        self._stays = stays
        self._seen: dict[str, _Seen] = {}
        self._pending: dict[str, _Seen | None] = {}

    def next(self, *, most_bytes: int) -> tuple[Entry | None, bool]:
        """Up to `most_bytes` of what is new, small files first, if anything is; and whether that was not all.

        Raises:
            OSError: the directory cannot be read, or is not there.
        """
        self._pending = {}
        changes: list[Change] = []
        left = most_bytes
        there = sorted(self._files(), key=lambda found: found[1].st_size)
        more = False
        for name, stat in there:
            if left <= 0:
                more = True
                break
            change = self._change(name, stat, left)
            if change is not None:
                changes.append(change)
                left -= len(change.data)
                more = more or change.offset + len(change.data) < stat.st_size
        gone = sorted(self._seen.keys() - {name for name, _ in there} - self._stays)
        self._pending |= dict.fromkeys(gone)
        return (Entry(changes, gone) if changes or gone else None), more

    def done(self) -> None:
        """What `next` told last has been copied."""
        for name, seen in self._pending.items():
            if seen is None:
                self._seen.pop(name, None)
            else:
                self._seen[name] = seen
        self._pending = {}

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        # What cannot be read is not gone.
        for parent, directories, names in os.walk(self._directory, onerror=_raise):
            directories.sort()
            for name in names:
                path = Path(parent, name)
                below = path.relative_to(self._directory).as_posix()
                if not self._is_copied(below):
                    continue
                try:
                    stat = path.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # replaced by another one just now
                if S_ISREG(stat.st_mode):
                    yield below, stat

    def _change(self, name: str, stat: os.stat_result, most_bytes: int) -> Change | None:
        seen = self._seen.get(name)
        known = seen and (seen.inode, seen.size, seen.changed_ns)
        if known == (stat.st_ino, stat.st_size, stat.st_mtime_ns):
            return None
        try:
            with (self._directory / name).open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                offset = 0
                if seen is not None and seen.inode == inode and _continues(file, seen):
                    offset = seen.size
                file.seek(offset)
                data = file.read(most_bytes)
        except FileNotFoundError:
            return None
        tail = ((seen.tail if seen is not None and offset else b"") + data)[-_TAIL_BYTES:]
        whole, size = not offset, offset + len(data)
        # Looked at before it was read: what came meanwhile is found by its later time.
        is_all = inode == stat.st_ino and size >= stat.st_size
        now = _Seen(inode, size, stat.st_mtime_ns if is_all else 0, tail)
        self._pending[name] = now
        return Change(name, offset, data, whole) if data or seen is None or whole else None


def _raise(error: OSError) -> NoReturn:
    raise error


def _continues(file: BinaryIO, seen: _Seen) -> bool:
    file.seek(seen.size - len(seen.tail))
    return file.read(len(seen.tail)) == seen.tail

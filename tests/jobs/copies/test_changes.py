"""What has changed in a directory: appended bytes, other files, files that are gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from foundation.copies.journal import Change
from jobs.copies.changes import DirectoryChanges

MANY = 1 << 20


@pytest.fixture
def changes(tmp_path: Path) -> DirectoryChanges:
    return DirectoryChanges(tmp_path, is_copied=lambda name: not name.endswith(".tmp"))


def new(changes: DirectoryChanges, most_bytes: int = MANY) -> tuple[list[Change], list[str]]:
    entry, _ = changes.next(most_bytes=most_bytes)
    changes.done()
    return (list(entry.changes), list(entry.gone)) if entry else ([], [])


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_only_what_was_appended_is_told(changes: DirectoryChanges, tmp_path: Path) -> None:
    append(tmp_path / "a", b"one")
    assert new(changes) == ([Change("a", 0, b"one", True)], [])
    assert new(changes) == ([], [])
    append(tmp_path / "a", b" two")
    assert new(changes) == ([Change("a", 3, b" two")], [])


def test_a_file_put_in_the_place_of_another_is_told_whole(
    changes: DirectoryChanges, tmp_path: Path
) -> None:
    append(tmp_path / "a", b"one")
    new(changes)
    append(tmp_path / "a.tmp", b"one and more")
    (tmp_path / "a.tmp").replace(tmp_path / "a")
    assert new(changes) == ([Change("a", 0, b"one and more", True)], [])


def test_a_file_cut_short_is_told_whole(changes: DirectoryChanges, tmp_path: Path) -> None:
    append(tmp_path / "a", b"one two")
    new(changes)
    os.truncate(tmp_path / "a", 3)
    assert new(changes) == ([Change("a", 0, b"one", True)], [])


def test_what_is_gone_is_told_once(changes: DirectoryChanges, tmp_path: Path) -> None:
    append(tmp_path / "a", b"one")
    new(changes)
    (tmp_path / "a").unlink()
    assert new(changes) == ([], ["a"])
    assert new(changes) == ([], [])


def test_much_comes_in_pieces_and_small_files_first(
    changes: DirectoryChanges, tmp_path: Path
) -> None:
    append(tmp_path / "large", b"0123456789")
    append(tmp_path / "small", b"ab")
    assert new(changes, 6) == (
        [Change("small", 0, b"ab", True), Change("large", 0, b"0123", True)],
        [],
    )
    assert new(changes, 6) == ([Change("large", 4, b"456789")], [])
    assert new(changes, 6) == ([], [])


def test_what_was_not_copied_is_told_again(changes: DirectoryChanges, tmp_path: Path) -> None:
    append(tmp_path / "a", b"one")
    changes.next(most_bytes=MANY)  # and the store refused it
    append(tmp_path / "a", b" two")
    assert new(changes) == ([Change("a", 0, b"one two", True)], [])


def test_an_empty_file_is_a_file(changes: DirectoryChanges, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert new(changes) == ([Change("a", 0, b"", True)], [])
    assert new(changes) == ([], [])


def test_folders_count_and_links_and_pipes_do_not(
    changes: DirectoryChanges, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    append(tmp_path / "in/a", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "in/a")
    os.mkfifo(tmp_path / "pipe")
    assert new(changes) == ([Change("in/a", 0, b"x", True)], [])


def test_a_file_written_anew_in_its_own_place_is_told_whole(
    changes: DirectoryChanges, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    new(changes)
    (tmp_path / "a").write_bytes(b"other and longer")
    assert new(changes) == ([Change("a", 0, b"other and longer", True)], [])


def test_whether_there_is_more_is_told_by_what_was_seen_and_not_by_what_came_since(
    changes: DirectoryChanges, tmp_path: Path
) -> None:
    append(tmp_path / "a", b"0123456789")
    assert changes.next(most_bytes=6)[1] is True
    changes.done()
    entry, more = changes.next(most_bytes=6)
    assert (entry is not None, more) == (True, False)


def test_what_cannot_be_read_is_not_gone(changes: DirectoryChanges, tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    append(job / "a", b"one")
    changes = DirectoryChanges(job, is_copied=lambda _: True)
    new(changes)
    shutil.rmtree(job)  # as when its disk is not there any more
    with pytest.raises(OSError):
        changes.next(most_bytes=MANY)


def test_bytes_of_the_same_instant_are_found_by_the_size(
    changes: DirectoryChanges, tmp_path: Path
) -> None:
    append(tmp_path / "a", b"one")
    new(changes)
    before = (tmp_path / "a").stat()
    append(tmp_path / "a", b" two")
    os.utime(tmp_path / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert new(changes) == ([Change("a", 3, b" two")], [])

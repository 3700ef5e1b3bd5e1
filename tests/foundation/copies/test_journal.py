"""A journal's objects: read back as written, and never outside of the directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.copies.journal import Change, Entry, JournalError, apply, decode, key_of, numbers_of


def test_an_object_is_read_back_as_it_was_written() -> None:
    entry = Entry([Change("a", 0, b"one", True), Change("b/c", 7, b"")], ["gone"], previous=6)
    assert decode(entry.encode()) == entry


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "shorter"),
        (b"PNG1\0\0\0\2{}", "does not begin"),
        (b"CPJ1\xff\xff\xff\xff", "does not begin"),
        (b"CPJ1\0\0\0\2{}", "head"),
        (b"CPJ1\0\0\0\2\xff\xff", "head"),
        (Entry([Change("a", 0, b"1234")]).encode()[:-1], "cut off"),
        (Entry([Change("a", 0, b"1234")]).encode()[:-1] + b"5", "bytes are not those"),
        (Entry([Change("../a", 0, b"")]).encode(), "no file of the directory"),
        (Entry([Change("/etc/a", 0, b"")]).encode(), "no file of the directory"),
        (Entry((), ["a/../../b"]).encode(), "no file of the directory"),
    ],
)
def test_what_is_no_object_is_refused_with_a_reason(data: bytes, wrong: str) -> None:
    with pytest.raises(JournalError, match=wrong):
        decode(data)


def test_applied_in_order_objects_make_the_files(tmp_path: Path) -> None:
    for entry in (
        Entry([Change("a", 0, b"one ", True), Change("b", 0, b"old and long", True)]),
        Entry([Change("a", 4, b"two"), Change("b", 0, b"new", True), Change("d/e", 0, b"", True)]),
        Entry((), ["d/e"]),
    ):
        apply(tmp_path, entry)
    assert (tmp_path / "a").read_bytes() == b"one two"
    assert (tmp_path / "b").read_bytes() == b"new"
    assert not (tmp_path / "d/e").exists()
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


def test_an_object_written_twice_does_no_harm(tmp_path: Path) -> None:
    apply(tmp_path, Entry([Change("a", 0, b"one", True)]))
    for _ in range(2):
        apply(tmp_path, Entry([Change("a", 3, b" two")]))
    assert (tmp_path / "a").read_bytes() == b"one two"


def test_a_hole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="before byte 5 of a is missing"):
        apply(tmp_path, Entry([Change("a", 5, b"x")]))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "job").mkdir()
    (tmp_path / "job/a").symlink_to(outside)
    with pytest.raises(OSError):
        apply(tmp_path / "job", Entry([Change("a", 0, b"theirs")]))
    assert outside.read_bytes() == b"mine"


def test_only_numbers_are_objects_and_names_sort_as_numbers_do() -> None:
    names = [key_of("job", number).rpartition("/")[2] for number in (10, 2, 9_999_999_999)]
    assert numbers_of([*names, "other", "1x", "²"]) == [2, 10, 9_999_999_999]
    assert sorted(names) == [f"{number:010d}" for number in (2, 10, 9_999_999_999)]

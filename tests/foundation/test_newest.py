"""A dict of the newest entries."""

from __future__ import annotations

from foundation.newest import keep_newest


def test_the_oldest_entry_goes_when_there_is_no_room() -> None:
    entries: dict[str, int] = {}
    for number, key in enumerate("abc"):
        keep_newest(entries, key, number, most=2)
    assert entries == {"b": 1, "c": 2}


def test_an_entry_that_is_set_again_is_the_newest_and_takes_nobodys_place() -> None:
    entries = {"a": 0, "b": 1}
    keep_newest(entries, "a", 2, most=2)
    assert list(entries.items()) == [("b", 1), ("a", 2)]
    keep_newest(entries, "c", 3, most=2)
    assert list(entries.items()) == [("a", 2), ("c", 3)]

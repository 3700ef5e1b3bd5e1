"""How much one request carries: learned from what the server and proxies take."""

from __future__ import annotations

from jobs.part_size import MIN_FIRST_BYTES, PartSize

MIB = 1024 * 1024
SIZE = 100 * MIB


def test_it_begins_with_8_mib_or_the_whole_file() -> None:
    assert PartSize().next_bytes(0, SIZE) == 8 * MIB
    assert PartSize().next_bytes(0, 7) == 7


def test_what_was_cut_off_is_not_sent_again() -> None:
    parts = PartSize()
    parts.taken(8 * MIB, 2 * MIB)
    assert parts.next_bytes(2 * MIB, SIZE) == 2 * MIB
    parts.taken(2 * MIB, 2 * MIB)
    assert parts.next_bytes(4 * MIB, SIZE) == 2 * MIB, "success does not forget a limit"


def test_broken_connections_shrink_parts_and_success_grows_them_back() -> None:
    parts = PartSize()
    for _ in range(10):
        parts.broke(0)
    assert parts.next_bytes(MIB, SIZE) == 256 * 1024
    for _ in range(10):
        parts.taken(256 * 1024, 256 * 1024)
    assert parts.next_bytes(MIB, SIZE) == 8 * MIB


def test_the_first_part_never_falls_below_5_mib() -> None:
    parts = PartSize()
    for _ in range(10):
        parts.broke(0)
    assert parts.next_bytes(0, SIZE) == MIN_FIRST_BYTES


def test_413_ends_it_only_at_the_least_part() -> None:
    parts = PartSize()
    assert parts.too_large(8 * MIB, 0)
    assert parts.next_bytes(0, SIZE) == MIN_FIRST_BYTES
    assert not parts.too_large(MIN_FIRST_BYTES, 0)
    assert parts.too_large(8 * MIB, 8 * MIB)
    assert parts.next_bytes(8 * MIB, SIZE) == 4 * MIB

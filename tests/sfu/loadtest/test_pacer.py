"""Things are done in the order of their times, and again as they say."""

from __future__ import annotations

import time

from sfu.loadtest.pacer import Pacer

MS = 1_000_000


def test_what_is_due_is_done_in_order() -> None:
    pacer, done = Pacer(), []
    now_ns = time.monotonic_ns()
    for name, early_ms in (("second", 5), ("first", 9), ("third", 1)):
        pacer.add(now_ns - early_ms * MS, lambda now, due, name=name: done.append(name))
    pacer.add(now_ns + 1_000_000 * MS, lambda now, due: done.append("never"))
    pacer.do_due()
    assert done == ["first", "second", "third"]
    assert pacer.lateness.count == 3
    assert pacer.lateness.max_ns >= 9 * MS


def test_what_repeats_keeps_its_own_grid() -> None:
    pacer, dues = Pacer(), []
    start_ns = time.monotonic_ns() - 95 * MS

    def again(now_ns: int, due_ns: int) -> int:
        dues.append(due_ns)
        return due_ns + 20 * MS

    pacer.add(start_ns, again)
    pacer.do_due()
    assert dues[:5] == [start_ns + 20 * MS * n for n in range(5)]


def test_after_a_long_stop_little_is_caught_up() -> None:
    pacer, count = Pacer(), 0

    def again(now_ns: int, due_ns: int) -> int:
        nonlocal count
        count += 1
        return due_ns + 20 * MS

    pacer.add(time.monotonic_ns() - 60_000 * MS, again)
    pacer.do_due()
    assert 10 <= count <= 12  # 200 ms of it, not a minute

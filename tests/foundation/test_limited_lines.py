"""What anybody can cause fills no log: so many lines a minute, and one that sums up the rest."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from foundation import limited_lines
from foundation.clock import ManualClock
from foundation.limited_lines import IN_ALL, OF_ONE_SOURCE, WINDOW_S, LimitedLines


async def test_a_source_gets_so_many_lines_a_minute_and_one_that_sums_up_the_rest() -> None:
    clock = ManualClock()
    warnings = LimitedLines("knock", clock=clock)
    with capture_logs() as lines:
        for _ in range(1000):
            warnings.tell("192.0.2.1", peer="192.0.2.1")
        warnings.tell("192.0.2.2", peer="192.0.2.2")
    assert [line["peer"] for line in lines] == ["192.0.2.1"] * OF_ONE_SOURCE + ["192.0.2.2"]
    clock.advance(seconds=WINDOW_S)
    with capture_logs() as lines:
        warnings.tell("192.0.2.1", peer="192.0.2.1")
    summary = {"count": 1000 - OF_ONE_SOURCE, "sources": 1, "most_from": "192.0.2.1"}
    assert lines[0] == {
        **{"event": "knock_left_out", "log_level": "warning", "most": summary["count"]},
        **summary,
    }
    assert [line["event"] for line in lines] == ["knock_left_out", "knock"]


async def test_many_sources_together_get_so_many_lines_and_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limited_lines, "_SOURCES", 10)
    clock = ManualClock()
    warnings = LimitedLines("knock", clock=clock)
    with capture_logs() as lines:
        for number in range(5000):
            warnings.tell(f"source {number}")
        clock.advance(seconds=WINDOW_S)
        warnings.tell("one more")
    assert len(lines) == IN_ALL + 2
    assert (lines[IN_ALL]["count"], lines[IN_ALL]["sources"]) == (5000 - IN_ALL, 11)


async def test_the_sum_is_told_when_the_minute_ends_though_nothing_more_comes() -> None:
    warnings = LimitedLines("knock", window_s=0.05)
    with capture_logs() as lines:
        for _ in range(OF_ONE_SOURCE + 3):
            warnings.tell("192.0.2.1")
        async with asyncio.timeout(5):
            while len(lines) == OF_ONE_SOURCE:
                await asyncio.sleep(0.005)
    assert (lines[-1]["event"], lines[-1]["count"]) == ("knock_left_out", 3)

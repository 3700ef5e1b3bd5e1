"""What the proxy does to datagrams, and what the verdicts find."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundation.clock import ManualClock
from testbed.lossy.listener import SeenPicture
from testbed.lossy.member import through
from testbed.lossy.proxy import Passed
from testbed.lossy.run import Cell, CellReport
from testbed.lossy.standstill import Standstill
from testbed.lossy.verdict import ScreenVerdict, VoiceVerdict, judge_screen
from testbed.lossy.weather import Fate, Weather

MS = 1_000_000
SECOND = 1000 * MS


def test_a_share_is_lost_and_the_rest_is_delayed_evenly() -> None:
    fate = Fate(Weather(loss=0.2, jitter_ms=100), seed=1, begin_ns=0)
    delays = [fate.delay_ns(n * MS) for n in range(5000)]
    kept = [delay for delay in delays if delay is not None]
    assert 0.18 < 1 - len(kept) / len(delays) < 0.22
    assert 0 <= min(kept) < 5 * MS < 95 * MS < max(kept) <= 100 * MS


def test_the_same_seed_is_the_same_weather() -> None:
    def delays(seed: int) -> list[int | None]:
        fate = Fate(Weather(loss=0.5, jitter_ms=100), seed=seed, begin_ns=0)
        return [fate.delay_ns(0) for _ in range(50)]

    assert delays(1) == delays(1) != delays(2)


def test_in_a_burst_nothing_gets_through_and_all_bursts_are_told() -> None:
    weather = Weather(burst_every_s=2, burst_ms=300)
    fate = Fate(weather, seed=1, begin_ns=SECOND)
    dark = [at for at in range(0, 9000, 10) if fate.delay_ns(at * MS + SECOND) is None]
    assert dark == [*range(2000, 2300, 10), *range(4000, 4300, 10), *range(6000, 6300, 10),
                    *range(8000, 8300, 10)]  # fmt: skip
    told = weather.bursts_ns(SECOND, 8 * SECOND)
    assert told == [(n * SECOND, n * SECOND + 300 * MS) for n in (3, 5, 7)]


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.1}, {"loss": -0.1}, {"jitter_ms": -1}, {"burst_every_s": -1}]
)
def test_impossible_weather_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Weather(**wrong)


def test_what_passed_twice_counts_once_and_holes_are_lost() -> None:
    passed = Passed()
    for sequence in (65_534, 65_535, 1, 1, 3):
        passed.note(sequence)
    assert (len(passed.numbers), passed.lost) == (4, 2)


def test_candidates_lead_to_the_proxy_and_no_way_leads_around_it() -> None:
    sdp = (
        "a=mid:0\r\n"
        "a=candidate:1 1 udp 2130706431 127.0.0.1 8443 typ host\r\n"
        "a=candidate:2 1 tcp 1671430143 127.0.0.1 8443 typ host tcptype passive\r\n"
    )
    assert through(5000, sdp) == (
        "a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\n"
    )
    assert through(5000, "candidate:1 1 udp 1 127.0.0.1 8443 typ host") == (
        "candidate:1 1 udp 1 127.0.0.1 5000 typ host"
    )


def test_blindness_lasts_from_the_burst_to_the_next_right_picture_of_after_it() -> None:
    pictures = [
        SeenPicture(10, 1050 * MS, True),
        SeenPicture(19, 2320 * MS, True),  # of before the burst
        SeenPicture(22, 2700 * MS, False),
        SeenPicture(28, 3900 * MS, True),
    ]
    verdict = judge_screen(pictures, [(2000 * MS, 2300 * MS)], 0, 30)
    assert verdict.blind_s == [1.6]
    assert (verdict.right, verdict.wrong, verdict.longest_gap_s) == (3, 1, 1.58)
    assert verdict.complaints() == ["1 damaged pictures", "blind for 1.6 s after a burst"]


def test_each_rule_of_a_voice_can_be_broken() -> None:
    fine = VoiceVerdict(
        talked_s=100, lost_s=5, concealed_s=6, unused=0, worst_start_ms=20, worst_later_ms=20,
        beeps=9, beeps_found=9, worst_beep_ms=25,
    )  # fmt: skip
    assert fine.complaints() == []
    for name, value in (
        ("concealed_s", 6.1), ("unused", 1), ("worst_start_ms", 21), ("worst_later_ms", 21),
        ("beeps_found", 8), ("worst_beep_ms", 26),
    ):  # fmt: skip
        before = getattr(fine, name)
        setattr(fine, name, value)
        assert len(fine.complaints()) == 1, name
        setattr(fine, name, before)


def test_while_the_bench_stood_still_nothing_was_late_but_what_came_still_has_to_be_heard() -> None:
    voice = VoiceVerdict(
        talked_s=100, lost_s=5, concealed_s=6, unused=2, worst_start_ms=120, worst_later_ms=20,
        beeps=9, beeps_found=8, worst_beep_ms=125,
    )  # fmt: skip
    cell = Cell(0.05, 100)
    report = CellReport(cell, {"bob": voice}, ScreenVerdict(30, 3, 0, [1.6]), standstill_s=0.8)
    assert report.complaints() == ["bob: 8 of 9 beeps"]
    report.standstill_s = 0.01
    assert len(report.complaints()) == 5


@pytest.mark.looptime
async def test_the_longest_standstill_counts() -> None:
    clock = ManualClock()
    standstill = Standstill(clock)
    watching = asyncio.create_task(standstill.watch())
    for still_s in (0.05, 0.3, 0.1):
        await asyncio.sleep(0.005)
        clock.advance(seconds=0.01 + still_s)
        await asyncio.sleep(0.005)
    watching.cancel()
    await asyncio.wait([watching])
    assert standstill.longest_s == pytest.approx(0.3)

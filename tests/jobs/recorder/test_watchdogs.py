"""A call without people ends the recording; one without media is told, once, and when it is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from jobs.recorder.vigil import keep_vigil
from jobs.recorder.watchdogs import Watchdogs

SECOND = 1_000_000_000


class Call:
    """Looked at every second."""

    def __init__(self) -> None:
        self.now_s = 0
        self.packets = 0
        self.dogs = Watchdogs(now_ns=0)

    def go_on(
        self, seconds: int, *, people: int, sending: int, media: bool
    ) -> list[tuple[int, str]]:
        found = []
        for _ in range(seconds):
            self.now_s += 1
            self.packets += 50 * media
            found += [
                (self.now_s, finding.kind)
                for finding in self.dogs.look(
                    self.now_s * SECOND,
                    participants=people,
                    sending=sending,
                    packets=self.packets,
                )
            ]
        return found


def test_an_empty_call_is_over_after_five_minutes() -> None:
    call = Call()
    assert call.go_on(60, people=2, sending=1, media=True) == []
    assert call.go_on(1000, people=0, sending=0, media=False) == [(361, "alone")]


def test_somebody_who_comes_back_starts_the_time_anew() -> None:
    call = Call()
    call.go_on(299, people=0, sending=0, media=False)
    call.go_on(1, people=1, sending=0, media=False)
    assert call.go_on(300, people=0, sending=0, media=False) == []


def test_a_list_of_people_that_is_wrong_ends_nothing_while_somebody_is_heard() -> None:
    assert Call().go_on(1000, people=0, sending=0, media=True) == []


def test_unmuted_people_of_whom_nothing_comes_are_told_once() -> None:
    call = Call()
    assert call.go_on(100, people=2, sending=1, media=False) == [(21, "no_media")]
    assert call.dogs.no_media_ns == 99 * SECOND
    assert call.go_on(3, people=2, sending=1, media=True) == [(101, "media_again")]


def test_nothing_is_missing_while_all_are_muted() -> None:
    call = Call()
    assert call.go_on(600, people=9, sending=0, media=False) == []
    assert call.dogs.no_media_ns == 0


def test_a_pause_of_one_speaker_is_no_missing_media() -> None:
    call = Call()
    for _ in range(10):
        assert call.go_on(15, people=2, sending=1, media=False) == []
        call.go_on(1, people=2, sending=1, media=True)


class LoopClock:
    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def utc_now(self) -> datetime:
        """Set back all the time: nobody should ask."""
        return datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Empty:
    participants: int = 0
    sending: int = 0
    packets: int = 0

    def media_lost_s(self, now_ns: int) -> float:
        return 7.0


@pytest.mark.looptime
async def test_the_vigil_ends_an_abandoned_recording_and_reports() -> None:
    reasons: list[str] = []
    metrics: dict[str, int | float] = {}
    watched = Empty()
    vigil = asyncio.create_task(
        keep_vigil(watched, end=reasons.append, metrics=metrics, clock=LoopClock())
    )
    await asyncio.sleep(290)
    assert reasons == []
    await asyncio.sleep(20)
    assert reasons == ["nobody has been in the call for 300 s"]
    watched.participants = watched.sending = 1
    await asyncio.sleep(60)
    assert metrics["media_none_s"] == pytest.approx(60, abs=2)
    assert metrics["media_lost_s"] == 7.0
    assert metrics["tasks"] >= 1
    vigil.cancel()

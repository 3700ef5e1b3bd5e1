"""Somebody presses the mute button again and again: nothing is made up, all lies where it was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from callclient.receive.latency import CAPTIONS, RECORDING, LatencyBudget

MS = 1_000_000
VOICE = 1
CELT_20MS = b"\xf8\xff\xfe"


@dataclass
class Speaker:
    """Twenty milliseconds in each packet."""

    desk: Any
    numbers_run: bool
    """While muted: the SFU drops what comes and leaves the numbers as they are."""
    clock_runs: bool
    """While muted (calls-plugin.md trap 29)."""

    def __post_init__(self) -> None:
        self.sequence = self.timestamp = 0
        self.said_ns: list[int] = []

    def talk(self, for_ms: int) -> None:
        for _ in range(for_ms // 20):
            self.said_ns.append(self.desk.now_ns)
            self._send()
            self.desk.run(20)

    def mute(self, for_ms: int) -> None:
        for _ in range(for_ms // 20):
            self.sequence += self.numbers_run
            self.timestamp += 960 * self.clock_runs
            self.desk.run(20)

    def talk_into_a_stalled_network(self, for_ms: int) -> None:
        """Everything comes at its end."""
        for _ in range(for_ms // 20):
            self.said_ns.append(self.desk.now_ns)
            self.desk.run(20)
        for _ in range(for_ms // 20):
            self._send()

    def _send(self) -> None:
        self.desk.rtp(
            VOICE, self.sequence, CELT_20MS, timestamp=self.timestamp, payload_type=111
        )  # fmt: skip
        self.sequence += 1
        self.timestamp += 960


@pytest.mark.parametrize("budget", [CAPTIONS, RECORDING], ids=["captions", "recording"])
@pytest.mark.parametrize("clock_runs", [True, False])
@pytest.mark.parametrize("numbers_run", [True, False])
@pytest.mark.parametrize(("talk_ms", "mute_ms"), [(200, 500), (60, 700), (500, 320)])
def test_a_storm_of_mutes_costs_nothing_and_moves_nothing(
    desk: Any,
    budget: LatencyBudget,
    clock_runs: bool,
    numbers_run: bool,
    talk_ms: int,
    mute_ms: int,
) -> None:
    desk = type(desk)(budget)
    speaker = Speaker(desk, numbers_run=numbers_run, clock_runs=clock_runs)
    desk.announce(desk.media("voice_alice_1", VOICE))
    speaker.talk(1000)
    for _ in range(5):
        speaker.mute(mute_ms)
        speaker.talk(talk_ms)
    desk.run(1500)
    assert [frame.time_ns for frame in desk.frames(desk.track())] == speaker.said_ns
    desk.receiving.report(desk.now_ns)
    statistics = desk.track().statistics
    assert (statistics.packets_lost, statistics.concealed_ns) == (0, 0)


@pytest.mark.parametrize("said_before_ms", [20, 200])
def test_a_network_that_stalls_in_the_first_second_moves_and_loses_nothing(
    desk: Any, said_before_ms: int
) -> None:
    desk = type(desk)(RECORDING)
    speaker = Speaker(desk, numbers_run=False, clock_runs=True)
    desk.announce(desk.media("voice_alice_1", VOICE))
    speaker.talk(said_before_ms)
    speaker.talk_into_a_stalled_network(400)
    speaker.talk(1000)
    desk.run(1500)
    assert [frame.time_ns for frame in desk.frames(desk.track())] == speaker.said_ns
    desk.receiving.report(desk.now_ns)
    assert desk.track().statistics.packets_lost == 0

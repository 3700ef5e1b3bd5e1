"""The process that decodes participants' video is lost in a real call: a moment of picture is missing.

Judged by what is in the published recording: where a block that moves ten times a second stands still, where
letters are over it that are not in it otherwise, and which beeps are there.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from testbed.analysis.call import Call
from testbed.analysis.marks import find_beeps
from testbed.analysis.media import iter_pictures, luma, read_sound
from testbed.analysis.pictures import contained
from testbed.bots.on_stage import Player, on_stage
from testbed.bots.picture import CORNER_PX, HEIGHT_PX, WIDTH_PX
from testbed.chaos.victim import children_of
from testbed.hosted_call import CallFailed, HostedCall, hosted_call
from testbed.job_watch import log_events
from testbed.polling import until
from testbed.scenario import Event, Join, ShareScreen, Unmute
from testbed.truth import read_truth

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.paired, pytest.mark.timeout(150)]

PLAN: Final[tuple[Event, ...]] = (Join(0, "alice"), Unmute(0.2, "alice"), ShareScreen(0.6, "alice"))
FAULTS: Final = {
    "killed": ((4.2, signal.SIGKILL), (7.0, signal.SIGKILL)),
    "hangs": ((4.2, signal.SIGSTOP),),
}
"""When, s after the plan's beginning."""
REST_S: Final = 2.8
"""Of the call, after the last one."""
MOST_MISSING_S: Final = 2.0
"""Of moving pictures, for each process that is lost."""
STANDS_STILL_S: Final = 0.4
"""The block moves every 0.1 s; a slow machine may leave a frame or two out."""
BEEP_TOLERANCE_S: Final = 0.03
STARTED_S: Final = 2.0
"""From the share on, until its picture must be there."""
BLOCK_ROWS: Final = (610, 654)
SIGN: Final = (490, 28, 790, 48)
"""left, top, right, bottom in the shared picture, px: nothing of it is brighter than its ground there."""
LETTERS_LUMA: Final = 150
MOST_OTHER_PIXELS: Final = 10


@dataclass(frozen=True)
class Pictures:
    """What is to be seen of a shared screen."""

    moved_s: list[float]
    """Recording times of pictures that show the block elsewhere than the one before."""
    signed_s: list[float]
    """… and of those with letters where the warning is."""

    def stands_s(self) -> list[tuple[float, float]]:
        """From the last picture that moved to the next, where that took too long."""
        pairs = itertools.pairwise(self.moved_s)
        return [(a, b) for a, b in pairs if b - a > STANDS_STILL_S]

    def stand_of(self, fault_s: float) -> tuple[float, float]:
        """The longest one near a fault. Pictures are decoded a second after they were taken."""
        near = [(a, b) for a, b in self.stands_s() if b > fault_s - 1.5 and a < fault_s + 0.5]
        assert near, f"the loss at {fault_s:.2f} s is to be seen: {self.stands_s()}"
        return max(near, key=lambda stand: stand[1] - stand[0])


@dataclass(frozen=True)
class Outcome:
    """What came of the call."""

    call: Call
    recording: Path
    figures: dict[str, Any]
    """The job's last metrics line."""
    exit: dict[str, Any]
    faults_s: list[float]
    """In recording time."""
    processes: list[int]
    """Those that decoded, in their order."""


@pytest.fixture(scope="module", params=FAULTS)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return asyncio.run(_record(tmp_path_factory.mktemp("decoder"), FAULTS[request.param]))


@pytest.fixture(scope="module")
def pictures(outcome: Outcome) -> Pictures:
    ((_, start_s, _),) = outcome.call.shares_s()
    moved_s, signed_s, before = [], [], None
    for at_s, frame in iter_pictures(outcome.recording):
        if at_s < start_s + STARTED_S:
            continue
        picture = luma(frame)
        block = _part(picture, (CORNER_PX, BLOCK_ROWS[0], WIDTH_PX - CORNER_PX, BLOCK_ROWS[1]))
        if before is not None and np.abs(block - before).max() > 30:
            moved_s.append(at_s)
        before = block
        if (_part(picture, SIGN) > LETTERS_LUMA).sum() > MOST_OTHER_PIXELS:
            signed_s.append(at_s)
    assert len(moved_s) > 15, "it was shared"
    return Pictures(moved_s, signed_s)


def _part(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A box of the shared picture, where it is in the recording's."""
    height_px, width_px = picture.shape
    left, top, right, _ = contained(width_px, height_px)
    scale = (right - left) / WIDTH_PX
    assert scale <= 1
    assert box[3] <= HEIGHT_PX
    x0, y0, x1, y1 = (round(value * scale) for value in box)
    x, y = round(left), round(top)
    return picture[y + y0 : y + y1, x + x0 : x + x1].astype(int)


async def _record(directory: Path, faults: Sequence[tuple[float, signal.Signals]]) -> Outcome:
    recording, truth_file = directory / "recording.mp4", directory / "truth.jsonl"
    faults_ns: list[int] = []
    processes: list[int] = []
    async with hosted_call(directory) as call:
        users = call.world.users
        async with on_stage(
            [Player(users["alice"], PLAN)],
            site_url=call.stack.settings.site_url,
            channel_id=call.channel_id,
            host=call.world.host,
            clips={},
            truth_file=truth_file,
        ) as stage:
            await call.start_recording()
            zero_ns = stage.clock.monotonic_ns() + 300_000_000
            stage.zero.set_result(zero_ns)
            for at_s, number in faults:
                await asyncio.sleep(at_s - (time.monotonic_ns() - zero_ns) / 1e9)
                processes.append(await _decoding(call, processes))
                os.kill(processes[-1], number)
                faults_ns.append(time.monotonic_ns())
            processes.append(await _decoding(call, processes))
            await asyncio.sleep(faults[-1][0] + REST_S - (time.monotonic_ns() - zero_ns) / 1e9)
            state = await call.stop_recording()
        await call.download_recording(recording)
        (job,) = await call.all_jobs_ended()
        figures = list(log_events(job, "metrics"))[-1]
    told = await asyncio.to_thread(read_truth, truth_file)
    truth = Call(
        told,
        users,
        zero_ns=told.monotonic_ns(state["start_at"]),
        end_ns=told.monotonic_ns(state["end_at"]),
    )
    times_s = [truth.time_s(at_ns) for at_ns in faults_ns]
    assert job.exit is not None
    return Outcome(truth, recording, figures, job.exit, times_s, processes)


async def _decoding(call: HostedCall, known: list[int]) -> int:
    """The process of the recorder that decodes now, as soon as it is none of `known`."""
    (job,) = call.stack.jobs()
    assert job.pid is not None

    def found() -> int | None:
        for pid in children_of(job.pid or 0):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            if b"decoding.child" in words and pid not in known:
                return pid
        return None

    async def look() -> int | None:
        return await asyncio.to_thread(found)

    return await until(look, "a decoding process", limit_s=20, failure=CallFailed)


def test_another_process_takes_over_each_time_and_nobody_is_blamed(outcome: Outcome) -> None:
    lost = len(outcome.faults_s)
    assert len(set(outcome.processes)) == lost + 1
    names = ("decoder_losses", "decoder_starts", "videos_shut_out", "mishaps")
    assert [outcome.figures[name] for name in names] == [lost, lost + 1, 0, 0]


def test_the_recording_is_published_and_all_of_its_sound_is_there(outcome: Outcome) -> None:
    assert outcome.exit["exit_code"] == 0
    sound = read_sound(outcome.recording)
    assert sound.end_s == pytest.approx(outcome.call.duration_s, abs=0.3)
    sent = [at_s for at_s in outcome.call.marks_s("beep") if at_s < outcome.call.duration_s - 0.3]
    assert len(sent) >= outcome.call.duration_s - 3
    heard = find_beeps(sound)
    near = BEEP_TOLERANCE_S
    assert [s for s in sent if not any(abs(s - at_s) < near for at_s in heard)] == []
    assert outcome.figures["audio_dropped_s"] == 0


def test_each_loss_costs_two_seconds_of_moving_picture_at_most_and_it_comes_back(
    outcome: Outcome, pictures: Pictures
) -> None:
    for fault_s in outcome.faults_s:
        began_s, ended_s = pictures.stand_of(fault_s)
        assert ended_s - began_s <= MOST_MISSING_S
    missing_s = sum(b - a for a, b in pictures.stands_s())
    assert missing_s <= MOST_MISSING_S * len(outcome.faults_s), "whatever else the machine did"
    assert pictures.moved_s[-1] > outcome.call.duration_s - 1, "it moves until the end"
    told_s = outcome.figures["picture_interrupted_s"]
    assert told_s == pytest.approx(missing_s, abs=0.3 * len(outcome.faults_s))


def test_a_picture_that_stands_still_says_so_and_no_other_does(
    outcome: Outcome, pictures: Pictures
) -> None:
    stands_s = [pictures.stand_of(fault_s) for fault_s in outcome.faults_s]
    for began_s, ended_s in stands_s:
        signed_s = [at_s for at_s in pictures.signed_s if began_s <= at_s < ended_s]
        assert signed_s
        assert signed_s[0] - began_s < STANDS_STILL_S, "at once"
        assert ended_s - signed_s[-1] < STANDS_STILL_S, "to the end"
    outside = [at_s for at_s in pictures.signed_s if not any(a <= at_s < b for a, b in stands_s)]
    assert outside == []

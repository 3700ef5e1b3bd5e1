"""Twenty people at once on two workers, on virtual time: the transcript has all of it, captions give way.

What a loaded machine leaves out, and in which order, is in docs/transcription.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest

from jobs.transcriber.audio import RATE_HZ
from jobs.transcriber.captions import TRANSCRIBER_BUSY, WINDOW_DROPPED, CaptionBoard, CaptionOptions
from jobs.transcriber.engines.base import EngineInfo, Recognition, Word
from jobs.transcriber.listening import UtteranceContinued, UtteranceEnded, UtteranceStarted
from jobs.transcriber.scheduler import SpeechScheduler

pytestmark = pytest.mark.looptime

SPEAKERS = 20
WORKERS = 2
CAPTION_S = 0.6
"""What a call takes: twenty ends of utterances in 4.6 s are more than two workers can do."""
FINAL_S = 1.2
UTTERANCE_S = 4.0
PAUSE_S = 0.6
BLOCK_S = 0.1
SILENCE = np.zeros(round(BLOCK_S * RATE_HZ), np.float32)


class Engine:
    info = EngineInfo("fake", "fake", "cpu", "none", WORKERS, 1, multilingual=False)

    def hypothesise(self, audio, *, language, context_s, complete) -> Recognition:
        return Recognition((Word("word", 0.0, len(audio) / RATE_HZ, 0.9),), "en")


class FinalTexts:
    """A source of the final text's jobs: utterances that are over, one after the other."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.waiting = 0
        self.done = 0
        self.running = 0
        self.max_running = 1

    def next_job(self, now_s: float) -> FinalText | None:
        if not self.waiting or self.running >= self.max_running:
            return None
        self.waiting -= 1
        self.running += 1
        self._room.begun["final", self._room.board.level] += 1
        return FinalText(self)


class FinalText:
    def __init__(self, source: FinalTexts) -> None:
        self._source = source

    def settle(self, error, *, cost_s: float) -> None:
        self._source.running -= 1
        self._source.done += 1


class Room:
    """Board, final texts and scheduler, wired as in the pipeline."""

    def __init__(self) -> None:
        self.metrics: Counter[str] = Counter()
        self.begun: Counter[tuple[str, int]] = Counter()
        """Jobs by kind and level."""
        self.said = 0
        self.captioned: Counter[str] = Counter()
        """Utterances whose end was captioned, by speaker."""
        self.levels: list[tuple[float, int, float]] = []
        """(time, level, longest backlog), each tenth of a second."""
        self.crowd_over_s = 0.0
        self.board = CaptionBoard(
            Engine(),
            options=CaptionOptions(),
            publish=lambda message: self.captioned.update([message.session_id] * message.final),
            report_metric=lambda name, session_id: self.metrics.update([name]),
        )
        self.texts = FinalTexts(self)
        self.scheduler = SpeechScheduler(
            [self.board, self.texts], workers=WORKERS, execute=self._execute
        )

    async def _execute(self, job) -> None:
        if isinstance(job, FinalText):
            await asyncio.sleep(FINAL_S)
            return
        kind = "whole" if job.snapshot.final else "growing"
        self.begun[kind, self.board.level] += 1
        await asyncio.sleep(CAPTION_S)
        job.run()

    async def speak(self, session_id: str, *, until_s: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            begun_ns = round(loop.time() * 1e9)
            for number in range(round(UTTERANCE_S / BLOCK_S)):
                await asyncio.sleep(BLOCK_S)
                started = UtteranceStarted(begun_ns, begun_ns, SILENCE)
                event = UtteranceContinued(SILENCE) if number else started
                self.board.hear(session_id, event, now_s=loop.time())
                self.scheduler.notify()
            end_ns = round(loop.time() * 1e9)
            ended = UtteranceEnded(begun_ns, end_ns, end_ns)
            self.board.hear(session_id, ended, now_s=loop.time())
            self.said += 1
            self.texts.waiting += 1
            self.scheduler.notify()
            await asyncio.sleep(PAUSE_S)

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.1)
            # The pipeline does this each second.
            self.texts.max_running = 0 if self.board.strained else 1
            self.scheduler.notify()
            self.levels.append((loop.time(), self.board.level, self.board.backlog_s))


async def _meeting() -> Room:
    """Two talk, from 10 s to 40 s twenty at once, then two again until 80 s; all of it is over."""
    made = Room()
    tasks = [asyncio.create_task(made.scheduler.run()), asyncio.create_task(made.watch())]
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def crowd(number: int) -> None:
        await asyncio.sleep(10 + number * 0.21)
        await made.speak(f"s{number}", until_s=began_s + 40)

    few = [made.speak(f"s{number}", until_s=began_s + 80) for number in range(2)]
    await asyncio.gather(*few, *(crowd(number) for number in range(2, SPEAKERS)))
    made.crowd_over_s = began_s + 40 + UTTERANCE_S
    made.board.stop()
    made.texts.max_running = WORKERS
    tasks[1].cancel()
    while made.texts.waiting or made.texts.running:
        made.texts.max_running = WORKERS
        made.scheduler.notify()
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return made


async def test_the_transcript_has_everything_and_captions_give_way_in_the_stated_order() -> None:
    room = await _meeting()
    assert room.texts.done == room.said > 100
    highest = max(level for _, level, _ in room.levels)
    assert highest >= 2
    # Growing lines: each level has fewer of them, level 3 none. Final texts wait from level 1 on.
    assert room.begun["growing", 0]
    assert not room.begun["growing", 3]
    assert not any(room.begun["final", level] for level in (1, 2, 3))
    assert room.metrics[TRANSCRIBER_BUSY] >= highest
    # Everybody gets captions all the same.
    assert len(room.captioned) == SPEAKERS
    spoken = CaptionOptions().max_backlog_s + UTTERANCE_S
    assert max(backlog_s for *_, backlog_s in room.levels) <= spoken
    assert bool(room.metrics[WINDOW_DROPPED]) == bool(room.board.audio_dropped_s)


async def test_a_crowd_that_is_over_is_forgotten_level_by_level() -> None:
    room = await _meeting()
    calm = [at_s for at_s, level, _ in room.levels if at_s > room.crowd_over_s and level == 0]
    assert calm[0] - room.crowd_over_s <= 20
    assert all(level == 0 for at_s, level, _ in room.levels if at_s >= calm[0])

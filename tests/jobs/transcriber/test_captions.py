"""Captions on virtual time: agreement, order, one job per speaker, shedding and recovery."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from jobs.transcriber.audio import RATE_HZ
from jobs.transcriber.caption_speaker import CaptionMessage, SpeakerCaptions
from jobs.transcriber.captions import (
    TRANSCRIBER_BUSY,
    WINDOW_DROPPED,
    CaptionBoard,
    CaptionJob,
    CaptionOptions,
)
from jobs.transcriber.engines.base import EngineError, EngineInfo, Recognition, Word
from jobs.transcriber.listening import UtteranceContinued, UtteranceEnded, UtteranceStarted
from jobs.transcriber.scheduler import SpeechScheduler

pytestmark = pytest.mark.looptime

WORD_S = 0.4
BLOCK_S = 0.1


class CountingEngine:
    """Hears one word per 0.4 s: its number, which the audio itself carries. A half heard word is wrong."""

    def __init__(self, *, workers: int) -> None:
        self.info = EngineInfo("fake", "fake", "cpu", "none", workers, 1, multilingual=False)
        self.fails = False
        self.probability = 0.9

    def hypothesise(self, audio, *, language, context_s, complete) -> Recognition:
        if self.fails:
            raise EngineError("broken on purpose")
        words: list[Word] = []
        for number in np.unique(np.round(audio[audio > 0] * 1000).astype(int)):
            at = np.flatnonzero(np.round(audio * 1000).astype(int) == number)
            whole = len(at) >= round(WORD_S * RATE_HZ) - 2
            text = f"w{number}" if whole else f"half{len(at)}"
            words.append(Word(text, at[0] / RATE_HZ, (at[-1] + 1) / RATE_HZ, self.probability))
        return Recognition(tuple(words), "en")

    def transcribe(self, audio, *, language) -> Recognition:
        raise NotImplementedError


@dataclass
class Room:
    """A board with its scheduler, whose jobs take `cost_s` of virtual time each."""

    engine: CountingEngine
    cost_s: float
    board: CaptionBoard
    scheduler: SpeechScheduler
    messages: list[tuple[float, CaptionMessage]] = field(default_factory=list)
    metrics: list[tuple[str, str]] = field(default_factory=list)
    running: list[CaptionJob] = field(default_factory=list)
    most_per_speaker: int = 0
    order: list[tuple[bool, str]] = field(default_factory=list)
    audio_s: list[float] = field(default_factory=list)

    def said(self, session_id: str) -> str:
        """What a viewer could read of a speaker, each line in its last form."""
        lines: dict[int, str] = {}
        for _, message in self.messages:
            if message.session_id == session_id:
                lines[message.line] = message.text
        return " ".join(lines[number] for number in sorted(lines))

    async def speak(self, session_id: str, *, words: int, first: int = 1) -> None:
        """One utterance in real time: a tenth of a second of audio at a time, then its end."""
        loop = asyncio.get_running_loop()
        begun_ns = round(loop.time() * 1e9)
        numbers = np.repeat(np.arange(first, first + words), round(WORD_S * RATE_HZ)) / 1000
        tail = np.zeros(round(0.4 * RATE_HZ))
        audio = np.concatenate([numbers, tail]).astype(np.float32)
        block = round(BLOCK_S * RATE_HZ)
        for begin in range(0, len(audio), block):
            await asyncio.sleep(BLOCK_S)
            part = audio[begin : begin + block]
            started = UtteranceStarted(begun_ns, begun_ns, part)
            event = started if begin == 0 else UtteranceContinued(part)
            self.board.hear(session_id, event, now_s=loop.time())
            self.scheduler.notify()
        spoken_ns = begun_ns + round(words * WORD_S * 1e9)
        ended = UtteranceEnded(begun_ns, spoken_ns, spoken_ns + 400_000_000)
        self.board.hear(session_id, ended, now_s=loop.time())
        self.scheduler.notify()


def make_room(
    *, cost_s: float = 0.05, workers: int = 2, options: CaptionOptions | None = None
) -> Room:
    engine = CountingEngine(workers=workers)
    messages: list[tuple[float, CaptionMessage]] = []
    metrics: list[tuple[str, str]] = []
    board = CaptionBoard(
        engine,
        options=options or CaptionOptions(),
        publish=lambda m: messages.append((asyncio.get_running_loop().time(), m)),
        report_metric=lambda name, session_id: metrics.append((name, session_id)),
    )

    async def execute(job: CaptionJob) -> None:
        room.running.append(job)
        busiest = Counter(other.speaker.session_id for other in room.running).most_common(1)
        room.most_per_speaker = max(room.most_per_speaker, busiest[0][1])
        room.order.append((job.snapshot.final, job.speaker.session_id))
        room.audio_s.append(len(job.snapshot.audio) / RATE_HZ)
        try:
            await asyncio.sleep(room.cost_s)
            job.run()
        finally:
            room.running.remove(job)

    scheduler = SpeechScheduler([board], workers=workers, execute=execute)
    room = Room(engine, cost_s, board, scheduler, messages, metrics)
    return room


async def _run(room: Room, *speeches, settle_s: float = 5.0) -> None:
    scheduling = asyncio.create_task(room.scheduler.run())
    await asyncio.gather(*speeches)
    await asyncio.sleep(settle_s)
    scheduling.cancel()
    await asyncio.gather(scheduling, return_exceptions=True)


def _expected(words: int, first: int = 1) -> str:
    return " ".join(f"w{number}" for number in range(first, first + words))


async def test_every_word_is_shown_once_whole_and_soon() -> None:
    room = make_room()
    await _run(room, room.speak("a", words=12))
    assert room.said("a") == _expected(12)
    for at_s, message in room.messages:
        assert 0 < at_s - message.spoken_until_ns / 1e9 < 1.3
    assert room.messages[-1][1].final


async def test_likely_words_are_shown_at_once_and_doubtful_ones_when_they_are_confirmed() -> None:
    shown_s = {}
    for probability in (0.9, 0.3):
        room = make_room(options=CaptionOptions(step_s=0.7))
        room.engine.probability = probability
        await _run(room, room.speak("a", words=12))
        assert room.said("a") == _expected(12)
        begun_s = room.messages[0][1].spoken_until_ns / 1e9
        shown_s[probability] = [
            next(at_s for at_s, m in room.messages if f"w{number}" in m.text.split()) - begun_s
            for number in range(1, 12)
        ]
    gained_s = np.subtract(shown_s[0.3], shown_s[0.9])
    assert np.median(gained_s) >= 0.3


async def test_a_likely_word_that_is_heard_otherwise_later_is_corrected_in_its_line() -> None:
    speaker = SpeakerCaptions("a", cut_after_s=10, max_backlog_s=20)
    silence = np.zeros(2 * RATE_HZ, np.float32)
    speaker.hear(UtteranceStarted(0, 0, silence), now_s=0)

    def understood(text: str) -> list[str]:
        words = tuple(
            Word(word, n * 0.3, (n + 1) * 0.3, 0.9) for n, word in enumerate(text.split())
        )
        snapshot = speaker.take(now_s=0, merge=False)
        messages = speaker.understood(snapshot, Recognition(words, "en"))
        assert {message.line for message in messages} <= {0}
        return [message.text for message in messages]

    assert understood("the bud") == ["the bud"]
    assert understood("the") == []  # not taken back: it may come again
    assert understood("the budget") == ["the budget"]
    speaker.hear(UtteranceEnded(0, 1_500_000_000, 1_900_000_000), now_s=0)
    assert understood("the budget") == ["the budget"]


async def test_shown_words_never_change() -> None:
    room = make_room()
    await _run(room, room.speak("a", words=40))
    shown: dict[int, str] = {}
    for _, message in room.messages:
        assert message.text.startswith(shown.get(message.line, ""))
        assert "half" not in message.text
        shown[message.line] = message.text


async def test_two_utterances_are_two_lines() -> None:
    room = make_room()

    async def twice() -> None:
        await room.speak("a", words=3)
        await asyncio.sleep(1)
        await room.speak("a", words=3, first=50)

    await _run(room, twice())
    assert {m.line: m.text for _, m in room.messages} == {0: _expected(3), 1: _expected(3, 50)}


async def test_new_audio_adds_up_to_what_was_heard() -> None:
    room = make_room()
    await _run(room, room.speak("a", words=10))
    total_ms = sum(message.new_audio_len_ms for _, message in room.messages)
    assert total_ms == pytest.approx(10 * 400 + 400, abs=110)


async def test_a_long_utterance_is_cut_and_loses_and_repeats_nothing() -> None:
    room = make_room()
    await _run(room, room.speak("a", words=70))  # 28 s
    assert room.said("a") == _expected(70)
    assert max(room.audio_s) <= 12.0


async def test_a_speaker_never_has_two_jobs() -> None:
    room = make_room(cost_s=0.8)
    await _run(room, *(room.speak(name, words=20) for name in "abcd"))
    assert room.most_per_speaker == 1
    assert len(room.running) <= 2


async def test_finished_utterances_go_before_open_ones() -> None:
    room = make_room(cost_s=0.3, workers=1)

    async def late() -> None:
        await asyncio.sleep(1.0)
        await room.speak("b", words=2)

    await _run(room, room.speak("a", words=20), late())
    finals = [at for at, (final, name) in enumerate(room.order) if final and name == "b"]
    assert len(finals) == 1
    # From the end of b's utterance at most the job then running comes before it.
    ended_s = 1.0 + 0.8 + 0.4
    final_shown_s = next(at for at, m in room.messages if m.session_id == "b" and m.final)
    assert final_shown_s - ended_s <= 2 * 0.3 + 0.11


async def test_nobody_starves() -> None:
    room = make_room(cost_s=0.5, workers=1)
    await _run(room, *(room.speak(name, words=25) for name in "abc"))
    partials = Counter(name for final, name in room.order if not final)
    assert max(partials.values()) - min(partials.values()) <= 2
    assert {room.said(name) for name in "abc"} == {_expected(25)}


async def test_steps_grow_with_the_cost_of_a_job() -> None:
    cheap, dear = make_room(cost_s=0.02), make_room(cost_s=1.0)
    await _run(cheap, cheap.speak("a", words=20))
    await _run(dear, dear.speak("a", words=20))
    assert len(cheap.order) >= 14
    assert len(dear.order) <= 10
    assert dear.said("a") == cheap.said("a") == _expected(20)


async def test_overload_sheds_partials_then_recovers() -> None:
    room = make_room(cost_s=1.5, workers=1)
    speeches = [room.speak(name, words=6, first=n * 50 + 1) for n, name in enumerate("abcdef")]
    await _run(room, *speeches, settle_s=15)
    assert TRANSCRIBER_BUSY in {name for name, _ in room.metrics}
    assert room.board.idle
    for n, name in enumerate("abcdef"):
        assert room.said(name) == _expected(6, n * 50 + 1)
    room.cost_s = 0.05
    await _run(room, room.speak("a", words=1), settle_s=20)
    for _ in range(25):  # choosing work is what lets the level fall
        room.board.next_job(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
    assert room.board.level == 0


async def test_audio_that_waits_too_long_is_dropped_and_counted() -> None:
    room = make_room(cost_s=60.0, workers=1, options=CaptionOptions(max_backlog_s=4.0))

    async def talk() -> None:
        for turn in range(6):
            await room.speak("a", words=5, first=turn * 10 + 1)
            await asyncio.sleep(0.5)

    await _run(room, talk(), settle_s=0)
    assert (WINDOW_DROPPED, "a") in room.metrics
    assert room.board.audio_dropped_s > 0
    waiting_s = room.board._speakers["a"].undecoded_s
    assert waiting_s <= 4.0 + 5.0  # what the running job holds comes on top


async def test_a_failing_engine_costs_that_utterance_only() -> None:
    room = make_room()
    scheduling = asyncio.create_task(room.scheduler.run())
    room.engine.fails = True
    await room.speak("a", words=5)
    await asyncio.sleep(1)
    assert room.scheduler.jobs_failed > 0
    assert room.messages == []
    room.engine.fails = False
    await room.speak("a", words=5, first=20)
    await asyncio.sleep(1)
    assert room.said("a") == _expected(5, 20)
    scheduling.cancel()


async def test_a_slow_machine_is_strained_and_the_final_text_gives_way() -> None:
    quick, slow = make_room(cost_s=0.05), make_room(cost_s=1.5, workers=1)
    strained: list[bool] = []

    async def look(room: Room) -> None:
        for _ in range(60):
            await asyncio.sleep(0.1)
            strained.append(room.board.strained)

    await _run(quick, quick.speak("a", words=12), look(quick))
    assert not any(strained)
    await _run(slow, slow.speak("a", words=12), slow.speak("b", words=12), look(slow))
    assert any(strained)


async def test_under_load_those_who_go_on_still_get_captions_but_less_often() -> None:
    room = make_room(cost_s=0.02)
    room.board._shedder.observe(1.5, now_s=asyncio.get_running_loop().time())
    await _run(room, room.speak("a", words=10), settle_s=0)  # 4 s, and calm only after five
    partials = [at for at, (final, _) in enumerate(room.order) if not final]
    assert 1 <= len(partials) <= 2
    assert room.board.level == 1


def test_a_doubtful_final_text_is_heard_again_in_full_context() -> None:
    heard: list[float] = []

    class Doubter(CountingEngine):
        def hypothesise(self, audio, *, language, context_s, complete) -> Recognition:
            heard.append(context_s)
            return Recognition((Word("hm", 0, 1, 0.2),), "en", mean_log_probability=-2.0)

    board = CaptionBoard(
        Doubter(workers=1),
        options=CaptionOptions(context_s=12.0),
        publish=lambda message: None,
        report_metric=lambda name, session_id: None,
    )
    board.hear("a", UtteranceStarted(0, 0, np.zeros(RATE_HZ, np.float32)), now_s=0)
    board.next_job(0).run()
    assert heard == [12.0]  # what goes on is heard again anyway
    board.hear("a", UtteranceEnded(0, 10**9, 10**9), now_s=1)
    board._speakers["a"].busy = False
    board.next_job(1).run()
    assert heard == [12.0, 12.0, 30.0]

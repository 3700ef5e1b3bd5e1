"""The final text of a call from its captures, with the real small model, and what a failure costs."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.transcriber.capture import CapturedTrack, TrackCapture, TrackIdentity, VoicePacket
from jobs.transcriber.engines.base import EngineError, EngineInfo, Recognition, Word
from jobs.transcriber.listening import UtteranceEnded
from jobs.transcriber.scheduler import SpeechScheduler
from jobs.transcriber.transcript import INAUDIBLE, Segment, TranscriptBacklog

SECOND_NS = 1_000_000_000


class LengthEngine:
    """Says how many tenths of a second it heard; fails on what is longer than a second."""

    info = EngineInfo("fake", "fake", "cpu", "none", 2, 1, multilingual=False)

    def transcribe(self, audio, *, language) -> Recognition:
        tenths = round(len(audio) / 1600)
        if tenths > 10:
            raise EngineError("too long for me")
        if tenths < 3:
            return Recognition((), "en")
        return Recognition((Word(f"{tenths}", 0.1, 0.2, 0.9),), "en")

    def hypothesise(self, audio, *, language, context_s, complete) -> Recognition:
        raise NotImplementedError


def _capture(path: Path, packets: list[VoicePacket], *, flush: bool = True) -> TrackCapture:
    capture = TrackCapture(path, TrackIdentity(path.stem, f"session-{path.stem}", "user"))
    for packet in packets:
        capture.add(packet)
    if flush:
        capture.flush()
    return capture


def _ended(onset_s: float, end_s: float, *, heard_s: float | None = None) -> UtteranceEnded:
    heard = end_s + 0.4 if heard_s is None else heard_s
    return UtteranceEnded(*(round(value * SECOND_NS) for value in (onset_s, end_s, heard)))


async def _transcribe(backlog: TranscriptBacklog) -> list[Segment]:
    backlog.max_running = 2
    with ThreadPoolExecutor(2) as pool:
        scheduler = SpeechScheduler([backlog], workers=2, execute=pool)
        running = asyncio.create_task(scheduler.run())
        async with asyncio.timeout(20):
            while not backlog.idle:
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return backlog.segments


async def test_a_failing_piece_is_marked_and_the_rest_is_there(clips, tmp_path: Path) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets())
    backlog = TranscriptBacklog(LengthEngine())
    for utterance in (_ended(1, 3), _ended(4, 4.4), _ended(5, 5.1, heard_s=5.1)):
        backlog.add(capture, utterance)
    segments = await _transcribe(backlog)
    assert [(s.text, s.failure) for s in segments] == [
        (INAUDIBLE, "too long for me"),
        ("10", ""),
        ("4", ""),
    ]
    assert (backlog.pieces, backlog.pieces_done, backlog.pieces_failed) == (3, 3, 1)


async def test_a_missing_capture_costs_its_pieces_only(clips, tmp_path: Path) -> None:
    good = _capture(tmp_path / "good.ogg", clips["bob"].packets())
    lost = _capture(tmp_path / "lost.ogg", clips["alice"].packets())
    (tmp_path / "lost.ogg").unlink()
    backlog = TranscriptBacklog(LengthEngine())
    backlog.add(lost, _ended(1, 1.3))
    backlog.add(good, _ended(2, 2.3))
    assert [s.failure for s in await _transcribe(backlog)] == ["FileNotFoundError", ""]


class OneWordEngine(LengthEngine):
    """Finds a word between two times of any sound."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self._word = Word("word", start_s, end_s, 0.9)

    def transcribe(self, audio, *, language) -> Recognition:
        return Recognition((self._word,), "en")


@pytest.mark.parametrize(
    ("found_s", "end_s", "word_ends_s"),
    [
        ((0.1, 0.2), 1.4, 1.4),  # too early, as alignment does
        ((0.6, 1.1), 1.4, 1.4),  # in the silence behind
        ((0.8, 1.1), 1.4, 1.5),  # begins in that silence: nothing ends before it begins
        ((0.1, 0.2), 2.0, 0.9),  # so far from the end that there must have been another word
    ],
)
async def test_the_last_word_ends_where_the_voice_was_heard_to_end(
    found_s: tuple[float, float], end_s: float, word_ends_s: float, clips, tmp_path: Path
) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets())
    backlog = TranscriptBacklog(OneWordEngine(*found_s))
    backlog.add(capture, _ended(1.0, end_s))  # its sound begins at 0.7 s
    (segment,) = await _transcribe(backlog)
    assert segment.words[-1].end_ns == round(word_ends_s * SECOND_NS)


async def test_a_piece_without_words_leaves_nothing(clips, tmp_path: Path) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets())
    backlog = TranscriptBacklog(LengthEngine())
    backlog.add(capture, _ended(0.0, 0.1, heard_s=0.2))
    assert await _transcribe(backlog) == []


def test_a_piece_waits_until_its_sound_is_on_disk(clips, tmp_path: Path) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets(), flush=False)
    backlog = TranscriptBacklog(LengthEngine())
    backlog.add(capture, _ended(1, 2))
    assert backlog.next_job(0) is None
    capture.flush()
    assert backlog.next_job(0) is not None


def test_only_one_piece_at_a_time_while_captions_need_the_others(clips, tmp_path: Path) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets())
    backlog = TranscriptBacklog(LengthEngine())
    for second in range(3):
        backlog.add(capture, _ended(second, second + 0.5))
    assert backlog.next_job(0) is not None
    assert backlog.next_job(0) is None
    backlog.max_running = 2
    assert backlog.next_job(0) is not None


async def test_the_pieces_of_an_endless_speech_do_not_overlap(clips, tmp_path: Path) -> None:
    """After a cut without a pause the pre-roll would repeat the words before it."""
    capture = _capture(tmp_path / "a.ogg", clips["carol"].packets())
    backlog = TranscriptBacklog(LengthEngine())
    backlog.add(capture, _ended(3.0, 3.9, heard_s=3.9))
    backlog.add(capture, _ended(3.9, 4.4))
    assert [s.text for s in await _transcribe(backlog)] == [INAUDIBLE, "8"]


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
async def test_captured_sentences_are_understood_at_their_time(
    clips, engine, tmp_path: Path, name: str
) -> None:
    from jobs.transcriber.listening import Ear
    from jobs.transcriber.vad import load_silero

    clip, start_ns = clips[name], 3600 * SECOND_NS
    capture = _capture(tmp_path / f"{name}.ogg", clip.packets(start_ns=start_ns))
    backlog = TranscriptBacklog(engine)
    ear = Ear(load_silero())
    captured = CapturedTrack(capture.path)
    for event in [*ear.hear(list(captured.packets())), *ear.close()]:
        if isinstance(event, UtteranceEnded):
            backlog.add(captured, event)
    segments = await _transcribe(backlog)
    assert len(segments) == len(clip.sentences)
    for segment, sentence in zip(segments, clip.sentences, strict=True):
        assert abs((segment.start_ns - start_ns) / 1e9 - sentence.start_s) <= 0.1
        assert segment.words[-1].end_ns <= segment.end_ns + 0.5e9
    errors = word_errors(clip.text.split(), " ".join(s.text for s in segments).split())
    assert errors / len(clip.text.split()) <= 0.10


def word_errors(wanted: list[str], heard: list[str]) -> int:
    """Levenshtein distance over words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, start=1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


def _refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)


@pytest.mark.parametrize("written", [0, 100])
async def test_what_a_full_disk_refuses_is_transcribed_from_memory(
    clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine, written: int
) -> None:
    clip = clips["bob"]
    packets = clip.packets()
    capture = _capture(tmp_path / "a.ogg", packets[:written])
    _refuse(monkeypatch)
    for packet in packets[written:]:
        capture.add(packet)
    with pytest.raises(OSError, match="No space"):
        capture.flush()
    backlog = TranscriptBacklog(engine)
    for sentence in clip.sentences:
        backlog.add(capture, _ended(sentence.start_s, sentence.end_s))
    segments = await _transcribe(backlog)
    assert [segment.text for segment in segments] == [s.text for s in clip.sentences]


@pytest.mark.documents("speech-that-the-full-disk-did-not-take")
async def test_what_was_given_up_says_that_the_disk_was_full(
    clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets()[:50])
    _refuse(monkeypatch)
    payload = clips["bob"].payloads[60]
    for number in range(50, 50 + 4000):  # 80 s, of which memory keeps the last 60
        capture.add(VoicePacket(payload, number * 20_000_000, 20_000_000))
    with pytest.raises(OSError, match="No space"):
        capture.flush()
    assert capture.packets_dropped == 1000
    backlog = TranscriptBacklog(LengthEngine())
    backlog.add(capture, _ended(5, 5.6))
    backlog.add(capture, _ended(70, 70.4))
    segments = await _transcribe(backlog)
    documented("speech-that-the-full-disk-did-not-take", segments[0].failure)
    assert segments[1].failure == ""


async def test_while_a_flush_is_under_way_a_piece_waits_for_it(clips, tmp_path: Path) -> None:
    capture = _capture(tmp_path / "a.ogg", clips["bob"].packets(), flush=False)
    backlog = TranscriptBacklog(LengthEngine())
    backlog.add(capture, _ended(1, 1.5))
    assert backlog.next_job(0) is None
    capture.flush()
    assert backlog.next_job(0) is not None

"""One bad packet, track, language or call of the engine costs its piece; everything else has its text."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from jobs.transcriber import redo
from jobs.transcriber.audio import ns_to_samples
from jobs.transcriber.capture import CapturedTrack, TrackCapture, TrackIdentity, VoicePacket
from jobs.transcriber.engines.base import EngineError, EngineInfo, Recognition, Word
from jobs.transcriber.language import SpokenLanguages
from jobs.transcriber.redo import transcribe_captures
from jobs.transcriber.transcript import INAUDIBLE, Segment
from jobs.transcriber.vad import load_silero

PACKET_NS = 20_000_000


def _capture(directory: Path, name: str, packets: list[VoicePacket]) -> CapturedTrack:
    path = directory / f"{name}.ogg"
    capture = TrackCapture(path, TrackIdentity(name, f"session-{name}", f"user-{name}"))
    for packet in packets:
        capture.add(packet)
    capture.flush()
    return CapturedTrack(path)


async def _texts(captures, engine, **options: object) -> list[Segment]:
    return await transcribe_captures(
        captures, engine=engine, voice_activity=load_silero(), workers=2, **options
    )


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "huge"])
async def test_bad_packets_cost_the_words_in_them(clips, engine, tmp_path: Path, kind: str) -> None:
    """A fifth of bob's second sentence; the other three are as they were."""
    clip, rng = clips["bob"], random.Random(7)
    packets = clip.packets()
    spoilt = clip.sentences[1]
    begin, end = (round(at_s * 50) for at_s in (spoilt.start_s, spoilt.end_s))
    for index in rng.sample(range(begin, end), (end - begin) // 5):
        payload = {
            "garbage": rng.randbytes(60),
            "empty": b"\xff",
            "cut": packets[index].payload[:3],
            "huge": rng.randbytes(1275),
        }[kind]
        packets[index] = VoicePacket(payload, packets[index].call_ns, PACKET_NS)
    segments = await _texts([_capture(tmp_path, "bob", packets)], engine)
    texts = [segment.text for segment in segments if segment.start_ns / 1e9 < spoilt.start_s - 0.2]
    texts += [segment.text for segment in segments if segment.start_ns / 1e9 > spoilt.end_s]
    assert texts == [clip.sentences[index].text for index in (0, 2, 3)]


async def test_a_damaged_track_costs_nobody_elses_text(
    clips, engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = _capture(tmp_path, "bob", clips["bob"].packets())
    bad = _capture(tmp_path, "carol", clips["carol"].packets())
    listen = redo._listen

    def fail(capture, voice_activity):
        if capture is bad:
            raise ValueError("a page that lies about its length")
        return listen(capture, voice_activity)

    monkeypatch.setattr(redo, "_listen", fail)
    segments = await _texts([bad, good], engine)
    assert [segment.text for segment in segments] == [s.text for s in clips["bob"].sentences]


class Choosy:
    """Breaks in its own way for each kind of piece; hears German in whatever bob says."""

    info = EngineInfo("fake", "fake", "cpu", "none", 2, 1, multilingual=True, detects_language=True)

    def __init__(self) -> None:
        self.faults: list[Exception] = []

    def transcribe(self, audio, *, language) -> Recognition:
        if language == "de":
            raise EngineError("no German here")
        if self.faults:
            raise self.faults.pop(0)
        return Recognition((Word("text", 0.0, 0.5, 0.9),), language or "en")

    def detect_language(self, audio):
        # bob's voice is the only one that is played backwards
        return (("de", 0.9), ("en", 0.1)) if audio[0] == -1 else (("en", 0.9), ("de", 0.1))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (EngineError("RuntimeError in faster-whisper"), "RuntimeError in faster-whisper"),
        (MemoryError("a private word"), "MemoryError"),
        (KeyError("a private word"), "KeyError"),
    ],
)
async def test_a_call_that_fails_is_marked_with_its_reason(
    clips, tmp_path: Path, fault: Exception, reason: str
) -> None:
    engine = Choosy()
    engine.faults = [fault]
    segments = await _texts([_capture(tmp_path, "bob", clips["bob"].packets())], engine)
    assert sorted(s.failure for s in segments) == ["", "", "", reason]
    assert [s.text for s in segments].count(INAUDIBLE) == 1
    assert [s.text for s in segments].count("text") == 3


def test_a_language_that_the_engine_lacks_costs_its_speaker_only() -> None:
    languages = SpokenLanguages(Choosy())
    german = np.full(ns_to_samples(3_000_000_000), -1, np.float32)
    english = np.full(ns_to_samples(3_000_000_000), 1, np.float32)
    with pytest.raises(EngineError, match="no German here"):
        languages.recognise("bob", german)
    assert languages.recognise("alice", english).text == "text"

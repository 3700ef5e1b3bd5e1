"""An engine that does not come back: the call is captured to its end, and `salvage` has all of it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from foundation.channel import Channel
from foundation.clock import SystemClock
from jobs.transcriber import job
from jobs.transcriber.captions import CaptionOptions
from jobs.transcriber.capture import find_captures
from jobs.transcriber.engines.base import EngineInfo, EngineUnavailable, Recognition, Word
from jobs.transcriber.models import Models
from jobs.transcriber.pipeline import CallPipeline
from jobs.transcriber.transcript import TranscriptJob
from jobs.transcriber.vad import load_silero
from jobs.transcriber.workers import EngineGone


class Hanging:
    """Hears one word in everything; from call `hangs_from` on it does not answer until `go`."""

    def __init__(self, *, hangs_from: int, remote: bool = False) -> None:
        self.info = EngineInfo(
            "fake", "fake", "cpu", "none", 1, 1, multilingual=False, remote=remote
        )
        self.go = threading.Event()
        self._hangs_from = hangs_from
        self._lock = threading.Lock()
        self._calls = 0

    def transcribe(self, audio: np.ndarray, *, language: str | None) -> Recognition:
        with self._lock:
            self._calls += 1
            call = self._calls
        if call > self._hangs_from:
            self.go.wait()
        return Recognition((Word("text", 0.0, 0.5, 0.9),), "en")


class Away:
    """Hears one word in everything; calls `away` find no engine."""

    def __init__(self, away: range) -> None:
        self.info = EngineInfo("fake", "fake", "cpu", "none", 1, 1, multilingual=False)
        self.go = threading.Event()
        self._away = away
        self._calls = 0

    def transcribe(self, audio: np.ndarray, *, language: str | None) -> Recognition:
        self._calls += 1
        if self._calls in self._away:
            raise EngineUnavailable("no memory")
        return Recognition((Word("text", 0.0, 0.5, 0.9),), "en")


@pytest.fixture
def transcribed(clips, peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`await transcribed(engine)`: the pipeline of a call in which alice says her four sentences.

    `limit_s`: a call that takes longer hangs; only engines that answer nothing any more may get little."""

    async def run(engine: Hanging | Away, *, limit_s: float = 20.0) -> CallPipeline:
        monkeypatch.setattr(TranscriptJob, "limit_s", limit_s)
        pipeline = CallPipeline(
            peer,
            Models(engine, None, load_silero(), 1),
            directory=tmp_path,
            zero_ns=peer.zero_ns,
            clock=SystemClock(),
            caption_options=CaptionOptions(),
            on_figures=lambda figures: None,
            on_backlog=lambda done, total: None,
        )
        tracks = Channel(10)
        running = asyncio.create_task(pipeline.run(tracks))
        track = peer.add_voice("alice")
        tracks.offer(track)
        peer.say(track, clips["alice"].packets())
        await peer.until_taken()
        pipeline.end_call()
        try:
            await running
        finally:
            engine.go.set()
        return pipeline

    return run


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("hangs_from", [0, 1, 2])
@pytest.mark.documents("a-speech-engine-that-is-gone")
async def test_an_engine_that_is_given_up_leaves_the_whole_call_to_salvage(
    transcribed, clips, tmp_path: Path, hangs_from: int, remote: bool, documented
) -> None:
    with pytest.raises(EngineGone) as gone:
        await transcribed(Hanging(hangs_from=hangs_from, remote=remote), limit_s=0.02)
    documented("a-speech-engine-that-is-gone", str(gone.value))
    (capture,) = find_captures(tmp_path)
    assert len(list(capture.packets())) == len(clips["alice"].payloads)


@pytest.mark.parametrize("away_from", [1, 3])
@pytest.mark.documents("a-speech-engine-that-is-gone/2", "a-part-of-a-job-that-fails/7")
async def test_an_engine_that_cannot_be_started_again_leaves_the_whole_call_to_salvage(
    transcribed, clips, tmp_path: Path, away_from: int, documented
) -> None:
    with capture_logs() as lines, pytest.raises(EngineGone) as gone:
        await transcribed(Away(range(away_from, 1000)))
    documented(
        "a-part-of-a-job-that-fails/7",
        next(line["event"] for line in lines if line["log_level"] == "error"),
    )
    documented("a-speech-engine-that-is-gone/2", str(gone.value))
    (capture,) = find_captures(tmp_path)
    assert len(list(capture.packets())) == len(clips["alice"].payloads)


async def test_an_engine_that_comes_back_has_every_piece(transcribed) -> None:
    pipeline = await transcribed(Away(range(2, 6)))
    assert [s.text for s in pipeline.backlog.segments] == ["text"] * 4
    figures = pipeline.figures()
    assert (figures["segments_done"], figures["segments_failed"]) == (4, 0)


async def test_one_call_that_hangs_costs_its_piece(transcribed) -> None:
    pipeline = await transcribed(Hanging(hangs_from=3), limit_s=1.0)
    assert [s.text for s in pipeline.backlog.segments] == ["text"] * 3 + ["[inaudible]"]
    assert pipeline.backlog.segments[-1].failure == "no answer within 1 s"
    assert pipeline.figures()["speech_workers_replaced"] == 1


async def test_a_voice_waits_for_a_job_as_long_as_that_may_take_to_start() -> None:
    track = RemoteTrack(track_id="t", session_id="s", source=TrackSource.VOICE, codec=Codec.OPUS)
    for number in range(round(job._START_TIMEOUT_S * 50)):
        track.deliver(EncodedFrame(b"x", number, 20_000_000, keyframe=True, lost_before=0))
    assert track.statistics.frames_dropped == 0

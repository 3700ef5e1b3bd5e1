"""The transcriber's own ways from packets to words: captures after the call, and live in virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.speech_accuracy.speech import Track
from jobs.transcriber.caption_speaker import CaptionMessage
from jobs.transcriber.captions import CaptionBoard, CaptionOptions
from jobs.transcriber.capture import (
    TrackCapture,
    TrackIdentity,
    VoicePacket,
    find_captures,
)
from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.listening import Ear
from jobs.transcriber.redo import transcribe_captures
from jobs.transcriber.scheduler import SpeechJob
from jobs.transcriber.transcript import Segment
from jobs.transcriber.vad import SpeechModel

_TICK_S: Final = 0.1
_LATE_S: Final = 0.4
_LONGEST_REST_S: Final = 60.0
_FLUSH_PACKETS: Final = 50


def offline(
    tracks: Sequence[Track], *, engine: SpeechEngine, ear_model: SpeechModel, directory: Path
) -> list[Segment]:
    """The final transcript, by way of captures in `directory`, which must be empty. Blocks."""
    for track in tracks:
        identity = TrackIdentity(track.name, track.name, track.name)
        capture = TrackCapture(directory / f"{track.name}.ogg", identity)
        for number, packet in enumerate(track.packets, 1):
            capture.add(packet)
            if number % _FLUSH_PACKETS == 0:
                capture.flush()
        capture.flush()
    redo = transcribe_captures(
        find_captures(directory),
        engine=engine,
        voice_activity=ear_model,
        workers=engine.info.workers,
    )
    return asyncio.run(redo)


@dataclass(slots=True)
class LiveResult:
    """What viewers got."""

    lines: dict[tuple[str, int], str] = field(default_factory=dict)
    """The last text of each line, by speaker and number."""
    partial_lags_s: list[float] = field(default_factory=list)
    final_lags_s: list[float] = field(default_factory=list)
    """From the end of the last word of a message until it was sent."""
    metrics: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """All of a speaker's lines."""
        return " ".join(
            text for (speaker, _), text in sorted(self.lines.items()) if speaker == name
        )


class LiveRun:
    """A call in virtual time, with one worker. Blocks."""

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        engine: SpeechEngine,
        ear_model: SpeechModel,
        options: CaptionOptions,
        cost_s: float | None,
    ) -> None:
        """`cost_s`: what a hypothesis takes of the call's time; None: what it takes here."""
        self.result = LiveResult()
        self._cost_s = cost_s
        self._now_s = 0.0
        self._board = CaptionBoard(
            engine,
            options=options,
            publish=self._publish,
            report_metric=lambda name, _: self.result.metrics.append(name),
        )
        self._ears = [
            (track.name, list(reversed(track.packets)), Ear(ear_model)) for track in tracks
        ]
        self._running: tuple[float, SpeechJob, Exception | None, float] | None = None

    def run(self) -> LiveResult:
        """To the last caption."""
        rest_s = 0.0
        while rest_s < _LONGEST_REST_S:
            self._now_s = round(self._now_s + _TICK_S, 3)
            said = [self._hear(name, waiting, ear) for name, waiting, ear in self._ears]
            self._work()
            if any(said):
                rest_s = 0.0
            elif self._board.idle:
                break
            else:
                rest_s += _TICK_S
        return self.result

    def _hear(self, name: str, waiting: list[VoicePacket], ear: Ear) -> bool:
        batch = []
        while waiting and waiting[-1].end_ns <= self._now_s * 1e9:
            batch.append(waiting.pop())
        events = ear.hear(batch) if batch else ear.silence(round((self._now_s - _LATE_S) * 1e9))
        for event in events:
            self._board.hear(name, event, now_s=self._now_s)
        return bool(waiting or ear.speaking)

    def _work(self) -> None:
        tick_s = self._now_s
        while True:
            if self._running is not None:
                done_s, job, error, cost_s = self._running
                if done_s > tick_s:
                    break
                self._now_s, self._running = max(done_s, tick_s - _TICK_S), None
                job.settle(error, cost_s=cost_s)
            following = self._board.next_job(self._now_s)
            if following is None:
                break
            self._running = self._begin(following)
        self._now_s = tick_s

    def _begin(self, job: SpeechJob) -> tuple[float, SpeechJob, Exception | None, float]:
        failure: Exception | None = None
        began_s = time.perf_counter()
        try:
            job.run()
        except Exception as error:  # noqa: BLE001 - as the scheduler does
            failure = error
        cost_s = time.perf_counter() - began_s if self._cost_s is None else self._cost_s
        return self._now_s + cost_s, job, failure, cost_s

    def _publish(self, message: CaptionMessage) -> None:
        self.result.lines[message.session_id, message.line] = message.text
        lag_s = self._now_s - message.spoken_until_ns / 1e9
        lags = self.result.final_lags_s if message.final else self.result.partial_lags_s
        lags.append(lag_s)

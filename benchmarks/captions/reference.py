"""Captions as the reference makes them (calls-plugin.md 8.1), written anew from that description.

Every 2 s each track's newest 8 s are heard as a whole and their whole text is sent; nothing is sent when the
new part is silent; 3 s of silence empty the window; more than 12 s that wait are thrown away. The final text
is made after the call. Generous where the description leaves a choice: a voice detector without errors or
cost, the context cut to 10 s, our workers and our pace of sending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from jobs.transcriber.audio import RATE_HZ, Samples, VoiceDecoder
from jobs.transcriber.caption_speaker import CaptionMessage
from jobs.transcriber.captions import TRANSCRIBER_BUSY, WINDOW_DROPPED, CaptionOptions
from jobs.transcriber.capture import VoicePacket
from jobs.transcriber.engines.base import Recognition, SpeechEngine
from jobs.transcriber.listening import UtteranceContinued, UtteranceEvent
from jobs.transcriber.vad import SpeechModel

_TICK_S: Final = 2.0
_WINDOW: Final = 8 * RATE_HZ
_SILENCE: Final = 3 * RATE_HZ
_MOST_WAITING: Final = 12 * RATE_HZ
_LOUD: Final = 0.005
_BLOCK: Final = RATE_HZ // 20
_NOTHING: Final[Samples] = np.zeros(0, np.float32)


class ReferenceEar:
    """Hears everything, without regard for speech."""

    def __init__(self, model: SpeechModel) -> None:
        """`model` is not needed; every ear gets one."""
        self.decoder = VoiceDecoder()
        self.speaking = False

    def hear(self, packets: Sequence[VoicePacket]) -> list[UtteranceEvent]:
        return [UtteranceContinued(self.decoder.decode(packets))]

    def silence(self, until_ns: int) -> list[UtteranceEvent]:
        return []

    def close(self) -> list[UtteranceEvent]:
        return []


@dataclass(slots=True)
class _Track:
    session_id: str
    due_s: float
    waiting: list[Samples] = field(default_factory=list)
    window: Samples = field(default_factory=lambda: _NOTHING)
    silent: int = 0
    busy: bool = False
    sent: int = 0

    @property
    def waiting_samples(self) -> int:
        return sum(map(len, self.waiting))


class ReferenceBoard:
    """Takes the place of a `CaptionBoard`."""

    def __init__(
        self,
        engine: SpeechEngine,
        *,
        options: CaptionOptions,
        publish: Callable[[CaptionMessage], None],
        report_metric: Callable[[str, str], None],
        **_: object,
    ) -> None:
        self.level = 0
        self.strained = False
        self.audio_dropped_s = 0.0
        self._engine = engine
        self._options = options
        self._publish = publish
        self._report_metric = report_metric
        self._tracks: dict[str, _Track] = {}
        self._stopped = False

    @property
    def backlog_s(self) -> float:
        return max((t.waiting_samples for t in self._tracks.values()), default=0) / RATE_HZ

    def stop(self) -> None:
        self._stopped = True

    def hear(self, session_id: str, event: UtteranceEvent, *, now_s: float) -> None:
        if not isinstance(event, UtteranceContinued):
            return
        track = self._tracks.setdefault(session_id, _Track(session_id, now_s + _TICK_S))
        track.waiting.append(event.samples)
        if track.waiting_samples > _MOST_WAITING:
            self.audio_dropped_s += track.waiting_samples / RATE_HZ
            track.waiting.clear()
            track.window = _NOTHING
            self._report_metric(WINDOW_DROPPED, session_id)

    def next_job(self, now_s: float) -> ReferenceJob | None:
        if self._stopped:
            return None
        for track in sorted(self._tracks.values(), key=lambda track: track.due_s):
            if track.busy or now_s < track.due_s:
                continue
            if now_s >= track.due_s + _TICK_S:
                self._report_metric(TRANSCRIBER_BUSY, track.session_id)
            track.due_s = max(track.due_s + _TICK_S, now_s)
            new = np.concatenate([_NOTHING, *track.waiting])
            track.waiting.clear()
            if _is_silent(new):
                track.silent += len(new)
                if track.silent >= _SILENCE:
                    track.window = _NOTHING
                elif len(track.window):
                    track.window = np.concatenate([track.window, new])[-_WINDOW:]
                continue
            track.silent = 0
            track.window = np.concatenate([track.window, new])[-_WINDOW:]
            track.busy = True
            return ReferenceJob(self, track, track.window, len(new))
        return None

    def recognise(self, window: Samples) -> Recognition:
        options = self._options
        return self._engine.hypothesise(
            window, language=options.language, context_s=options.context_s, complete=True
        )

    def finished(self, track: _Track, result: Recognition | None, new: int) -> None:
        track.busy = False
        if result is None or not result.words:
            return
        track.sent += 1
        message = CaptionMessage(
            track.session_id, track.sent, result.text, False, 0, new * 1000 / RATE_HZ
        )
        self._publish(message)


class ReferenceJob:
    """One window (a `SpeechJob`)."""

    limit_s: Final = 60.0

    def __init__(self, board: ReferenceBoard, track: _Track, window: Samples, new: int) -> None:
        self._board = board
        self._track = track
        self._window = window
        self._new = new
        self._result: Recognition | None = None

    def run(self) -> None:
        self._result = self._board.recognise(self._window)

    def settle(self, error: Exception | None, *, cost_s: float) -> None:
        self._board.finished(self._track, None if error else self._result, self._new)


def _is_silent(samples: Samples) -> bool:
    count = len(samples) // _BLOCK
    blocks = samples[: count * _BLOCK].reshape(count, _BLOCK)
    return not bool((np.sqrt(np.square(blocks).mean(axis=1)) > _LOUD).any()) if count else True

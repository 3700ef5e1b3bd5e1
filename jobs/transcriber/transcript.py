"""The transcript in the making: which utterances still need their text, and the text of the others.

Utterances wait as times only; their sound is read from the capture when their turn comes, so a backlog of
hours costs no memory. A piece that fails is marked and costs nothing but itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from foundation.logs import get_logger
from jobs.transcriber.audio import read_samples
from jobs.transcriber.capture import CapturedTrack, TrackCapture
from jobs.transcriber.engines.base import EngineError, Recognition, SpeechEngine
from jobs.transcriber.listening import PRE_ROLL_NS, UtteranceEnded

INAUDIBLE: Final = "[inaudible]"
_AFTER_ROLL_NS: Final = 300_000_000
_log = get_logger(component="transcript")


@dataclass(frozen=True, slots=True)
class TranscriptWord:
    """A word in call time."""

    text: str
    start_ns: int
    end_ns: int
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One utterance of one speaker."""

    session_id: str
    user_id: str
    start_ns: int
    """Where the voice detector heard it begin; Whisper's own starts are tenths of a second off."""
    end_ns: int
    text: str
    language: str
    words: tuple[TranscriptWord, ...] = ()
    failure: str = ""
    """Why the text is `[inaudible]`; empty when it is not."""


class TranscriptBacklog:
    """A `WorkSource`, the least urgent one; lives on the event loop."""

    def __init__(
        self,
        engine: SpeechEngine,
        *,
        language: str | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._language = language
        self._on_progress = on_progress
        self._waiting: deque[_Piece] = deque()
        self._last_end_ns: dict[str, int] = {}
        self._running = 0
        self._segments: list[Segment] = []
        self._settled = asyncio.Event()
        self.max_running = 1
        """Pieces at work at once: one while captions need the other workers, more after the call."""
        self.pieces = 0
        """Utterances added so far."""
        self.pieces_done = 0
        self.pieces_failed = 0

    @property
    def idle(self) -> bool:
        return not self._waiting and self._running == 0

    async def until_idle(self) -> None:
        """Wait until every utterance added has its text or its failure."""
        while not self.idle:
            self._settled.clear()
            await self._settled.wait()

    @property
    def segments(self) -> list[Segment]:
        """What has text, in the order of the call."""
        return sorted(self._segments, key=lambda segment: (segment.start_ns, segment.session_id))

    def add(self, capture: TrackCapture | CapturedTrack, utterance: UtteranceEnded) -> None:
        """An utterance is over and will be on disk within a second."""
        identity = capture.identity
        # A cut without a pause: do not hear the end of the piece before once more.
        earliest_ns = self._last_end_ns.get(identity.track_id, 0)
        self._last_end_ns[identity.track_id] = utterance.end_ns
        self._waiting.append(
            _Piece(
                capture,
                utterance,
                audio_start_ns=max(utterance.onset_ns - PRE_ROLL_NS, earliest_ns),
                audio_end_ns=min(utterance.end_ns + _AFTER_ROLL_NS, utterance.heard_until_ns),
            )
        )
        self.pieces += 1

    def next_job(self, now_s: float) -> TranscriptJob | None:
        """See `WorkSource`."""
        if self._running >= self.max_running:
            return None
        for index, piece in enumerate(self._waiting):
            if piece.on_disk:
                del self._waiting[index]
                self._running += 1
                return TranscriptJob(self, piece)
        return None

    def recognise(self, piece: _Piece) -> Recognition:
        """Read the sound and ask the engine; in a worker thread."""
        samples = read_samples(
            CapturedTrack(piece.capture.path),
            start_ns=piece.audio_start_ns,
            end_ns=piece.audio_end_ns,
        )
        return self._engine.transcribe(samples, language=self._language)

    def finished(self, piece: _Piece, result: Recognition | None, error: Exception | None) -> None:
        """A piece is done; without a result it becomes an `[inaudible]` segment."""
        self._running -= 1
        self.pieces_done += 1
        self._settled.set()
        if result is not None:
            if result.words:
                self._segments.append(_segment(piece, result))
        else:
            self.pieces_failed += 1
            reason = str(error) if isinstance(error, EngineError) else type(error).__name__
            _log.warning("segment.inaudible", session_id=piece.session_id, reason=reason)
            self._segments.append(_inaudible(piece, reason))
        self._on_progress()


@dataclass(frozen=True, slots=True)
class _Piece:
    capture: TrackCapture | CapturedTrack
    utterance: UtteranceEnded
    audio_start_ns: int
    audio_end_ns: int

    @property
    def session_id(self) -> str:
        return self.capture.identity.session_id

    @property
    def on_disk(self) -> bool:
        capture = self.capture
        return not isinstance(capture, TrackCapture) or capture.on_disk(self.audio_end_ns)


class TranscriptJob:
    """The final text of one utterance (a `SpeechJob`)."""

    def __init__(self, backlog: TranscriptBacklog, piece: _Piece) -> None:
        self._backlog = backlog
        self._piece = piece
        self._result: Recognition | None = None

    def run(self) -> None:
        """See `SpeechJob`."""
        self._result = self._backlog.recognise(self._piece)

    def settle(self, error: Exception | None, *, cost_s: float) -> None:
        """See `SpeechJob`."""
        self._backlog.finished(self._piece, None if error else self._result, error)


def _segment(piece: _Piece, result: Recognition) -> Segment:
    identity = piece.capture.identity
    words = tuple(
        TranscriptWord(
            word.text,
            piece.audio_start_ns + round(word.start_s * 1e9),
            piece.audio_start_ns + round(word.end_s * 1e9),
            word.probability,
        )
        for word in result.words
    )
    return Segment(
        session_id=identity.session_id,
        user_id=identity.user_id,
        start_ns=piece.utterance.onset_ns,
        end_ns=piece.utterance.end_ns,
        text=result.text,
        language=result.language,
        words=words,
    )


def _inaudible(piece: _Piece, reason: str) -> Segment:
    identity = piece.capture.identity
    return Segment(
        session_id=identity.session_id,
        user_id=identity.user_id,
        start_ns=piece.utterance.onset_ns,
        end_ns=piece.utterance.end_ns,
        text=INAUDIBLE,
        language="",
        failure=reason,
    )

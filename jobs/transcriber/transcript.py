"""The transcript in the making: which utterances still need their text, and the text of the others.

Utterances wait as times only; their sound is read from the capture when their turn comes, so a backlog of
hours costs no memory. A piece that fails is marked and costs nothing but itself; one for which there was no
engine waits again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from jobs.transcriber.audio import HeldSound, Samples, read_samples
from jobs.transcriber.capture import CapturedTrack, TrackCapture
from jobs.transcriber.engines.base import (
    EngineError,
    EngineUnavailable,
    Recognition,
    SpeechEngine,
)
from jobs.transcriber.language import SpokenLanguages
from jobs.transcriber.listening import PRE_ROLL_NS, UtteranceEnded
from jobs.transcriber.workers import EngineGone

Sound = TrackCapture | CapturedTrack | HeldSound
"""What utterances are cut from: a capture in the making, one that is done, or somebody's file."""
INAUDIBLE: Final = "[inaudible]"
_AFTER_ROLL_NS: Final = 300_000_000
_LAST_WORD_MOVES_NS: Final = 1_000_000_000
"""What was understood to end farther than this from the end of the utterance is not its last word."""
_MOST_PUT_BACK: Final = 5
"""In a row. The engine itself takes seconds and several starts before it says that there is none."""
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
        languages: SpokenLanguages | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._languages = languages or SpokenLanguages(engine)
        self._on_progress = on_progress
        self._waiting: deque[_Piece] = deque()
        self._last_end_ns: dict[str, int] = {}
        self._running = 0
        self._segments: list[Segment] = []
        self._settled = asyncio.Event()
        self._put_back = 0
        """Pieces in a row for which there was no engine."""
        self._handed_out = 0
        self.max_running = 1
        """Pieces at work at once: one while captions need the other workers, more after the call."""
        self.pieces = 0
        """Utterances added so far."""
        self.pieces_done = 0
        self.pieces_failed = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is at work here."""
        return not self._waiting and self._running == 0

    async def until_idle(self) -> None:
        """Wait until every utterance added has its text or its failure.

        Raises:
            EngineGone: there is no engine for those that are left.
        """
        while not self.idle:
            if self._put_back >= _MOST_PUT_BACK:
                raise EngineGone("the speech engine cannot be started; salvage can finish the job")
            self._settled.clear()
            await self._settled.wait()

    @property
    def handed_out(self) -> int:
        """Pieces that somebody else has."""
        return self._handed_out

    def hand_out(self) -> list[Share]:
        """What waits and may be transcribed elsewhere, by speaker; it comes back by one of the next two."""
        by_speaker: dict[str, list[_Piece]] = {}
        for piece in self._waiting:
            by_speaker.setdefault(piece.speaker, []).append(piece)
        shares = [
            Share(tuple(pieces))
            for pieces in by_speaker.values()
            # Of a disk that refuses sound memory has the rest, and memory stays here.
            if all(_is_whole(piece) for piece in pieces)
        ]
        handed_out = {id(piece) for share in shares for piece in share.pieces}
        self._waiting = deque(piece for piece in self._waiting if id(piece) not in handed_out)
        self._handed_out += len(handed_out)
        return shares

    def take_back(self, share: Share) -> None:
        """Nobody else does it: its pieces wait again."""
        self._handed_out -= len(share.pieces)
        self._waiting.extend(share.pieces)

    def take_over(self, share: Share, segments: Sequence[Segment]) -> None:
        """Somebody else has done it."""
        self._handed_out -= len(share.pieces)
        self.pieces_done += len(share.pieces)
        self.pieces_failed += sum(bool(segment.failure) for segment in segments)
        self._segments += segments
        self._on_progress()

    @property
    def segments(self) -> list[Segment]:
        """What has text, in the order of the call."""
        return sorted(self._segments, key=lambda segment: (segment.start_ns, segment.session_id))

    def add(self, capture: Sound, utterance: UtteranceEnded) -> None:
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
            if piece.readable:
                del self._waiting[index]
                self._running += 1
                return TranscriptJob(self, piece)
        return None

    def recognise(self, piece: _Piece) -> Recognition:
        """Read the sound and ask the engine; in a worker thread."""
        samples = piece.samples()
        return self._languages.recognise(piece.speaker, samples)

    def finished(self, piece: _Piece, result: Recognition | None, error: Exception | None) -> None:
        """A piece is done: without a result it is `[inaudible]`, without an engine it waits again."""
        self._running -= 1
        self._settled.set()
        if isinstance(error, EngineUnavailable):
            self._put_back += 1
            self._waiting.appendleft(piece)
            _log.error("segment.put_back", in_a_row=self._put_back, reason=str(error))
            return
        self._put_back = 0
        self.pieces_done += 1
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
    capture: Sound
    utterance: UtteranceEnded
    audio_start_ns: int
    audio_end_ns: int

    @property
    def session_id(self) -> str:
        return self.capture.identity.session_id

    @property
    def speaker(self) -> str:
        """Under which key the speaker's language is kept: one person may have had several tracks."""
        identity = self.capture.identity
        return identity.user_id or identity.session_id

    @property
    def readable(self) -> bool:
        """On disk, or the disk takes nothing and memory has to do: a full one must not hold up the text."""
        capture = self.capture
        if not isinstance(capture, TrackCapture):
            return True
        return capture.on_disk(self.audio_end_ns) or capture.refused

    def samples(self) -> Samples:
        """Its sound. Blocks. Raises OSError, ValueError, EngineError (most of it is gone)."""
        capture = self.capture
        start_ns, end_ns = self.audio_start_ns, self.audio_end_ns
        if isinstance(capture, HeldSound):
            return capture.samples(start_ns=start_ns, end_ns=end_ns)
        if isinstance(capture, CapturedTrack):
            return read_samples(CapturedTrack(capture.path), start_ns=start_ns, end_ns=end_ns)
        # In this order: what is written between the two steps is in both of them.
        unwritten = capture.unwritten(start_ns, end_ns)
        spoken_ns = self.utterance.end_ns - self.utterance.onset_ns
        if 2 * capture.dropped(self.utterance.onset_ns, self.utterance.end_ns) > spoken_ns:
            raise EngineError("the disk was full: its sound could not be kept")
        try:
            written = CapturedTrack(capture.path)
        except (OSError, ValueError):
            if not unwritten:
                raise
            written = None
        return read_samples(written, start_ns=start_ns, end_ns=end_ns, unwritten=unwritten)


@dataclass(frozen=True, slots=True)
class Share:
    """All that waits of one speaker, in the order in which it was said."""

    pieces: tuple[_Piece, ...]

    def captures(self) -> list[tuple[Path, list[UtteranceEnded]]]:
        """The captures on disk, and what is to be transcribed of each; in the order of `pieces` they would
        be added to a backlog again."""
        found: dict[Path, list[UtteranceEnded]] = {}
        for piece in self.pieces:
            assert not isinstance(piece.capture, HeldSound)
            found.setdefault(piece.capture.path, []).append(piece.utterance)
        return list(found.items())

    @property
    def sessions(self) -> set[tuple[str, str]]:
        """Session and user of each capture."""
        identities = [piece.capture.identity for piece in self.pieces]
        return {(identity.session_id, identity.user_id) for identity in identities}

    @property
    def sound_s(self) -> float:
        """How long all of it is, in seconds."""
        return sum(piece.audio_end_ns - piece.audio_start_ns for piece in self.pieces) / 1e9


def _is_whole(piece: _Piece) -> bool:
    """Its sound is in a file, all of it."""
    capture = piece.capture
    if isinstance(capture, TrackCapture):
        return not capture.packets_dropped and capture.on_disk(piece.audio_end_ns)
    return isinstance(capture, CapturedTrack)


class TranscriptJob:
    """The final text of one utterance (a `SpeechJob`)."""

    limit_s: Final = 900.0
    """The largest model on one slow core, heard twice, or a service with all its retries, needs less."""

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
    words = [
        TranscriptWord(
            word.text,
            piece.audio_start_ns + round(word.start_s * 1e9),
            piece.audio_start_ns + round(word.end_s * 1e9),
            word.probability,
        )
        for word in result.words
    ]
    # Alignment ends the last word 0.4 s too early as a rule; the voice detector heard it end.
    spoken_until_ns = piece.utterance.end_ns
    if words and abs(words[-1].end_ns - spoken_until_ns) <= _LAST_WORD_MOVES_NS:
        words[-1] = replace(words[-1], end_ns=max(words[-1].start_ns, spoken_until_ns))
    return Segment(
        session_id=identity.session_id,
        user_id=identity.user_id,
        start_ns=piece.utterance.onset_ns,
        end_ns=piece.utterance.end_ns,
        text=result.text,
        language=result.language,
        words=tuple(words),
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

"""Live captions of all speakers: chooses the next hypothesis and turns results into messages.

The order is: finished utterances, oldest first; then open ones, the longest untouched first. A speaker
has at most one job, so the work waiting never exceeds the number of speakers. See calls-plugin.md 8.1 for
the wire and its metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobs.transcriber.caption_speaker import CaptionMessage, Snapshot, SpeakerCaptions
from jobs.transcriber.engines.base import Recognition, SpeechEngine
from jobs.transcriber.listening import UtteranceEvent
from jobs.transcriber.shedding import LoadShedder

WINDOW_DROPPED: Final = "live_captions_window_dropped"
"""Audio was thrown away because too much was waiting."""
TRANSCRIBER_BUSY: Final = "live_captions_transcriber_buf_full"
"""No worker was free in time: partial captions are being left out."""
PACKETS_DROPPED: Final = "live_captions_pktPayloadCh_buf_full"
"""Packets were lost between the network and us."""
_COST_WEIGHT: Final = 0.2
_STEP_PER_COST: Final = 1.2
_STRAINED_STEP_S: Final = 1.0
_LEAST_STEPS_S: Final = (0.0, 2.0, 3.0)
"""By level: between two hypotheses of a speaker who goes on."""


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """How captions trade delay for work."""

    language: str | None = "en"
    """None: each speaker's own."""
    language_of: Callable[[str], str] = lambda session_id: ""
    """What a session is known to speak (empty: not known), asked in threads while `language` is None."""
    step_s: float = 0.4
    """New audio per speaker that is worth another hypothesis when the machine is idle."""
    context_s: float = 10.0
    """What the model hears at least; below 8 s it gets unreliable, 30 is what it was trained on."""
    cut_after_s: float = 10.0
    """Understood audio of a longer utterance is cut off."""
    max_backlog_s: float = 20.0
    """Audio per speaker that may wait; beyond it the oldest is dropped and counted."""


class CaptionBoard:
    """A `WorkSource`; lives on the event loop."""

    def __init__(
        self,
        engine: SpeechEngine,
        *,
        options: CaptionOptions,
        publish: Callable[[CaptionMessage], None],
        report_metric: Callable[[str, str], None],
    ) -> None:
        """`publish` and `report_metric(name, session_id)` must not block."""
        self.options = options
        self._engine = engine
        self._publish = publish
        self._report_metric = report_metric
        self._speakers: dict[str, SpeakerCaptions] = {}
        self._shedder = LoadShedder()
        self._cost_s = 0.0
        """Moving average of a job's duration."""
        self.audio_dropped_s = 0.0
        self._stopped = False

    @property
    def level(self) -> int:
        """How much is left out now, see `shedding`."""
        return self._shedder.level

    @property
    def idle(self) -> bool:
        """Nothing open, waiting or running."""
        return all(speaker.idle for speaker in self._speakers.values())

    @property
    def strained(self) -> bool:
        """Captions need the whole machine: whatever can wait should."""
        return self.level > 0 or self._step_s() > _STRAINED_STEP_S

    @property
    def backlog_s(self) -> float:
        """The most that waits of one speaker, seconds of audio."""
        return max((speaker.undecoded_s for speaker in self._speakers.values()), default=0.0)

    def stop(self) -> None:
        """Nobody reads captions any more: begin no further job."""
        self._stopped = True

    def hear(self, session_id: str, event: UtteranceEvent, *, now_s: float) -> None:
        """Take what a speaker's ear reports."""
        speaker = self._speakers.get(session_id)
        if speaker is None:
            speaker = self._speakers[session_id] = SpeakerCaptions(
                session_id,
                cut_after_s=self.options.cut_after_s,
                max_backlog_s=self.options.max_backlog_s,
            )
        dropped = speaker.hear(event, now_s=now_s)
        if dropped:
            self.audio_dropped_s += dropped / 16_000
            self._report_metric(WINDOW_DROPPED, session_id)

    def next_job(self, now_s: float) -> CaptionJob | None:
        """See `WorkSource`."""
        if self._stopped:
            return None
        free = [speaker for speaker in self._speakers.values() if not speaker.busy]
        finals = [
            (since_s, speaker)
            for speaker in free
            if (since_s := speaker.final_waiting_since_s) is not None
        ]
        oldest_s, first = min(finals, key=lambda item: item[0], default=(now_s, None))
        level = self._observe(now_s - oldest_s, now_s, first)
        if first is not None:
            return CaptionJob(self, first, first.take(now_s=now_s, merge=level >= 3))
        if level >= 3:
            return None
        step_s = max(self._step_s(), _LEAST_STEPS_S[level])
        due = [speaker for speaker in free if speaker.partial_due(step_s)]
        if level >= 2:
            newest = sorted(self._speaking(), key=lambda speaker: -speaker.began_speaking_s)[:2]
            due = [speaker for speaker in due if speaker in newest]
        if not due:
            return None
        chosen = min(due, key=lambda speaker: speaker.last_job_s)
        return CaptionJob(self, chosen, chosen.take(now_s=now_s, merge=False))

    def finished(
        self,
        speaker: SpeakerCaptions,
        snapshot: Snapshot,
        result: Recognition | None,
        *,
        cost_s: float,
    ) -> None:
        """A job is over; `result` None means that it failed."""
        self._cost_s += _COST_WEIGHT * (cost_s - self._cost_s)
        if result is None:
            speaker.not_understood(snapshot)
            return
        for message in speaker.understood(snapshot, result):
            self._publish(message)

    def recognise(self, snapshot: Snapshot, *, session_id: str) -> Recognition:
        """Ask the engine; in a worker thread. A doubtful final text is heard again in full context."""
        options = self.options
        language = options.language or options.language_of(session_id) or None
        result = self._engine.hypothesise(
            snapshot.audio,
            language=language,
            context_s=options.context_s,
            complete=snapshot.final,
        )
        if snapshot.final and result.words and result.doubtful and options.context_s < 30:
            result = self._engine.hypothesise(
                snapshot.audio, language=language, context_s=30.0, complete=True
            )
        return result

    def _step_s(self) -> float:
        """New audio that is worth a hypothesis: more when many speak or the model is slow."""
        shared = len(self._speaking()) / max(1, self._engine.info.workers)
        return max(self.options.step_s, _STEP_PER_COST * max(1.0, shared) * self._cost_s)

    def _speaking(self) -> list[SpeakerCaptions]:
        return [speaker for speaker in self._speakers.values() if speaker.speaking]

    def _observe(self, wait_s: float, now_s: float, waiting: SpeakerCaptions | None) -> int:
        before = self._shedder.level
        level = self._shedder.observe(wait_s, now_s=now_s)
        if level > before and waiting is not None:
            self._report_metric(TRANSCRIBER_BUSY, waiting.session_id)
        return level


class CaptionJob:
    """One hypothesis for one speaker (a `SpeechJob`)."""

    limit_s: Final = 60.0
    """Far beyond what the largest model needs; what comes so late is of no use as a caption."""

    def __init__(self, board: CaptionBoard, speaker: SpeakerCaptions, snapshot: Snapshot) -> None:
        self.speaker = speaker
        self.snapshot = snapshot
        self._board = board
        self._result: Recognition | None = None

    def run(self) -> None:
        """See `SpeechJob`."""
        self._result = self._board.recognise(self.snapshot, session_id=self.speaker.session_id)

    def settle(self, error: Exception | None, *, cost_s: float) -> None:
        """See `SpeechJob`."""
        result = None if error is not None else self._result
        self._board.finished(self.speaker, self.snapshot, result, cost_s=cost_s)

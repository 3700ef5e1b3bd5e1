"""One speaker's captions: which audio is worth a hypothesis, and what its result lets us say. Pure.

Utterances wait in order; the last one may still be open. A hypothesis covers the audio of one utterance
from its latest cut on. All times are call time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from jobs.transcriber.agreement import LocalAgreement, TimedWord
from jobs.transcriber.audio import RATE_HZ, Samples, ns_to_samples, samples_to_ns
from jobs.transcriber.caption_lines import Line, LineBuilder
from jobs.transcriber.engines.base import Recognition
from jobs.transcriber.listening import (
    UtteranceContinued,
    UtteranceEnded,
    UtteranceEvent,
    UtteranceStarted,
)

_CUT_BEFORE_NS: Final = 50_000_000
_MARGIN_NS: Final = 1_000_000_000
_SURE: Final = 0.5
_LIKELY: Final = 0.75
"""Words of this probability are shown before a second hypothesis has confirmed them."""
_MERGE_GAP_NS: Final = 2_000_000_000
_MERGED_SAMPLES: Final = 25 * RATE_HZ
_QUIET_SEARCH_SAMPLES: Final = 3 * RATE_HZ
_QUIET_SAMPLES: Final = RATE_HZ // 10


@dataclass(frozen=True, slots=True)
class CaptionMessage:
    """A line to be shown under a speaker."""

    session_id: str
    line: int
    """A later message with the same number replaces this one."""
    text: str
    final: bool
    """The utterance is over."""
    spoken_until_ns: int
    """Call time at which its last word ended."""
    new_audio_len_ms: float
    """Audio understood since this speaker's message before."""


@dataclass(slots=True)
class _Utterance:
    onset_ns: int
    start_ns: int
    """Call time of the first sample in `samples`; moves when the front is cut off."""
    samples: Samples
    ended_ns: int | None = None
    ended_at_s: float = 0.0
    """When its end was noticed, on the event loop's clock."""
    decoded: int = 0
    """Samples that the latest hypothesis covered."""
    agreement: LocalAgreement = field(default_factory=LocalAgreement)

    @property
    def undecoded(self) -> int:
        return len(self.samples) - self.decoded

    def cut_front(self, samples: int) -> None:
        self.samples = self.samples[samples:].copy()
        self.start_ns += samples_to_ns(samples)
        self.decoded = max(0, self.decoded - samples)
        self.agreement.trim()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The audio of one job, as it was when the job began."""

    utterance: _Utterance
    audio: Samples
    start_ns: int
    final: bool

    @property
    def end_ns(self) -> int:
        return self.start_ns + samples_to_ns(len(self.audio))


class SpeakerCaptions:
    """Not thread-safe: lives on the event loop. At most one job at a time (`busy`)."""

    def __init__(self, session_id: str, *, cut_after_s: float, max_backlog_s: float) -> None:
        self.session_id = session_id
        self.busy = False
        self.last_job_s = 0.0
        """When the latest job began, on the event loop's clock."""
        self.began_speaking_s = 0.0
        self._cut_after = round(cut_after_s * RATE_HZ)
        self._max_backlog = round(max_backlog_s * RATE_HZ)
        self._utterances: deque[_Utterance] = deque()
        self._lines = LineBuilder()
        self._shown = Line(-1, "")
        """What viewers see of the newest line."""
        self._unreported = 0
        """Samples understood but not yet told with a message."""

    @property
    def speaking(self) -> bool:
        """The latest utterance is still open."""
        return bool(self._utterances) and self._utterances[-1].ended_ns is None

    @property
    def idle(self) -> bool:
        return not self._utterances and not self.busy

    @property
    def final_waiting_since_s(self) -> float | None:
        """Since when the oldest finished utterance waits, or None."""
        if self._utterances and self._utterances[0].ended_ns is not None:
            return self._utterances[0].ended_at_s
        return None

    @property
    def undecoded_s(self) -> float:
        return sum(utterance.undecoded for utterance in self._utterances) / RATE_HZ

    def hear(self, event: UtteranceEvent, *, now_s: float) -> int:
        """Take what the ear reports; returns samples thrown away because too much is waiting."""
        match event:
            case UtteranceStarted():
                if self.speaking:  # its end was never reported
                    latest = self._utterances[-1]
                    latest.ended_ns = latest.start_ns + samples_to_ns(len(latest.samples))
                    latest.ended_at_s = now_s
                self._utterances.append(
                    _Utterance(event.onset_ns, event.audio_start_ns, event.samples)
                )
                self.began_speaking_s = now_s
            case UtteranceContinued():
                if self.speaking:
                    latest = self._utterances[-1]
                    latest.samples = np.concatenate([latest.samples, event.samples])
            case UtteranceEnded():
                if self.speaking:
                    self._utterances[-1].ended_ns = event.end_ns
                    self._utterances[-1].ended_at_s = now_s
        return self._drop_excess()

    def partial_due(self, step_s: float) -> bool:
        """The open utterance is alone and has at least a step of new audio."""
        return (
            len(self._utterances) == 1
            and self.speaking
            and self._utterances[0].undecoded >= step_s * RATE_HZ
        )

    def take(self, *, now_s: float, merge: bool) -> Snapshot:
        """Begin a job on the oldest utterance; with `merge`, finished ones close to it join in."""
        if merge:
            self._merge_finished()
        utterance = self._utterances[0]
        self.busy = True
        self.last_job_s = now_s
        final = utterance.ended_ns is not None
        return Snapshot(utterance, utterance.samples, utterance.start_ns, final)

    def understood(self, snapshot: Snapshot, result: Recognition) -> list[CaptionMessage]:
        """Apply a job's result; returns what is to be shown."""
        utterance = snapshot.utterance
        words = [
            TimedWord(
                word.text,
                snapshot.start_ns + round(word.start_s * 1e9),
                snapshot.start_ns + round(word.end_s * 1e9),
                word.probability,
            )
            for word in result.words
        ]
        self._unreported += max(0, len(snapshot.audio) - utterance.decoded)
        utterance.decoded = len(snapshot.audio)
        if snapshot.final:
            committed = utterance.agreement.finish(words)
        else:
            committed = utterance.agreement.update(words, audio_end_ns=snapshot.end_ns)
            committed += self._cut_long(utterance)
        messages = self._say(committed, snapshot)
        self._settle(snapshot)
        return messages

    def not_understood(self, snapshot: Snapshot) -> None:
        """The job failed: a finished utterance is given up, an open one gets its next chance."""
        snapshot.utterance.decoded = len(snapshot.audio)
        self._settle(snapshot)

    def _settle(self, snapshot: Snapshot) -> None:
        self.busy = False
        if snapshot.final:
            self._lines.end_line()
            if self._utterances and self._utterances[0] is snapshot.utterance:
                self._utterances.popleft()

    def _say(self, committed: Sequence[TimedWord], snapshot: Snapshot) -> list[CaptionMessage]:
        """The lines that look otherwise than before; the last one with words that are only likely yet."""
        utterance, final = snapshot.utterance, snapshot.final
        likely = (
            []
            if final
            else utterance.agreement.likely(audio_end_ns=snapshot.end_ns, min_probability=_LIKELY)
        )
        lines = self._lines.add(word.text for word in committed)
        newest = self._lines.with_more(word.text for word in likely)
        if newest is not None:
            lines = [*(line for line in lines if line.number != newest.number), newest]
        # A word that was only likely and is missing now comes back mostly: nothing is taken back before
        # the end. The end itself is always told: viewers see the line for another five seconds.
        shown = self._shown
        changed = [
            line
            for line in lines
            if final or line.number != shown.number or not shown.text.startswith(line.text)
        ]
        if not changed:
            return []
        words = [*committed, *likely]
        spoken_until_ns = words[-1].end_ns if words else utterance.agreement.committed[-1].end_ns
        if final and utterance.ended_ns is not None:
            # Alignment ends the last word too early; the voice detector heard it end.
            spoken_until_ns = max(spoken_until_ns, utterance.ended_ns)
        self._shown = changed[-1]
        audio_ms, self._unreported = self._unreported * 1000 / RATE_HZ, 0
        return [
            CaptionMessage(
                self.session_id,
                line.number,
                line.text,
                final,
                spoken_until_ns,
                audio_ms if line is changed[-1] else 0.0,
            )
            for line in changed
        ]

    def _cut_long(self, utterance: _Utterance) -> list[TimedWord]:
        """Keep the audio of an endless utterance short: cut off what is understood for good."""
        if len(utterance.samples) <= self._cut_after or utterance.decoded == 0:
            return []
        agreement = utterance.agreement
        decoded_until_ns = utterance.start_ns + samples_to_ns(utterance.decoded)
        committed: list[TimedWord] = []
        if not self._covers_audio(utterance):
            committed = agreement.commit_before(
                decoded_until_ns - _MARGIN_NS, min_probability=_SURE
            )
        if self._covers_audio(utterance):
            end_ns = agreement.committed[-1].end_ns - _CUT_BEFORE_NS
            utterance.cut_front(ns_to_samples(end_ns - utterance.start_ns))
        else:
            utterance.cut_front(_quietest(utterance.samples[: utterance.decoded]))
        return committed

    def _covers_audio(self, utterance: _Utterance) -> bool:
        """Committed words reach at least a second into the audio that is still there."""
        committed = utterance.agreement.committed
        return bool(committed) and committed[-1].end_ns > utterance.start_ns + _MARGIN_NS

    def _merge_finished(self) -> None:
        while len(self._utterances) >= 2:
            first, second = self._utterances[0], self._utterances[1]
            if first.ended_ns is None or second.ended_ns is None or second.agreement.committed:
                return
            first_end_ns = first.start_ns + samples_to_ns(len(first.samples))
            gap = ns_to_samples(second.start_ns - first_end_ns)
            total = len(first.samples) + gap + len(second.samples)
            if gap > ns_to_samples(_MERGE_GAP_NS) or total > _MERGED_SAMPLES:
                return
            overlap = max(0, -gap)  # the second one's pre-roll may reach into the first
            silence = np.zeros(max(0, gap), np.float32)
            first.samples = np.concatenate([first.samples, silence, second.samples[overlap:]])
            first.ended_ns = second.ended_ns
            del self._utterances[1]

    def _drop_excess(self) -> int:
        dropped = 0
        protected = 1 if self.busy else 0  # a running job's audio stays as it is
        while self.undecoded_s * RATE_HZ > self._max_backlog and len(self._utterances) > protected:
            victim = self._utterances[protected]
            if victim.ended_ns is not None:
                dropped += victim.undecoded
                del self._utterances[protected]
                continue
            excess = len(victim.samples) - self._cut_after
            if excess <= 0:
                break
            dropped += excess
            victim.cut_front(excess)
        return dropped


def _quietest(samples: Samples) -> int:
    """Where to cut when no word is known: the quietest tenth of a second in the last three."""
    tail = samples[-_QUIET_SEARCH_SAMPLES:]
    count = len(tail) // _QUIET_SAMPLES
    if count == 0:
        return len(samples)
    energy = np.square(tail[: count * _QUIET_SAMPLES]).reshape(count, _QUIET_SAMPLES).sum(axis=1)
    return len(samples) - len(tail) + (int(energy.argmin()) * _QUIET_SAMPLES + _QUIET_SAMPLES // 2)

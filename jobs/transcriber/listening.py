"""The ear of one track: Opus packets in, utterances out, live and from a capture alike.

Packets carry their call time; inside an utterance time is counted in samples from its first one, between
utterances it is taken anew from the packets, so no clock error can add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from jobs.transcriber.audio import (
    RATE_HZ,
    Samples,
    VoiceDecoder,
    ns_to_samples,
    samples_to_ns,
)
from jobs.transcriber.capture import VoicePacket
from jobs.transcriber.vad import (
    SpeechEnd,
    SpeechModel,
    SpeechStart,
    VadOptions,
    VoiceActivityDetector,
)

PRE_ROLL_NS: Final = 300_000_000
"""Audio kept before the onset: the model wants to hear a word begin."""
_TOLERANCE_NS: Final = 30_000_000
"""Disagreement between counted and stamped time that is left alone while somebody speaks."""
_ONSET_SEARCH_SAMPLES: Final = RATE_HZ * 160 // 1000
_BATCH_PACKETS: Final = 10
_BLOCK_SAMPLES: Final = RATE_HZ // 5
_LEVEL_SAMPLES: Final = RATE_HZ // 100
_ABOVE_FLOOR: Final = 4.0
_BELOW_SPEECH: Final = 0.02


@dataclass(frozen=True, slots=True)
class UtteranceStarted:
    onset_ns: int
    """Call time at which speech begins."""
    audio_start_ns: int
    """Call time of the first sample, a pre-roll earlier."""
    samples: Samples


@dataclass(frozen=True, slots=True)
class UtteranceContinued:
    samples: Samples


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    onset_ns: int
    end_ns: int
    """Call time at which the silence began that ended it."""
    heard_until_ns: int
    """Call time up to which that silence was heard: nothing else is said before it."""


UtteranceEvent = UtteranceStarted | UtteranceContinued | UtteranceEnded


class Ear:
    """Owned by one task; its methods block for decoding and voice activity: call them in a thread."""

    def __init__(self, model: SpeechModel, options: VadOptions | None = None) -> None:
        self.decoder = VoiceDecoder()
        self._detector = VoiceActivityDetector(model, options)
        self._pause_ns = round((self._detector.options.endpoint_s + 0.1) * 1_000_000_000)
        self._heard = 0
        """Samples given to the detector so far."""
        self._recent = np.zeros(0, np.float32)
        """The latest of them: pre-roll and what may yet become speech."""
        self._offset_ns: int | None = None
        """Call time of sample 0, as of the latest anchoring."""
        self._onset_ns = 0

    @property
    def speaking(self) -> bool:
        """An utterance is open."""
        return self._detector.speaking

    def hear(self, packets: Sequence[VoicePacket]) -> list[UtteranceEvent]:
        """Packets in order; pauses between them are heard as silence."""
        events: list[UtteranceEvent] = []
        # Small batches whatever the caller does: between them time is taken anew from the packets.
        for begin in range(0, len(packets), _BATCH_PACKETS):
            events += self._hear_batch(packets[begin : begin + _BATCH_PACKETS])
        return events

    def _hear_batch(self, packets: Sequence[VoicePacket]) -> list[UtteranceEvent]:
        events: list[UtteranceEvent] = []
        run: list[VoicePacket] = []
        if self._offset_ns is None:
            self._offset_ns = packets[0].heard_ns
        for packet in packets:
            expected_ns = run[-1].end_ns if run else self._now_ns()
            deviation_ns = packet.heard_ns - expected_ns
            limit_ns = _TOLERANCE_NS if self.speaking or run else 0
            if abs(deviation_ns) > limit_ns:
                events += self.hear_samples(self.decoder.decode(run))
                run = []
                events += self._pause(packet.heard_ns)
            run.append(packet)
        return events + self.hear_samples(self.decoder.decode(run))

    def silence(self, until_ns: int) -> list[UtteranceEvent]:
        """Nothing came although the call has reached `until_ns`: an open utterance may be over."""
        if not self.speaking:
            return []
        missing_ns = min(until_ns - self._now_ns(), self._pause_ns)
        return self.hear_samples(np.zeros(max(0, ns_to_samples(missing_ns)), np.float32))

    def close(self) -> list[UtteranceEvent]:
        """The track is over: end what is open."""
        return self._translate(self._detector.break_off(), np.zeros(0, np.float32))

    def _now_ns(self) -> int:
        """Call time up to which everything was heard."""
        return (self._offset_ns or 0) + samples_to_ns(self._heard)

    def _pause(self, resumes_ns: int) -> list[UtteranceEvent]:
        """Time jumps to `resumes_ns`."""
        gap_ns = resumes_ns - self._now_ns()
        events: list[UtteranceEvent] = []
        if self.speaking and gap_ns > 0:
            events += self.hear_samples(
                np.zeros(ns_to_samples(min(gap_ns, self._pause_ns)), np.float32)
            )
        if self.speaking and abs(resumes_ns - self._now_ns()) > _TOLERANCE_NS:
            events += self.close()
        if not self.speaking:
            if gap_ns > _TOLERANCE_NS:
                self._detector.break_off()
                self._recent = np.zeros(0, np.float32)
            self._offset_ns = resumes_ns - samples_to_ns(self._heard)
        return events

    def hear_samples(self, samples: Samples) -> list[UtteranceEvent]:
        """Sound that follows without a pause what was heard before (from call time 0 at first)."""
        if not len(samples):
            return []
        events: list[UtteranceEvent] = []
        # Blocks shorter than any utterance: then a start and its end never fall into the same block.
        for begin in range(0, len(samples), _BLOCK_SAMPLES):
            block = samples[begin : begin + _BLOCK_SAMPLES]
            self._heard += len(block)
            events += self._translate(self._detector.push(block), block)
        return events

    def _translate(
        self, decisions: Sequence[SpeechStart | SpeechEnd], samples: Samples
    ) -> list[UtteranceEvent]:
        offset_ns = self._offset_ns or 0
        was_speaking = self.speaking if not decisions else isinstance(decisions[0], SpeechEnd)
        self._recent = np.concatenate([self._recent, samples])
        events: list[UtteranceEvent] = []
        if was_speaking and len(samples):
            events.append(UtteranceContinued(samples))
        for decision in decisions:
            if isinstance(decision, SpeechStart):
                first = self._heard - len(self._recent)
                onset = self._refine_onset(decision.at_samples - first) + first
                begin = max(first, onset - ns_to_samples(PRE_ROLL_NS))
                self._onset_ns = offset_ns + samples_to_ns(onset)
                audio = self._recent[begin - first :]
                begin_ns = offset_ns + samples_to_ns(begin)
                events.append(UtteranceStarted(self._onset_ns, begin_ns, audio))
            else:
                end_ns = offset_ns + samples_to_ns(decision.at_samples)
                end_ns = max(end_ns, self._onset_ns)
                heard_until_ns = max(end_ns, offset_ns + samples_to_ns(self._heard))
                events.append(UtteranceEnded(self._onset_ns, end_ns, heard_until_ns))
        keep = self._heard - self._detector.undecided_from + ns_to_samples(PRE_ROLL_NS)
        self._recent = self._recent[max(0, len(self._recent) - keep) :]
        return events

    def _refine_onset(self, onset: int) -> int:
        """Walk back from the detected onset over sound that belongs to it, such as a soft consonant.

        The model wakes up to 100 ms late on unvoiced sounds. What is well above the floor before it and
        not far below the speech after it belongs to the utterance. Index into `_recent`.
        """
        speech = _level(self._recent[onset : onset + 8 * _LEVEL_SAMPLES])
        search_from = max(0, onset - _ONSET_SEARCH_SAMPLES)
        before = self._recent[max(0, search_from - _ONSET_SEARCH_SAMPLES) : onset]
        floor = min(
            (
                _level(before[at : at + _LEVEL_SAMPLES])
                for at in range(0, len(before) - _LEVEL_SAMPLES + 1, _LEVEL_SAMPLES)
            ),
            default=0.0,
        )
        enough = max(floor * _ABOVE_FLOOR, speech * _BELOW_SPEECH)
        while onset - _LEVEL_SAMPLES >= search_from:
            if _level(self._recent[onset - _LEVEL_SAMPLES : onset]) < enough:
                break
            onset -= _LEVEL_SAMPLES
        return onset


def _level(samples: Samples) -> float:
    """Root mean square, 0 for nothing."""
    return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0

"""What was understood against what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.speech_accuracy.speech import SpokenWord, Track
from jobs.transcriber.transcript import Segment
from testbed.analysis.speech import align, split_words

_NEAR_S: Final = 3.0
"""A word found farther from where it was said is another one."""


@dataclass(slots=True)
class Score:
    """Of one way through one case."""

    words: int = 0
    errors: int = 0
    end_errors_s: list[float] = field(default_factory=list)
    """Distance between the told and the true end of each word understood."""

    @property
    def wer(self) -> float:
        return self.errors / self.words if self.words else float(self.errors)

    def end_error_s(self, percentile: float) -> float:
        return float(np.percentile(self.end_errors_s, percentile)) if self.end_errors_s else 0.0

    def add_text(self, said: Sequence[SpokenWord], text: str) -> None:
        """A speaker's text, without times."""
        steps = align([word.text for word in said], split_words(text))
        self.words += len(said)
        self.errors += sum(step.operation != "same" for step in steps)

    def add_segments(self, said: Sequence[SpokenWord], segments: Sequence[Segment]) -> None:
        """A speaker's transcript, with the times of its words."""
        found = [
            (text, word.end_ns / 1e9)
            for segment in segments
            for word in segment.words
            for text in split_words(word.text)
        ]
        steps = align([word.text for word in said], [text for text, _ in found])
        self.words += len(said)
        for step in steps:
            if step.operation != "same":
                self.errors += 1
            elif step.reference is not None and step.hypothesis is not None:
                distance_s = abs(found[step.hypothesis][1] - said[step.reference].end_s)
                if said[step.reference].end_s >= 0 and distance_s < _NEAR_S:
                    self.end_errors_s.append(distance_s)


def rightly_attributed(tracks: Sequence[Track], segments: Sequence[Segment]) -> float:
    """Share of the segments whose words were said by their speaker rather than by anybody else then."""
    right = 0
    for segment in segments:
        text = split_words(segment.text)

        def matches(track: Track, segment: Segment = segment, text: list[str] = text) -> int:
            first_s, last_s = segment.start_ns / 1e9 - 0.5, segment.end_ns / 1e9 + 0.5
            said = [word.text for word in track.words if first_s <= word.end_s <= last_s]
            return sum(step.operation == "same" for step in align(said, text))

        best = max(tracks, key=lambda track: (matches(track), track.name == segment.session_id))
        right += best.name == segment.session_id
    return right / len(segments) if segments else 1.0

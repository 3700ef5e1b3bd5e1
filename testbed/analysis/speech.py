"""Judges a transcript: word errors, speakers, and when its cues start.

Words are compared per speaker: what a cue ascribes to the wrong person counts as an insertion there and a
deletion here, so swapped speakers cannot hide.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from testbed.truth import Utterance

Operation = Literal["same", "substitution", "deletion", "insertion"]

_CUE_TIME: Final = re.compile(
    r"(?:(\d{2,}):)?(\d{2}):(\d{2})\.(\d{3}) --> (?:(\d{2,}):)?(\d{2}):(\d{2})\.(\d{3})"
)
_VOICE: Final = re.compile(r"<v ([^>]*)>")
_REPEATED_NAME: Final = re.compile(r"^\(([^)]*)\)\s*")
_NO_WORD: Final = re.compile(r"[^\w' ]+")


class TranscriptError(ValueError):
    """Not the WebVTT that was asked for; the message names the line."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One cue of a WebVTT file; recording time."""

    start_s: float
    end_s: float
    speaker: str
    """Empty when the cue does not tell."""
    text: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence of the truth in recording time, with the name that a transcript gives its speaker."""

    speaker: str
    utterance: Utterance
    zero_ns: int

    @property
    def start_s(self) -> float:
        """The first sound of its first word."""
        return self.word_start_s(0)

    @property
    def end_s(self) -> float:
        return (self.utterance.end_ns - self.zero_ns) / 1e9

    def word_start_s(self, index: int) -> float:
        return (self.utterance.word_start_ns(index) - self.zero_ns) / 1e9

    def word_end_s(self, index: int) -> float:
        return (self.utterance.word_end_ns(index) - self.zero_ns) / 1e9

    @property
    def words(self) -> list[str]:
        return [word.text.lower() for word in self.utterance.words]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an alignment: indexes into reference and hypothesis; None where it has no word."""

    operation: Operation
    reference: int | None
    hypothesis: int | None


@dataclass(frozen=True, slots=True)
class CueResult:
    """One cue against the truth."""

    cue: Cue
    speaker_right: bool
    """Somebody of that name said at least half of its words at about that time."""
    start_error_s: float | None
    """Cue start minus the true start of its first recognised word; None: none of its words is true."""


@dataclass(frozen=True, slots=True)
class SentenceResult:
    """One sentence against the transcript."""

    spoken: Spoken
    errors: int
    """Substitutions, deletions, and insertions after its words."""

    @property
    def word_error_rate(self) -> float:
        return self.errors / len(self.spoken.words)


@dataclass(frozen=True, slots=True)
class TranscriptResult:
    """A whole transcript against the truth."""

    cues: tuple[CueResult, ...]
    sentences: tuple[SentenceResult, ...]
    errors: int
    reference_words: int

    @property
    def word_error_rate(self) -> float:
        return self.errors / self.reference_words if self.reference_words else float(self.errors)

    @property
    def wrong_speakers(self) -> list[Cue]:
        return [result.cue for result in self.cues if not result.speaker_right]

    @property
    def start_errors_s(self) -> list[float]:
        return [r.start_error_s for r in self.cues if r.start_error_s is not None]


def parse_webvtt(text: str) -> list[Cue]:
    """The cues of a WebVTT file as the product writes it (calls-plugin.md 8.3).

    Raises:
        TranscriptError: no `WEBVTT` line, or a cue without a time line.
    """
    blocks = re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip())
    if blocks[0].split("\n")[0].strip() != "WEBVTT":
        raise TranscriptError("line 1: should be WEBVTT")
    cues = []
    for number, block in enumerate(blocks[1:], 1):
        lines = block.split("\n")
        match = next((m for line in lines[:2] if (m := _CUE_TIME.match(line))), None)
        if match is None:
            raise TranscriptError(f"cue {number}: no time line in {lines[0]!r}")
        body = " ".join(line for line in lines if not _CUE_TIME.match(line))
        voice = _VOICE.search(body)
        speaker = html.unescape(voice[1]).strip() if voice else ""
        said = _REPEATED_NAME.sub("", _VOICE.sub("", body).strip())
        start_s, end_s = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
        cues.append(Cue(start_s, end_s, speaker, html.unescape(said).strip()))
    return cues


def judge_transcript(cues: Sequence[Cue], spoken: Sequence[Spoken]) -> TranscriptResult:
    """Align each speaker's cues with what that person said, in order of time."""
    results: dict[int, CueResult] = {}
    sentences: list[SentenceResult] = []
    errors = 0
    for speaker in {cue.speaker for cue in cues} | {sentence.speaker for sentence in spoken}:
        own_cues = sorted(
            (i for i, cue in enumerate(cues) if cue.speaker == speaker),
            key=lambda i: cues[i].start_s,
        )
        own_spoken = sorted((s for s in spoken if s.speaker == speaker), key=lambda s: s.start_s)
        speaker_errors, own_sentences, own_results = _judge_speaker(
            [cues[i] for i in own_cues], own_spoken
        )
        errors += speaker_errors
        sentences += own_sentences
        results |= dict(zip(own_cues, own_results, strict=True))
    return TranscriptResult(
        cues=tuple(results[i] for i in range(len(cues))),
        sentences=tuple(sorted(sentences, key=lambda s: s.spoken.start_s)),
        errors=errors,
        reference_words=sum(len(sentence.words) for sentence in spoken),
    )


def split_words(text: str) -> list[str]:
    """Words to compare: lower case, no punctuation."""
    return _NO_WORD.sub(" ", text.lower()).split()


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """The cheapest way from `reference` to `hypothesis` (Levenshtein), in order."""
    rows, columns = len(reference) + 1, len(hypothesis) + 1
    cost = [[i + j if i == 0 or j == 0 else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            same = reference[i - 1] == hypothesis[j - 1]
            cost[i][j] = min(
                cost[i - 1][j - 1] + (not same), cost[i - 1][j] + 1, cost[i][j - 1] + 1
            )
    steps: list[Step] = []
    i, j = rows - 1, columns - 1
    while i or j:
        same = i > 0 and j > 0 and reference[i - 1] == hypothesis[j - 1]
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (not same):
            i, j = i - 1, j - 1
            steps.append(Step("same" if same else "substitution", i, j))
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            steps.append(Step("deletion", i, None))
        else:
            j -= 1
            steps.append(Step("insertion", None, j))
    return steps[::-1]


_NEARBY_S: Final = 2.0
"""A cue's words must be said within this time of the cue to be its words."""


def _judge_speaker(
    cues: Sequence[Cue], spoken: Sequence[Spoken]
) -> tuple[int, list[SentenceResult], list[CueResult]]:
    reference = [(s, w) for s, sentence in enumerate(spoken) for w in range(len(sentence.words))]
    heard = [(c, word) for c, cue in enumerate(cues) for word in split_words(cue.text)]
    steps = align([spoken[s].words[w] for s, w in reference], [word for _, word in heard])
    errors_of = [0] * len(spoken)
    matched: list[list[float]] = [[] for _ in cues]
    last_sentence = 0
    for step in steps:
        if step.reference is not None:
            last_sentence = reference[step.reference][0]
        if step.operation != "same" and spoken:
            errors_of[last_sentence] += 1
        if step.operation == "same" and step.reference is not None and step.hypothesis is not None:
            sentence, word = reference[step.reference]
            cue = heard[step.hypothesis][0]
            matched[cue].append(spoken[sentence].word_start_s(word))
    results = [_judge_cue(cue, starts_s) for cue, starts_s in zip(cues, matched, strict=True)]
    sentences = [SentenceResult(s, n) for s, n in zip(spoken, errors_of, strict=True)]
    return sum(step.operation != "same" for step in steps), sentences, results


def _judge_cue(cue: Cue, starts_s: Sequence[float]) -> CueResult:
    near = [at_s for at_s in starts_s if cue.start_s - _NEARBY_S <= at_s <= cue.end_s + _NEARBY_S]
    words = len(split_words(cue.text))
    right = words > 0 and 2 * len(near) >= words
    return CueResult(cue, right, cue.start_s - near[0] if near else None)


def _seconds(hours: str | None, minutes: str, seconds: str, milliseconds: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(milliseconds) / 1000

"""Transcripts of jobs that had a hard time against one that nobody disturbed, word for word. Blocking."""

from __future__ import annotations

from typing import Final

from testbed.analysis.speech import Cue, parse_webvtt, split_words
from testbed.bots.world import World
from testbed.chaos.judging import LOSS_S, safe_ns
from testbed.chaos.victim import Story
from testbed.truth import Truth, Utterance

_LEAD_S: Final = 1.5
"""From its time zero until it must hear everybody."""
_AROUND_S: Final = 0.5
_NS: Final = 1_000_000_000


class Undisturbed:
    """What is understood of each sentence when nothing happens."""

    def __init__(self, truth: Truth, world: World, vtt: str, *, zero_ns: int, end_ns: int) -> None:
        """`zero_ns`, `end_ns`: its time zero and its end on the monotonic clock."""
        self._world = world
        cues = parse_webvtt(vtt)
        self._heard: dict[tuple[str, int], list[str]] = {}
        self._clips: dict[tuple[str, str], list[str]] = {}
        for utterance in truth.utterances:
            if utterance.onset_ns < zero_ns + round(_LEAD_S * _NS) or utterance.end_ns > end_ns:
                continue
            name = world.users[utterance.bot].transcript_name
            words = _words(cues, utterance, name, zero_ns)
            self._heard[utterance.bot, utterance.start_ns] = words
            self._clips[utterance.bot, utterance.clip] = words

    def words(self, utterance: Utterance) -> list[str] | None:
        """Of this sentence, or of the same one at another time; None: it was never heard."""
        heard = self._heard.get((utterance.bot, utterance.start_ns))
        return self._clips.get((utterance.bot, utterance.clip)) if heard is None else heard

    def name(self, utterance: Utterance) -> str:
        """What its speaker is called in transcripts."""
        return self._world.users[utterance.bot].transcript_name


def judge_transcript(story: Story, truth: Truth, undisturbed: Undisturbed, vtt: str) -> None:
    """Every sentence that began after the start and whose words were said in time must be the same.

    `vtt`: empty when nothing was posted. Words where nobody spoke are complained of too.
    """
    zero_ns = round(story.figures["zero_ns"])
    cues = parse_webvtt(vtt) if vtt else []
    safe, words = safe_ns(story, loss_s=LOSS_S["transcriber"]), 0
    for utterance in truth.utterances:
        if utterance.onset_ns < zero_ns + round(_LEAD_S * _NS):
            continue
        # Words that were over in time; all of them, unless it was cut off.
        heard = sum(utterance.word_end_ns(n) <= safe for n in range(len(utterance.words)))
        wanted = undisturbed.words(utterance)
        if not heard or wanted is None:
            continue
        found = _words(cues, utterance, undisturbed.name(utterance), zero_ns)
        if heard < len(utterance.words):
            wanted, found = wanted[:heard], found[:heard]
        words += len(wanted)
        if found != wanted:
            at_s = (utterance.onset_ns - zero_ns) / _NS
            story.complaints.append(
                f"the sentence at {at_s:.1f} s differs: {len(found)} words, {len(wanted)} wanted"
            )
    story.figures["words"] = words
    invented = [cue for cue in cues if not _was_said(cue, truth, undisturbed, zero_ns)]
    if invented:
        story.complaints.append(
            f"{len(invented)} cues where nobody spoke, the first at {invented[0].start_s:.1f} s"
        )


def _words(cues: list[Cue], utterance: Utterance, name: str, zero_ns: int) -> list[str]:
    return [
        word
        for cue in cues
        if cue.speaker == name and _overlap(cue, utterance, zero_ns)
        for word in split_words(cue.text)
    ]


def _was_said(cue: Cue, truth: Truth, undisturbed: Undisturbed, zero_ns: int) -> bool:
    return any(
        undisturbed.name(utterance) == cue.speaker and _overlap(cue, utterance, zero_ns)
        for utterance in truth.utterances
    )


def _overlap(cue: Cue, utterance: Utterance, zero_ns: int) -> bool:
    first_s = (utterance.onset_ns - zero_ns) / _NS - _AROUND_S
    last_s = (utterance.end_ns - zero_ns) / _NS + _AROUND_S
    return cue.start_s < last_s and cue.end_s > first_s

"""Everything measured about one recorded call, from its files and the truth. Blocking: seconds of CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.analysis.av_sync import AvSync, pair_marks
from testbed.analysis.call import Call
from testbed.analysis.captions import (
    Caption,
    CaptionResult,
    SentenceCaptions,
    judge_captions,
    per_sentence,
)
from testbed.analysis.marks import find_beeps
from testbed.analysis.media import ANALYSIS_HZ, Sound, read_sound
from testbed.analysis.mp4_structure import Mp4Structure, read_mp4
from testbed.analysis.placement import Placement, place
from testbed.analysis.speech import TranscriptResult, judge_transcript, parse_webvtt
from testbed.analysis.watching import Watched, watch
from testbed.speech.clips import Clip
from testbed.speech.opus_file import RATE_HZ as CLIP_HZ
from testbed.speech.opus_file import resample

_TIME_LINE_MARK: Final = "->"


@dataclass(frozen=True, slots=True)
class RecordingWish:
    """What the recorder was asked for."""

    width_px: int
    height_px: int
    frame_rate: int


@dataclass(frozen=True, slots=True)
class RecordingEvidence:
    """What the file `recording.mp4` shows."""

    structure: Mp4Structure
    av_sync: AvSync
    placements: tuple[Placement, ...]
    watched: Watched


@dataclass(frozen=True, slots=True)
class TranscriptEvidence:
    """What the transcript's files say."""

    result: TranscriptResult
    vtt_words: int
    text_words: int
    """Words in the text file, speakers and times not counted."""


@dataclass(frozen=True, slots=True)
class CaptionEvidence:
    """What was shown during the call."""

    results: tuple[CaptionResult, ...]
    sentences: tuple[SentenceCaptions, ...]

    @property
    def lags_s(self) -> list[float]:
        return [result.lag_s for result in self.results if result.lag_s is not None]


def examine_recording(
    path: Path, call: Call, clips: Mapping[str, Sequence[Clip]], wish: RecordingWish
) -> RecordingEvidence:
    """Measure a recording. Raises MediaError when it cannot be read."""
    structure = read_mp4(path)
    sound = read_sound(path)
    placements = place_sentences(sound, call, clips)
    watched = watch(path, call.moments(), width_px=wish.width_px, height_px=wish.height_px)
    pairs = pair_marks(call.beeps_with_picture_s(), find_beeps(sound), watched.flashes_s)
    return RecordingEvidence(structure, pairs, placements, watched)


def place_sentences(
    sound: Sound, call: Call, clips: Mapping[str, Sequence[Clip]]
) -> tuple[Placement, ...]:
    """Look for every sentence of the call in a sound at `ANALYSIS_HZ`."""
    samples = {
        clip.name: resample(clip.samples, CLIP_HZ, to_hz=ANALYSIS_HZ)
        for own in clips.values()
        for clip in own
    }
    return tuple(
        place(
            sound,
            bot=sentence.utterance.bot,
            clip=sentence.utterance.clip,
            clip_samples=samples[sentence.utterance.clip],
            true_s=call.time_s(sentence.utterance.start_ns),
        )
        for sentence in call.spoken()
    )


def examine_transcript(vtt: str, text: str, call: Call) -> TranscriptEvidence:
    """Judge a transcript's two files. Raises TranscriptError when the VTT is none."""
    cues = parse_webvtt(vtt)
    result = judge_transcript(cues, call.spoken())
    names = {user.transcript_name for user in call.users.values()}
    body = [
        line
        for line in text.splitlines()
        if line.strip() and _TIME_LINE_MARK not in line and line.strip() not in names
    ]
    return TranscriptEvidence(
        result,
        vtt_words=sum(len(cue.text.split()) for cue in cues),
        text_words=sum(len(line.split()) for line in body),
    )


def examine_captions(captions: Sequence[Caption], call: Call) -> CaptionEvidence:
    """Judge the live captions that one participant received."""
    spoken = call.spoken()
    results = judge_captions(captions, spoken)
    return CaptionEvidence(tuple(results), tuple(per_sentence(results, spoken)))

"""A transcript as one JSON document, from which every other format is made.

`{"version": 1, "language", "engine": {"name", "model", "instead_of", "reason"}, "speakers": [{"session_id",
"user_id", "name"}], "segments": [{"start_ms", "end_ms", "session_id", "user_id", "speaker", "text",
"language", "failure", "words": [{"text", "start_ms", "end_ms", "probability"}]}], "lost_audio":
[{"session_id", "start_ms", "end_ms", "lost_ms"}]}`; times are call times. `instead_of` and `reason` are there
when another engine than the configured one had to do it, `failure` where a text is `[inaudible]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from jobs.transcriber.formats.cues import Cue
from jobs.transcriber.formats.markdown import render_markdown
from jobs.transcriber.formats.srt import render_srt
from jobs.transcriber.formats.text import TextOptions, render_text
from jobs.transcriber.formats.webvtt import render_webvtt
from jobs.transcriber.losses import LostAudio
from jobs.transcriber.transcript import Segment

FORMATS: Final = ("vtt", "txt", "json", "srt", "md")
_NS_PER_MS: Final = 1_000_000

Document = dict[str, Any]


class Names(Protocol):
    """Knows speakers by session (`jobs.transcriber.speakers.SpeakerDirectory`)."""

    def name(self, session_id: str) -> str:
        """For display; never empty."""


def to_document(
    segments: Sequence[Segment],
    names: Names,
    *,
    lost_audio: Iterable[LostAudio] = (),
    engine: Mapping[str, str] | None = None,
) -> Document:
    """What is known of the call; `failure` is there where the text is `[inaudible]`.

    `engine`: see `jobs.transcriber.models.engine_used`; None: nobody knows any more.
    """
    speakers = {segment.session_id: segment.user_id for segment in segments}
    return {
        "version": 1,
        "language": language_of(segments),
        "engine": dict(engine or {}),
        "speakers": [
            {"session_id": session_id, "user_id": user_id, "name": names.name(session_id)}
            for session_id, user_id in speakers.items()
        ],
        "segments": [_segment(segment, names) for segment in segments],
        "lost_audio": [
            {
                "session_id": loss.session_id,
                "start_ms": loss.start_ns // _NS_PER_MS,
                "end_ms": loss.end_ns // _NS_PER_MS,
                "lost_ms": loss.lost_ns // _NS_PER_MS,
            }
            for loss in lost_audio
        ],
    }


def language_of(segments: Iterable[Segment]) -> str:
    """The first one found, `en` when there is none (calls-plugin.md 8.5)."""
    return next((segment.language for segment in segments if segment.language), "en")


def cues_of(document: Document) -> list[Cue]:
    """One cue per segment, under the speaker's display name, each text in one line."""
    return [
        Cue(
            segment["start_ms"],
            max(segment["end_ms"], segment["start_ms"] + 1),
            segment["speaker"],
            " ".join(segment["text"].split()),
        )
        for segment in document["segments"]
    ]


def render(
    document: Document,
    kind: str,
    *,
    omit_speaker: bool = False,
    text_options: TextOptions | None = None,
) -> str:
    """The document in one of FORMATS. `omit_speaker` is for WebVTT, `text_options` for text and Markdown."""
    match kind:
        case "vtt":
            return render_webvtt(cues_of(document), omit_speaker=omit_speaker)
        case "txt":
            return render_text(cues_of(document), text_options)
        case "srt":
            return render_srt(cues_of(document))
        case "md":
            return render_markdown(cues_of(document), text_options)
        case _:
            return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _segment(segment: Segment, names: Names) -> Document:
    found: Document = {
        "start_ms": segment.start_ns // _NS_PER_MS,
        "end_ms": segment.end_ns // _NS_PER_MS,
        "session_id": segment.session_id,
        "user_id": segment.user_id,
        "speaker": names.name(segment.session_id),
        "text": segment.text,
        "language": segment.language,
        "words": [
            {
                "text": word.text,
                "start_ms": word.start_ns // _NS_PER_MS,
                "end_ms": word.end_ns // _NS_PER_MS,
                "probability": round(word.probability, 4),
            }
            for word in segment.words
        ],
    }
    if segment.failure:
        found["failure"] = segment.failure
    return found

"""WebVTT as the plugin's player expects it (calls-plugin.md 8.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jobs.transcriber.formats.cues import Cue, in_order

# The decimal forms for quotes are those of the original's files.
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}
)


def render_webvtt(cues: Iterable[Cue], *, omit_speaker: bool = False) -> str:
    """The whole file. With `omit_speaker` the cue text has no `<v …>(…)` part."""
    blocks = ["WEBVTT"]
    for cue in in_order(cues):
        text = cue.text.translate(_ESCAPES)
        if not omit_speaker:
            speaker = cue.speaker.translate(_ESCAPES)
            text = f"<v {speaker}>({speaker}) {text}"
        blocks.append(f"{_timestamp(cue.start_ms)} --> {_timestamp(cue.end_ms)}\n{text}")
    return "\n\n".join(blocks) + "\n"


def _timestamp(ms: int) -> str:
    """`HH:MM:SS.mmm`; hours may take more than two digits."""
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{rest:03}"

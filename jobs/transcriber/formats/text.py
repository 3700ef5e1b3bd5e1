"""Plain text for people (calls-plugin.md 8.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jobs.transcriber.formats.cues import Cue, in_order


@dataclass(frozen=True, slots=True)
class TextOptions:
    """When neighbouring cues of one speaker become one block."""

    silence_threshold_ms: int = 2000
    """The silence between them is shorter than this."""
    max_segment_duration_ms: int = 10000
    """The block so far is shorter than this."""


def render_text(cues: Iterable[Cue], options: TextOptions | None = None) -> str:
    """The whole file: blocks of times, speaker and text, separated by an empty line."""
    blocks = [
        f"{clock(cue.start_ms)} -> {clock(cue.end_ms)}\n{cue.speaker}\n{cue.text}\n"
        for cue in compact(cues, options or TextOptions())
    ]
    return "\n".join(blocks)


def compact(cues: Iterable[Cue], options: TextOptions) -> list[Cue]:
    """In order, with neighbouring cues of one speaker put together."""
    blocks: list[Cue] = []
    for cue in in_order(cues):
        if blocks and _belong_together(blocks[-1], cue, options):
            last = blocks[-1]
            end_ms = max(last.end_ms, cue.end_ms)
            blocks[-1] = Cue(last.start_ms, end_ms, last.speaker, f"{last.text} {cue.text}")
        else:
            blocks.append(cue)
    return blocks


def _belong_together(block: Cue, cue: Cue, options: TextOptions) -> bool:
    return (
        block.speaker == cue.speaker
        and cue.start_ms - block.end_ms < options.silence_threshold_ms
        and block.end_ms - block.start_ms < options.max_segment_duration_ms
    )


def clock(ms: int) -> str:
    """`HH:MM:SS`, rounded to whole seconds before it is split up, so `:60` cannot occur."""
    minutes, seconds = divmod((ms + 500) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"

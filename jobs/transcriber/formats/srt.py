"""SubRip, for editors and players that know no WebVTT. Never specified; this is what all of them read."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.transcriber.formats.cues import Cue, in_order


def render_srt(cues: Iterable[Cue]) -> str:
    """The whole file: numbered blocks of times and `Speaker: text`, in the order of their starts."""
    return "\n".join(
        f"{number}\n{_timestamp(cue.start_ms)} --> {_timestamp(cue.end_ms)}\n{_line(cue)}\n"
        for number, cue in enumerate(in_order(cues), start=1)
    )


def _line(cue: Cue) -> str:
    # There is no escape, and a reader may take any line with an arrow for the times of a block.
    return f"{cue.speaker}: {cue.text}".replace("-->", "->")


def _timestamp(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{rest:03}"

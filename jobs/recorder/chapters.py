"""Chapters of a recording, at shared screens and changes of the host: for the MP4, players and scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jobs.recorder.moments import Kind, Moment

_CALL: Final = "Call"
_SHORTEST_S: Final = 2.0
"""What lasts less is part of what follows: nobody jumps to it."""
_MOST: Final = 250
"""Nero's chapter list counts in one byte."""
_TITLE_BYTES: Final = 250
"""And so do its titles."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """From `start_s` of the recording to `end_s`."""

    start_s: float
    end_s: float
    title: str


def chapters(moments: Sequence[Moment], *, duration_s: float) -> list[Chapter]:
    """Without gaps from 0 to `duration_s`; none where there is only one, which tells nothing."""
    starts = [(0.0, _CALL)]
    for moment in moments:
        title = _title(moment)
        if title is None or moment.at_s >= duration_s:
            continue
        last_s, last_title = starts[-1]
        if moment.at_s - last_s >= _SHORTEST_S:
            starts.append((moment.at_s, title))
        elif moment.kind is not Kind.HOST or last_title == _CALL:  # a screen is what is looked for
            starts[-1] = (last_s, title)
        if len(starts) > 1 and starts[-1][1] == starts[-2][1]:
            starts.pop()
    if duration_s - starts[-1][0] < _SHORTEST_S and len(starts) > 1:
        starts.pop()
    del starts[_MOST:]
    if len(starts) < 2:
        return []
    ends = [start_s for start_s, _ in starts[1:]] + [duration_s]
    return [
        Chapter(start_s, end_s, title) for (start_s, title), end_s in zip(starts, ends, strict=True)
    ]


def to_json(found: Sequence[Chapter]) -> str:
    """A list of objects with `start_s`, `end_s`, `title`."""
    rows = [
        {"start_s": round(c.start_s, 3), "end_s": round(c.end_s, 3), "title": c.title}
        for c in found
    ]
    return json.dumps({"chapters": rows}, ensure_ascii=False, indent=1) + "\n"


def to_webvtt(found: Sequence[Chapter]) -> str:
    """For `<track kind="chapters">`: a cue per chapter."""
    cues = [
        f"{number}\n{_stamp(chapter.start_s)} --> {_stamp(chapter.end_s)}\n{_escaped(chapter.title)}\n"
        for number, chapter in enumerate(found, start=1)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _title(moment: Moment) -> str | None:
    match moment.kind:
        case Kind.SCREEN:
            return _cut(f"Screen of {moment.name}" if moment.name else "Shared screen")
        case Kind.SCREEN_OVER:
            return _CALL
        case Kind.HOST:
            return _cut(f"{moment.name} is now the host" if moment.name else "New host")
        case _:
            return None


def _cut(title: str) -> str:
    return title.encode()[:_TITLE_BYTES].decode(errors="ignore").replace("\n", " ")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(at_s: float) -> str:
    total_ms = round(at_s * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"

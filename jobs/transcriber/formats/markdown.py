"""Markdown for wikis and notes: one paragraph per block of the text format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from jobs.transcriber.formats.cues import Cue
from jobs.transcriber.formats.text import TextOptions, clock, compact

_INLINE: Final = re.compile(r"[\\`*_\[\]<>#|~&!$]")
_BEGINNING: Final = re.compile(r"^(?:([-+=])|(\d+)([.)]))")


def render_markdown(cues: Iterable[Cue], options: TextOptions | None = None) -> str:
    """The whole file; what was said is text, whatever it would mean in Markdown (CommonMark 2.4)."""
    blocks = ["# Transcript\n"]
    for cue in compact(cues, options or TextOptions()):
        head = f"**{_escaped(cue.speaker)}** ({clock(cue.start_ms)})"
        blocks.append(f"{head}\n\n{_paragraph(cue.text)}\n")
    return "\n".join(blocks)


def _escaped(text: str) -> str:
    return _INLINE.sub(lambda match: "\\" + match[0], text)


def _paragraph(text: str) -> str:
    """Nothing at its beginning makes it a list or a heading."""
    return _BEGINNING.sub(
        lambda match: f"\\{match[1]}" if match[1] else f"{match[2]}\\{match[3]}", _escaped(text)
    )

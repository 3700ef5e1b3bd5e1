"""A picture that tells what a recording is about: the first shared screen, else the fullest grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import av
from av.video.reformatter import Colorspace
from PIL import Image

from jobs.recorder.moments import Kind, Moment

_SETTLE_S: Final = 2.0
"""After which a shared screen's picture is there, and everybody's avatar."""
_MOST_FRAMES: Final = 60 * 5
"""Decoded from the key frame before: there is one every four seconds."""
_WIDEST_PX: Final = 1280
_QUALITY: Final = 85


def poster_at_s(moments: Sequence[Moment], *, duration_s: float) -> float:
    """The moment of the recording that the poster shows."""
    for number, moment in enumerate(moments):
        if moment.kind is Kind.SCREEN and moment.at_s < duration_s:
            ends = [
                m.at_s for m in moments[number + 1 :] if m.kind in (Kind.SCREEN, Kind.SCREEN_OVER)
            ]
            end_s = min([*ends[:1], duration_s])
            return min(moment.at_s + _SETTLE_S, (moment.at_s + end_s) / 2)
    fullest = max(
        (m for m in moments if m.kind is Kind.PEOPLE), key=lambda m: m.count, default=None
    )
    at_s = 0.0 if fullest is None else fullest.at_s
    return max(0.0, min(at_s + _SETTLE_S, (at_s + duration_s) / 2))


def write_poster(recording: Path, target: Path, *, at_s: float) -> None:
    """Write the picture of that moment as JPEG. Blocks; decodes a few seconds at most.

    Raises:
        av.FFmpegError, OSError, ValueError: the recording cannot be read, or `target` not be written.
    """
    with av.open(str(recording)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        if stream.time_base is None:
            raise ValueError("its pictures have no time")
        container.seek(round(at_s / float(stream.time_base)), stream=stream)
        found = None
        for number, frame in enumerate(container.decode(stream)):
            if found is not None and (frame.time or 0.0) > at_s:
                break
            found = frame
            if number >= _MOST_FRAMES:
                break
        if found is None:
            raise ValueError("there is no picture")
        pixels = found.reformat(format="rgb24", src_colorspace=Colorspace.ITU601).to_ndarray()
    image = Image.fromarray(pixels)
    image.thumbnail((_WIDEST_PX, _WIDEST_PX), Image.Resampling.LANCZOS)
    temporary = target.with_name(target.name + ".tmp")
    image.save(temporary, "JPEG", quality=_QUALITY)
    temporary.replace(target)

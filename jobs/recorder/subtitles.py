"""`python -m jobs.recorder subtitles RECORDING TRANSCRIPT TARGET`: a recording with a text track.

The recorder cannot do that by itself: the transcript is another job's, and comes after the recording was
posted. In the thread the server shows it with the recording anyhow; this makes a file that takes it along.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer
from av.stream import Stream

_CLOCK_HZ: Final = 1000
_LANGUAGE: Final = "und"
_MOST_TEXT_BYTES: Final = 0xFFFF
_TAG: Final = re.compile(r"<[^>]*>")
"""Of WebVTT, such as the voice's; a text track has none."""
_INDEX_IN_FRONT: Final = {"movflags": "faststart"}


class SubtitlesError(Exception):
    """The files cannot be joined; the message names the one that is to blame."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Text that is to be read from `start_ms` to `end_ms`."""

    start_ms: int
    end_ms: int
    text: str


def main(recording: Path, transcript: Path, target: Path, language: str = _LANGUAGE) -> int:
    """0: `target` is there; 1: standard error says why not."""
    try:
        add_subtitles(recording, transcript, target, language=language)
    except SubtitlesError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def add_subtitles(recording: Path, transcript: Path, target: Path, *, language: str) -> None:
    """Copy `recording` to `target` with the WebVTT file `transcript` as a text track; chapters stay.

    `language`: ISO 639-2, such as `eng`. `target` appears only when it is complete. Blocks.

    Raises:
        SubtitlesError: a file cannot be read or written, or holds nothing that is to be read.
    """
    cues = read_cues(transcript)
    if not cues:
        raise SubtitlesError(f"{transcript}: holds no cues")
    temporary = target.with_name(target.name + ".tmp")
    try:
        with (
            av.open(str(recording)) as container,
            av.open(str(temporary), "w", format="mp4", options=_INDEX_IN_FRONT) as out,
        ):
            # Not the track that the chapters are made of: it is made anew.
            wanted = [s for s in container.streams if s.type in ("video", "audio")]
            streams = {stream.index: out.add_stream_from_template(stream) for stream in wanted}
            text = out.add_mux_stream("mov_text")
            text.metadata["language"] = language
            out.set_chapters(container.chapters())
            samples = _samples(cues)
            sample = next(samples, None)
            for packet in container.demux(wanted):
                if packet.dts is None:
                    continue
                at_ms = packet.dts * packet.time_base * _CLOCK_HZ
                while sample is not None and sample[0] <= at_ms:
                    _mux(out, text, *sample)
                    sample = next(samples, None)
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
            while sample is not None:
                _mux(out, text, *sample)
                sample = next(samples, None)
        temporary.replace(target)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SubtitlesError(f"{recording}: cannot be copied to {target}: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_cues(transcript: Path) -> list[Cue]:
    """The cues of a WebVTT file by their start, none of them before the one before has ended.

    Raises:
        SubtitlesError: it is no WebVTT file.
    """
    try:
        with av.open(str(transcript), format="webvtt") as container:
            found = [
                Cue(
                    round(packet.pts * packet.time_base * _CLOCK_HZ),
                    round((packet.pts + (packet.duration or 0)) * packet.time_base * _CLOCK_HZ),
                    _plain(bytes(packet).decode(errors="replace")),
                )
                for packet in container.demux()
                if packet.pts is not None and packet.size
            ]
    except (av.FFmpegError, OSError) as error:
        raise SubtitlesError(f"{transcript}: is no WebVTT file: {error}") from error
    return _joined(sorted(found, key=lambda cue: cue.start_ms))


def _joined(cues: list[Cue]) -> list[Cue]:
    """A text track shows one text at a time: where two speak at once, both are in it."""
    edges = sorted({cue.start_ms for cue in cues} | {cue.end_ms for cue in cues})
    joined: list[Cue] = []
    waiting, said = deque(cues), list[Cue]()
    for start_ms, end_ms in pairwise(edges):
        while waiting and waiting[0].start_ms <= start_ms:
            said.append(waiting.popleft())
        said = [cue for cue in said if cue.end_ms > start_ms]
        if said:
            joined.append(Cue(start_ms, end_ms, "\n".join(cue.text for cue in said)))
    return joined


def _plain(text: str) -> str:
    return unescape(_TAG.sub("", text)).strip()


def _samples(cues: list[Cue]) -> Iterator[tuple[int, int, str]]:
    """Of a 3GPP timed text track, as start and end (ms) and text: one after the other from zero on, empty
    ones between the cues."""
    at_ms = 0
    for cue in cues:
        if cue.start_ms > at_ms:
            yield at_ms, cue.start_ms, ""
        yield cue.start_ms, cue.end_ms, cue.text
        at_ms = cue.end_ms
    yield at_ms, at_ms + 1, ""


def _mux(out: OutputContainer, stream: Stream, start_ms: int, end_ms: int, text: str) -> None:
    content = text.encode()[:_MOST_TEXT_BYTES].decode(errors="ignore").encode()
    packet: av.Packet[Stream] = av.Packet(len(content).to_bytes(2, "big") + content)
    packet.pts = packet.dts = start_ms
    packet.duration = end_ms - start_ms
    packet.time_base = Fraction(1, _CLOCK_HZ)
    packet.stream = stream
    out.mux(packet)

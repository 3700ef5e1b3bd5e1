"""Compressed frames to pictures, with a decoder for each track. Loads FFmpeg: in the decoding process only,
and where there is nothing to isolate from."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from jobs.recorder.decoding.limits import FRAME_PIXELS, frame_fits
from jobs.recorder.decoding.wire import DECODERS, Verdict

PIXEL_FORMAT: Final = "yuv420p"
_VP8: Final = DECODERS.index("vp8")
_SIDE_MASK: Final = 0x3FFF
"""The upper two bits scale (RFC 6386 section 9.1)."""

_PLAIN_COLOURS: Final = (2, 5, 6)
"""AVColorSpace: not told, or BT.601 by one of its two numbers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of some frames."""

    verdict: Verdict
    """Of the last one taken."""
    taken: int
    """So many; after one that is not good none is."""
    shown: int
    """So many of those taken were to be shown."""
    place: int
    """Which of them `picture` is of."""
    picture: av.VideoFrame | None
    """The newest, YUV 4:2:0 with 8 bits."""


class Decoders:
    """By track. Blocking; owned by one thread."""

    def __init__(self) -> None:
        self._decoders: dict[int, tuple[int, av.VideoCodecContext]] = {}
        self._converter = VideoReformatter()

    def __len__(self) -> int:
        return len(self._decoders)

    def forget(self, track: int) -> None:
        """It is over."""
        self._decoders.pop(track, None)

    def decode(self, track: int, frames: Sequence[tuple[int, bytes]]) -> Outcome:
        """In order, up to the first that is not good; of each the decoder's place in `DECODERS`, bytes."""
        shown = place = taken = 0
        picture = None
        verdict = Verdict.GOOD
        for number, (codec, data) in enumerate(frames):
            taken += 1
            try:
                decoded = self._decode(track, codec, data)
            except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes lead to
                verdict = Verdict.REFUSED if _is_too_large(error) else Verdict.BROKEN
                break
            shown += len(decoded)
            if decoded:
                picture, place = decoded[-1], number
        plain = self._plain(picture) if picture is not None else None
        return Outcome(verdict, taken, min(shown, 255), place, plain)

    def _decode(self, track: int, codec: int, data: bytes) -> list[av.VideoFrame]:
        if codec == _VP8 and not _vp8_fits(data):
            raise _TooLarge
        known = self._decoders.get(track)
        if known is None or known[0] != codec:
            known = self._decoders[track] = codec, _decoder(codec)
        decoded = known[1].decode(av.Packet(data))
        if any(not frame_fits(frame.width, frame.height) for frame in decoded):
            del self._decoders[track]
            raise _TooLarge
        return decoded

    def _plain(self, frame: av.VideoFrame) -> av.VideoFrame:
        """As the recording has it: VP8 knows nothing else, AV1 mostly is so."""
        if frame.format.name == PIXEL_FORMAT and int(frame.colorspace) in _PLAIN_COLOURS:
            return frame
        return self._converter.reformat(
            frame,
            format=PIXEL_FORMAT,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )


class _TooLarge(Exception):
    pass


def _is_too_large(error: Exception) -> bool:
    """ERANGE is libdav1d's answer to more than `max_pixels`."""
    return isinstance(error, _TooLarge) or getattr(error, "errno", None) == errno.ERANGE


def _vp8_fits(data: bytes) -> bool:
    """By a key frame's header; others keep their size."""
    if len(data) < 10 or data[0] & 1 or bytes(data[3:6]) != b"\x9d\x01\x2a":
        return True
    width = int.from_bytes(data[6:8], "little") & _SIDE_MASK
    height = int.from_bytes(data[8:10], "little") & _SIDE_MASK
    return frame_fits(width, height)


def _decoder(codec: int) -> av.VideoCodecContext:
    decoder = av.CodecContext.create(DECODERS[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(FRAME_PIXELS)}  # before room is made for a frame
    return decoder

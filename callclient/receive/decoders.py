"""Which video codecs this host can decode. Loads FFmpeg at the first question (40 ms), not before."""

from __future__ import annotations

from typing import Final

from callclient.receive.tracks import Codec

DECODERS: Final = {Codec.VP8: "vp8", Codec.AV1: "libdav1d"}
"""FFmpeg's names. Its own `av1` decoder only drives hardware."""


def can_decode(codec: Codec) -> bool:
    """Is the decoder compiled in? `av1Support` must not be said without it: such a client is sent no VP8
    (calls-plugin.md trap 24)."""
    try:
        from av.codec.codec import Codec as FfmpegCodec

        FfmpegCodec(DECODERS[codec], "r")
    except (ImportError, ValueError, KeyError):
        return False
    return True

"""What the simulated participants say that they can do: the codecs and extensions of the Calls clients."""

from __future__ import annotations

from typing import Final

from rtc.negotiation import Capabilities
from rtc.sdp import CodecDescription
from rtc.transport_cc import EXTENSION_URI

TRANSPORT_SEQUENCE: Final = EXTENSION_URI
AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"


def client_capabilities(*, transport_cc: bool) -> Capabilities:
    """Opus and VP8 with the payload types of rtcd.md 3.9; no AV1."""
    feedback = ("transport-cc",) if transport_cc else ()
    transport = (TRANSPORT_SEQUENCE,) if transport_cc else ()
    return Capabilities(
        audio_codecs=(
            CodecDescription(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1", feedback),
        ),
        video_codecs=(
            CodecDescription(
                96, "VP8", 90_000, feedback=("ccm fir", "nack", "nack pli", *feedback)
            ),
        ),
        audio_extensions=(AUDIO_LEVEL, *transport),
        video_extensions=transport,
    )

"""Codecs and header extensions of the SFU, with the numbers clients expect (rtcd.md 3.9)."""

from __future__ import annotations

from rtc.negotiation import Capabilities
from rtc.sdp import CodecDescription
from rtc.transport_cc import EXTENSION_URI as TRANSPORT_CC

AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
_VIDEO_FEEDBACK = ("goog-remb", "ccm fir", "nack", "nack pli", "transport-cc")

CAPABILITIES = Capabilities(
    audio_codecs=(
        CodecDescription(
            111, "opus", 48_000, 2, "minptime=10;useinbandfec=1", feedback=("transport-cc",)
        ),
    ),
    video_codecs=(
        CodecDescription(96, "VP8", 90_000, feedback=_VIDEO_FEEDBACK),
        CodecDescription(45, "AV1", 90_000, feedback=_VIDEO_FEEDBACK),
    ),
    audio_extensions=(AUDIO_LEVEL, TRANSPORT_CC),
    video_extensions=(MID, RID, REPAIRED_RID, TRANSPORT_CC),
    extension_numbers=(
        (AUDIO_LEVEL, 1),
        (MID, 2),
        (RID, 3),
        (REPAIRED_RID, 4),
        (TRANSPORT_CC, 5),
    ),
)

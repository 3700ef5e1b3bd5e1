"""Codecs and header extensions of the SFU, with the numbers clients expect (rtcd.md 3.9)."""

from __future__ import annotations

from rtc.negotiation import Capabilities
from rtc.sdp import CodecDescription

AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_VIDEO_FEEDBACK = ("ccm fir", "nack", "nack pli")

CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1"),),
    video_codecs=(
        CodecDescription(96, "VP8", 90_000, feedback=_VIDEO_FEEDBACK),
        CodecDescription(45, "AV1", 90_000, feedback=_VIDEO_FEEDBACK),
    ),
    audio_extensions=(AUDIO_LEVEL,),
)

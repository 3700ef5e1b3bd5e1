"""The numbers and parameters that clients and tests take for granted (rtcd.md 3.9, trap 28)."""

from __future__ import annotations

import re

import pytest

from rtc.negotiation import Negotiation
from rtc.sdp import Msid
from rtc.sections import LocalMedia, LocalTransport
from sfu.capabilities import AUDIO_LEVEL, CAPABILITIES


def offer() -> str:
    """What the SFU offers to a receiver of one voice and one camera."""
    negotiation = Negotiation(CAPABILITIES)
    for ssrc, kind in ((1, "audio"), (2, "video")):
        negotiation.add_sender(kind, LocalMedia(Msid("stream", f"track-{ssrc}"), ssrc, "cname"))
    return negotiation.create_offer(LocalTransport("ufrag", "p" * 24, "AA:BB"))


def lines(name: str) -> list[str]:
    return re.findall(rf"^a={name}:(.*?)\r?$", offer(), re.MULTILINE)


def test_payload_types_are_the_literal_ones_that_clients_expect() -> None:
    assert lines("rtpmap") == ["111 opus/48000/2", "96 VP8/90000", "45 AV1/90000"]


def test_nothing_else_is_offered() -> None:
    sections = re.findall(r"^m=(audio|video) \d+ \S+ (.*?)\r?$", offer(), re.MULTILINE)
    assert sections == [("audio", "111"), ("video", "96 45")]


def test_only_opus_has_parameters() -> None:
    assert lines("fmtp") == ["111 minptime=10;useinbandfec=1"]


@pytest.mark.parametrize("payload_type", [96, 45])
def test_video_recovers_by_retransmission_and_key_frames(payload_type: int) -> None:
    feedback = {f"{payload_type} {what}" for what in ("ccm fir", "nack", "nack pli")}
    assert feedback <= set(lines("rtcp-fb"))


def test_audio_is_never_retransmitted() -> None:
    assert not [line for line in lines("rtcp-fb") if line.startswith("111 nack")]


def test_audio_offers_its_level_as_extension_1_and_no_mid() -> None:
    assert AUDIO_LEVEL == "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    audio = offer().partition("m=video")[0]
    extensions = re.findall(r"^a=extmap:(\S+) (\S+?)\r?$", audio, re.MULTILINE)
    assert ("1", AUDIO_LEVEL) in extensions
    assert "urn:ietf:params:rtp-hdrext:sdes:mid" not in dict(extensions).values()

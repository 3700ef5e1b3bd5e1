"""Session descriptions that nobody sane would write: an error or an answer, soon, and never anything else."""

from __future__ import annotations

import contextlib
import random
import time

import pytest

from rtc import sdp
from rtc.errors import MAX_TEXT_CHARS, RtcError, SdpError
from rtc.negotiation import Capabilities, Negotiation
from rtc.sdp import CodecDescription
from rtc.sections import LocalTransport

HEAD = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA\r\n"
AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
VIDEO = (
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97 45\r\na=mid:1\r\na=sendonly\r\na=msid:s t\r\n"
    "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=fmtp:96 x=1\r\na=rtpmap:97 rtx/90000\r\n"
    "a=extmap:4/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtpmap:45 AV1/90000\r\n"
    "a=rid:l send\r\na=rid:h send\r\na=simulcast:send l;h\r\n"
    "a=ssrc-group:FID 11 12\r\na=ssrc:11 cname:c\r\na=ssrc:12 msid:s t\r\n"
    "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
)
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n"
WHOLE = HEAD + AUDIO + "a=rtpmap:111 opus/48000/2\r\na=sendrecv\r\n" + VIDEO + DATA
CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48000, 2),),
    video_codecs=(CodecDescription(96, "VP8", 90000), CodecDescription(45, "AV1", 90000)),
    video_extensions=("urn:ietf:params:rtp-hdrext:sdes:mid",),
)
TRANSPORT = LocalTransport("ufrag", "password", "AA")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a=rtpmap:128 opus/48000/2", "payload type is 128; wanted 0 to 127"),
        ("a=rtpmap:-1 opus/48000/2", "payload type is -1"),
        ("a=rtpmap:x opus/48000/2", "invalid literal"),
        ("a=rtpmap:" + "9" * 5000 + " opus/48000/2", "4300"),
        ("a=rtpmap:111", "not enough values"),
        ("a=rtpmap:111 opus", "not enough values"),
        ("a=extmap:1", "not enough values"),
        ("a=ssrc:x cname:y", "invalid literal"),
        ("a=ssrc-group:", "not enough values"),
        ("a=rid:l", "not enough values"),
        ("a=sctp-port:", "invalid literal"),
        ("m=", "out of range"),
        ("m=audio", "out of range"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, problem: str) -> None:
    with pytest.raises(SdpError, match=f"line 7 cannot be read: .*{problem}"):
        sdp.parse("offer", HEAD + AUDIO + line)


@pytest.mark.parametrize("line", ["a=", "a=:", "a=fmtp:", "a=fmtp:\u00b2 x", "b=AS:1", "=", "\x00"])
def test_a_line_that_says_nothing_of_use_is_passed_over(line: str) -> None:
    assert len(sdp.parse("offer", HEAD + AUDIO + line).media) == 1


@pytest.mark.parametrize(
    "text",
    [
        HEAD + AUDIO + "a=ssrc:" + "x" * 60_000 + " cname:y",
        HEAD + "a=setup:" + "x" * 60_000 + "\r\n" + AUDIO,
    ],
)
def test_what_an_error_quotes_is_cut(text: str) -> None:
    with pytest.raises(SdpError) as raised:
        sdp.parse("offer", text)
    assert 100 < len(str(raised.value)) <= MAX_TEXT_CHARS


def test_lines_about_a_codec_may_come_before_its_rtpmap() -> None:
    text = (
        HEAD
        + AUDIO
        + "a=fmtp:111 useinbandfec=1\r\na=rtcp-fb:111 nack\r\na=rtpmap:111 opus/48000/2"
    )
    [codec] = sdp.parse("offer", text).media[0].codecs
    assert (codec.parameters, codec.feedback) == ("useinbandfec=1", ("nack",))


def test_feedback_may_be_said_for_all_codecs_at_once() -> None:
    text = (
        HEAD + AUDIO + "a=rtcp-fb:111 nack\r\na=rtcp-fb:* transport-cc\r\na=rtpmap:111 opus/48000/2"
    )
    [codec] = sdp.parse("offer", text).media[0].codecs
    assert sorted(codec.feedback) == ["nack", "transport-cc"]


def test_the_repair_stream_of_a_group_is_no_track_wherever_the_group_stands() -> None:
    lines = ["a=ssrc:11 cname:c", "a=ssrc:12 cname:c"]
    for at in range(3):
        text = HEAD + AUDIO + "\r\n".join([*lines[:at], "a=ssrc-group:FID 11 12", *lines[at:]])
        assert sdp.parse("offer", text).media[0].ssrcs == [11]


MEGABYTE = 1 << 20
LONG = {
    "payload types with feedback each": (
        "m=video 9 x " + "96 " * (MEGABYTE // 6) + "\r\na=mid:0\r\na=rtpmap:96 VP8/90000\r\n",
        "a=rtcp-fb:96 nack\r\n",
    ),
    "feedback of all codecs": (
        "m=video 9 x "
        + " ".join(map(str, range(128)))
        + "\r\na=mid:0\r\n"
        + "".join(f"a=rtpmap:{n} x{n}/90000\r\n" for n in range(128)),
        "a=rtcp-fb:* nack {n}\r\n",
    ),
    "different payload types": (
        "m=video 9 x " + " ".join(map(str, range(60_000))) + "\r\na=mid:0\r\n",
        "a=rtpmap:96 VP8/90000\r\n",
    ),
    "ssrcs": (AUDIO, "a=ssrc:{n} cname:x\r\n"),
    "ssrc groups": (AUDIO, "a=ssrc:{n} cname:x\r\na=ssrc-group:FID {n} 1{n}\r\n"),
    "one group": (AUDIO, " {n}"),
    "rids": (AUDIO, "a=rid:{n} send\r\n"),
    "extensions": (AUDIO, "a=extmap:{n} urn:{n}\r\n"),
    "candidates": (AUDIO, "a=candidate:{n} 1 udp 1 192.0.2.1 5 typ host\r\n"),
    "sections": ("", "m=audio 9 x 111\r\na=mid:{n}\r\n"),
    "sections of one name": ("", "m=audio 9 x 111\r\na=mid:0\r\n"),
    "empty lines": (AUDIO, "\r\n"),
    "carriage returns": (AUDIO, "\r"),
    "one long line": (AUDIO, "x"),
    "mids": (AUDIO, "a=mid:{n}\r\n"),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_megabyte_is_dealt_with_in_linear_time(kind: str) -> None:
    """It takes a third of a second at most; quadratic, a minute and more."""
    head, unit = LONG[kind]

    def run(size: int) -> float:
        many = size // len(unit)
        text = HEAD + head + "".join(unit.format(n=n) for n in range(many))
        text = text[:size]
        started = time.process_time()
        with contextlib.suppress(RtcError):
            Negotiation(CAPABILITIES).accept_offer(text, TRANSPORT)
        return time.process_time() - started

    assert run(MEGABYTE) < 2.0


def test_whatever_is_changed_in_a_description_it_is_taken_or_refused_in_words() -> None:
    rng = random.Random(7)
    lines = WHOLE.split("\r\n")
    alphabet = "0123456789 :/;=-abmx\x00\r\u00e9\u00b2"
    taken = 0
    for _ in range(3000):
        changed = list(lines)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed))
            match rng.randrange(4):
                case 0:
                    del changed[at]
                case 1:
                    changed.insert(at, rng.choice(lines))
                case 2:
                    changed[at] = changed[at][: rng.randrange(len(changed[at]) + 1)]
                case _:
                    text = list(changed[at])
                    for _ in range(rng.randint(1, 3)):
                        text.insert(rng.randrange(len(text) + 1), rng.choice(alphabet))
                    changed[at] = "".join(text)
            if not changed:
                break
        negotiation = Negotiation(CAPABILITIES)
        try:
            negotiation.accept_offer(WHOLE, TRANSPORT)
            negotiation.accept_offer("\r\n".join(changed), TRANSPORT)
            taken += 1
        except RtcError:
            continue
        offer = negotiation.create_offer(TRANSPORT)
        assert len(sdp.parse("offer", offer).media) == len(negotiation.sections)
    assert 300 < taken < 2900

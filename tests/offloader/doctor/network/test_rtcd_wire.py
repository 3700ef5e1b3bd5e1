"""What is read of an SFU's messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloader.doctor.network.rtcd_wire import Candidate, offer_sdp, sdp_value, unpacked
from sfu.messages import Hello, Join, Rtc, RtcMessage, RtcType, encode


@pytest.mark.parametrize(
    ("line", "candidate"),
    [
        (
            "a=candidate:1 1 udp 2130706431 192.0.2.1 8443 typ host",
            Candidate("udp", "192.0.2.1", 8443, "host"),
        ),
        (
            "candidate:1 1 TCP 1671430143 2001:db8::1 8443 typ srflx tcptype passive",
            Candidate("tcp", "2001:db8::1", 8443, "srflx"),
        ),
        ("candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active", None),
        ("candidate:1 2 udp 1 192.0.2.1 8443 typ host", None),  # RTCP of its own
        ("candidate:1 1 udp 1 1.2.3 8443 typ host", None),
        ("candidate:1 1 udp 1 192.0.2.1 99999 typ host", None),
        ("candidate:1 1 udp 1 1b5e.local 8443 typ host", None),
        ("", None),
    ],
)
def test_candidates_that_can_be_checked_are_read(line: str, candidate: Candidate | None) -> None:
    assert Candidate.parse(line) == candidate


def test_messages_of_the_sfus_own_package_are_read() -> None:
    assert unpacked(encode(Hello("client", "conn")))[0] == "hello"
    kind, body = unpacked(encode(Rtc(RtcMessage(RtcType.SDP, "session", b"{}"))))
    assert (kind, body["type"], body["data"]) == ("rtc", 2, b"{}")
    assert unpacked(encode(Join("call", "user", "session")))[1]["callID"] == "call"


@given(st.binary(max_size=64))
def test_any_frame_is_read_or_none(frame: bytes) -> None:
    kind, _ = unpacked(frame)
    assert isinstance(kind, str)


def test_the_offer_has_what_an_answer_needs() -> None:
    sdp = offer_sdp("ufrag", "p" * 32)
    assert (sdp_value(sdp, "ice-ufrag"), sdp_value(sdp, "ice-pwd")) == ("ufrag", "p" * 32)
    assert sdp_value(sdp, "nothing") == ""

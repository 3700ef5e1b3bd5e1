"""What the SFU says through the server."""

from __future__ import annotations

import json

import pytest

from callclient.signaling.signal import read_signal
from rtc.calls_dc import DcError

LINE = "candidate:1 1 udp 2130706431 192.0.2.7 8443 typ host"


def test_a_candidate_is_its_line() -> None:
    text = json.dumps({"type": "candidate", "candidate": {"candidate": LINE, "sdpMid": "0"}})
    assert read_signal(text) == ("candidate", LINE)


@pytest.mark.parametrize("kind", ["offer", "answer"])
def test_a_description_is_its_sdp(kind: str) -> None:
    assert read_signal(json.dumps({"type": kind, "sdp": "v=0"})) == (kind, "v=0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oops",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        "{}",
        '{"type": "candidate"}',
        '{"type": "candidate", "candidate": "x"}',
        '{"type": "candidate", "candidate": {}}',
        '{"type": "rollback", "sdp": ""}',
        '{"type": "offer", "sdp": 7}',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DcError):
        read_signal(text)

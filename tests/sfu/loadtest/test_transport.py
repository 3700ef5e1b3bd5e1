"""Loss takes media only, and about as much as was asked for."""

from __future__ import annotations

import random

import pytest

from sfu.loadtest.transport import local_address_towards, lossy_receive, lossy_send

RTP = bytes([0x80, 111]) + bytes(20)
RTP_WITH_MARKER = bytes([0x80, 0x80 | 96]) + bytes(20)
RTCP = bytes([0x80, 201]) + bytes(20)
STUN = bytes([0x00, 0x01]) + bytes(18)
DTLS = bytes([22, 0xFE, 0xFD]) + bytes(20)


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(5)


def test_only_media_gets_lost_on_the_way_in() -> None:
    came: list[bytes] = []
    receive = lossy_receive(came.append, 1.0)
    for datagram in (RTP, RTP_WITH_MARKER, RTCP, STUN, DTLS, b""):
        receive(datagram)
    assert came == [RTCP, STUN, DTLS, b""]


@pytest.mark.parametrize("make", [lossy_receive, lossy_send])
def test_the_share_is_as_asked_for(make) -> None:
    came: list[bytes] = []
    way = make(came.append, 0.3)
    for _ in range(2000):
        way(RTP)
    assert len(came) == pytest.approx(1400, abs=80)


def test_the_local_address_is_the_one_that_reaches_the_sfu() -> None:
    assert local_address_towards("http://127.0.0.1:8045") == "127.0.0.1"

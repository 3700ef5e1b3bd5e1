"""SRTP contexts: what is accepted, what is kept, and for how long."""

from __future__ import annotations

import gc
import os

import pytest

from rtc.fanout import Egress, Outlet, fan_out
from rtc.rtcp import build_pli
from rtc.rtp import build_rtp
from rtc.srtp import MAX_PACKET_BYTES, MAX_STREAMS, PROFILES, SrtpContext, SrtpProfile

PROFILE = PROFILES[0]


def contexts(profile: SrtpProfile = PROFILE) -> tuple[SrtpContext, SrtpContext]:
    material = os.urandom(profile.material_bytes)
    return SrtpContext(profile, material, "outbound"), SrtpContext(profile, material, "inbound")


def packet(ssrc: int, sequence: int = 1, payload: bytes = b"speech") -> bytes:
    return build_rtp(payload, payload_type=111, sequence=sequence, timestamp=0, ssrc=ssrc)


def protected(context: SrtpContext, plain: bytes) -> bytes:
    result = context.protect_rtp(plain)
    assert result is not None
    return result


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name.decode())
def test_what_is_protected_can_be_read_once_and_unchanged_only(profile: SrtpProfile) -> None:
    sender, receiver = contexts(profile)
    cipher = protected(sender, packet(5))
    for at in range(len(cipher)):
        if at not in (0, 1):  # other first bytes are other kinds of packets
            forged = cipher[:at] + bytes([cipher[at] ^ 1]) + cipher[at + 1 :]
            assert receiver.unprotect_rtp(forged) is None
    assert receiver.unprotect_rtp(cipher) == packet(5)
    assert receiver.unprotect_rtp(cipher) is None  # a replay
    report = sender.protect_rtcp(build_pli(sender_ssrc=1, media_ssrc=2))
    assert report is not None
    assert receiver.unprotect_rtcp(report) == build_pli(sender_ssrc=1, media_ssrc=2)
    assert receiver.unprotect_rtcp(report) is None


@pytest.mark.parametrize("length", [0, 1, 7, 8, 11, 12, 13, MAX_PACKET_BYTES, 65535])
def test_any_length_is_an_answer_and_no_more(length: int) -> None:
    _, receiver = contexts()
    junk = bytes([0x90]) + os.urandom(length)
    assert receiver.unprotect_rtp(junk[:length]) is None
    assert receiver.unprotect_rtcp(junk[:length]) is None


def test_streams_that_somebody_makes_up_are_not_kept_for_ever() -> None:
    sender, receiver = contexts()
    for ssrc in range(1, 5 * MAX_STREAMS):
        assert receiver.unprotect_rtp(protected(sender, packet(ssrc))) == packet(ssrc)
        sender.forget(ssrc)
    assert len(receiver._streams) + len(receiver._idle) <= 2 * MAX_STREAMS
    # Forgotten for good: nothing is left that would know a replay. (So only for those long silent.)
    again = protected(sender, packet(1))
    assert receiver.unprotect_rtp(again) == packet(1)


def test_a_stream_that_goes_on_outlives_any_number_of_others() -> None:
    """Its roll-over counter would be lost, and with it every packet to come."""
    sender, receiver = contexts()
    sequence = 60_000
    for turn in range(40):
        for ssrc in range(turn * 100 + 10, turn * 100 + 110):
            receiver.unprotect_rtp(protected(sender, packet(ssrc)))
            sender.forget(ssrc)
        for _ in range(500):  # over the wrap-around in the meantime
            sequence += 1
            plain = packet(1, sequence & 0xFFFF)
            assert receiver.unprotect_rtp(protected(sender, plain)) == plain


def test_keys_live_as_long_as_a_way_out_uses_them() -> None:
    """A goodbye frees the keys while the fan-out may be about to send with them."""
    sender, receiver = contexts()
    sent: list[bytes] = []
    egress = Egress()
    egress.srtp = sender.handle
    egress.send = lambda data: sent.append(bytes(data))
    del sender
    gc.collect()
    others = [contexts() for _ in range(50)]  # take what memory was freed
    fan_out(
        [Outlet(egress, ssrc=5, payload_type=111)],
        b"speech",
        first=0x80,
        marker=0,
        sequence=1,
        timestamp=0,
    )
    assert len(others) == 50
    plain = receiver.unprotect_rtp(sent[0])
    assert plain is not None
    assert plain.endswith(b"speech")

"""STUN and TURN, on datagrams and streams: what anybody can send to a media port, and what servers answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from offloader.doctor.network import stun as doctor
from rtc import stun
from rtc.net.tcp_flow import FrameReader
from rtc.srtp import MAX_PACKET_BYTES
from rtc.turn import messages as turn
from tests.fuzz.target import Target

_KEY = b"password-of-22-letters"
_ID = b"0123456789ab"


def _binding(data: bytes) -> None:
    ufrag = stun.request_ufrag(data)
    assert ufrag is None or len(ufrag) <= len(data)
    with contextlib.suppress(stun.StunError):
        message = stun.parse_message(data)
        assert len(message.unknown) <= 16
        message.integrity_holds(_KEY)


def _turn(data: bytes) -> None:
    with contextlib.suppress(turn.TurnMessageError):
        message = turn.parse(data)
        message.integrity_holds(_KEY)
        _, text = message.error
        assert text.isprintable()
        assert message.lifetime_s is None or message.lifetime_s >= 0
        for attribute in turn.Attribute:
            message.address(attribute)
    turn.parse_channel_data(data)


def _doctor(data: bytes) -> None:
    with contextlib.suppress(doctor.StunError):
        answer = doctor.parse_response(data)
        answer.integrity_holds(_KEY)
        answer.address()
        assert 0 <= answer.error_code <= 955


def _streams(data: bytes) -> None:
    """In parts, as TCP delivers; what is kept of an unfinished message is bounded."""
    half = len(data) // 2
    with contextlib.suppress(turn.TurnMessageError):
        reader = turn.StreamReader()
        for part in (data[:half], data[half:]):
            for message in reader.push(part):
                turn.parse_channel_data(message)
    with contextlib.suppress(ValueError):
        frames = FrameReader()
        for part in (data[:half], data[half:]):
            assert all(len(frame) <= MAX_PACKET_BYTES for frame in frames.push(part))
            assert len(frames.rest) <= MAX_PACKET_BYTES + 2


def _run(data: bytes) -> None:
    _binding(data)
    _turn(data)
    _streams(data)
    _doctor(data)
    if len(data) > 2:  # the same attributes behind a header that fits them
        body = data[2:] + bytes(-len(data[2:]) & 3)
        whole = data[:2] + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + _ID + body
        _binding(whole)
        _turn(whole)
        _doctor(whole)


def _seeds() -> Iterable[bytes]:
    for use in (False, True):
        yield stun.binding_request(
            _ID,
            username=b"local:remote",
            key=_KEY,
            priority=0x6E7F1EFF,
            tie_breaker=b"12345678",
            controlling=use,
            use_candidate=use,
        )
    for host in ("192.0.2.1", "2001:db8::1"):
        yield stun.binding_success(_ID, mapped=(host, 3478), key=_KEY)
        attribute = turn.encode_address(turn.Attribute.XOR_RELAYED_ADDRESS, (host, 5000), _ID)
        lifetime = turn.encode(turn.Attribute.LIFETIME, (600).to_bytes(4, "big"))
        yield turn.build(
            turn.Method.ALLOCATE, turn.Kind.SUCCESS, _ID, attribute + lifetime, key=_KEY
        )
    yield stun.binding_error(_ID, code=stun.UNKNOWN_ATTRIBUTE, key=_KEY, unknown=(0x7000, 0x7001))
    realm = turn.encode(turn.Attribute.REALM, b"example.org")
    nonce = turn.encode(turn.Attribute.NONCE, b"nonce")
    code = turn.encode(turn.Attribute.ERROR_CODE, b"\0\0\x04\x01Unauthorized")
    yield turn.build(turn.Method.ALLOCATE, turn.Kind.ERROR, _ID, realm + nonce + code)
    peer = turn.encode_address(turn.Attribute.XOR_PEER_ADDRESS, ("192.0.2.1", 9), _ID)
    data = turn.encode(turn.Attribute.DATA, b"media")
    yield turn.build(turn.Method.DATA, turn.Kind.INDICATION, _ID, peer + data)
    yield turn.channel_data(turn.FIRST_CHANNEL, b"media", padded=True)
    yield b"\x00\x05hello\x00\x00\x00\x01x"


TARGET = Target(
    parses="STUN binding messages, TURN messages, ChannelData, frames of ICE-TCP, the doctor's STUN answers",
    run=_run,
    seeds=_seeds,
    tokens=(
        b"\x21\x12\xa4\x42",
        *(attribute.to_bytes(2, "big") for attribute in turn.Attribute),
        b"\x00\x24\x00\x04",
        b"\x00\x25\x00\x00",
        b"\x80\x29\x00\x08",
        b"\x80\x2a\x00\x08",
        b"\x01\x01",
        b"\x01\x11",
    ),
    ci_inputs=6000,
)

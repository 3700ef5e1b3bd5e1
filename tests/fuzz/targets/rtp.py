"""RTP, RTCP and SRTP: what whoever has joined can send, and what a stranger's packets meet."""

from __future__ import annotations

from collections.abc import Iterable

from rtc import rtcp, transport_cc
from rtc.nack import NackGenerator
from rtc.peer import is_lone_feedback
from rtc.rtcp import TransportFeedback, parse_rtcp
from rtc.rtp import (
    build_rtp,
    header_extension,
    is_rtcp,
    is_rtp_or_rtcp,
    level_and_number,
    parse_rtp,
)
from rtc.srtp import PROFILES, SrtpContext
from rtc.transport_cc import FeedbackBuilder, parse_feedback
from sfu.forwarding.vp8_rewriter import Vp8Rewriter, read_vp8_ids
from tests.fuzz.target import Target, joined, pieces

_MOST_MESSAGES = 1400
"""A compound of 1400 bytes holds 350 empty packets, each of which may be one message."""
_CONTEXTS = [SrtpContext(profile, bytes(profile.material_bytes), "inbound") for profile in PROFILES]


def _rtcp(compound: bytes) -> None:
    messages = list(parse_rtcp(compound))
    assert len(messages) <= max(_MOST_MESSAGES, len(compound))
    for message in messages:
        if isinstance(message, TransportFeedback):
            feedback = parse_feedback(message.body)
            assert feedback is None or len(feedback.received) <= 8 * len(message.body)


def _rtp(packet: bytes) -> None:
    header = parse_rtp(packet)
    for number in (0, 1, 5, 14, 15, 200):
        value = header_extension(packet, number)
        assert value is None or len(value) <= 255
    if header is None:
        return
    assert 12 <= header.payload_start <= header.payload_end <= len(packet)
    if packet[0] & 0x10:
        try:
            level, number = level_and_number(packet, 16, header.payload_start, 1, 5)
        except IndexError:  # documented: cut off
            return
        assert -1 <= level <= 255
        assert -1 <= number <= 0xFFFF


def _vp8(packet: bytes, rewriter: Vp8Rewriter) -> None:
    ids = read_vp8_ids(packet, 0, len(packet))
    if ids is not None:
        if ids.key_frame_start:
            rewriter.switch(ids, ids)
        copy = bytearray(packet)
        rewriter.apply(copy, 0, ids)
        assert len(copy) == len(packet)


def _run(data: bytes) -> None:
    parse_feedback(data)
    feedback, nacks, rewriter = FeedbackBuilder(sender_ssrc=1), NackGenerator(), Vp8Rewriter()
    for number, datagram in enumerate((data, *pieces(data))):
        if not is_rtp_or_rtcp(datagram):
            _vp8(datagram, rewriter)
            continue
        for context in _CONTEXTS:  # a stranger has no keys: nothing comes of it
            assert context.unprotect_rtp(datagram) is None
            assert context.unprotect_rtcp(datagram) is None
        if is_rtcp(datagram):
            is_lone_feedback(datagram)
            _rtcp(datagram)
            continue
        _rtp(datagram)
        sequence = datagram[2] << 8 | datagram[3]
        nacks.received(sequence, number)
        feedback.record(sequence, number * datagram[4] * 1_000_000)
        assert nacks.missing <= 513
    assert len(nacks.due(10**9)) <= 513
    for packet in feedback.build():
        assert len(packet) <= 1400
        _rtcp(packet)


def _seeds() -> Iterable[bytes]:
    packets = [
        build_rtp(
            bytes([0x90, 0x80, 0x80, n, 0, 1, 2, 3]),
            payload_type=96,
            sequence=65530 + 3 * n,
            timestamp=n * 3000,
            ssrc=7,
            marker=True,
            extensions=((1, b"\x30"), (5, n.to_bytes(2, "big"))),
        )
        for n in range(6)
    ]
    yield from packets[:2]
    yield joined(packets)
    two_byte = packets[0][:12] + b"\x10\x00\x00\x02\x01\x01\x30\x05\x02\x00\x01\x00"
    yield two_byte + b"payload"
    yield bytes([0xB1]) + packets[0][1:12] + b"CSRC\xbe\xde\x00\x01\x10\xff\x00\x00" + b"\0\0\0\4"
    block = rtcp.ReportBlock(7, 12, -3, 70000, 9, 1, 2)
    report = rtcp.build_sender_report(
        ssrc=7, ntp=1 << 40, rtp_timestamp=5, packets=6, octets=7, blocks=[block]
    )
    yield report + rtcp.build_source_name(ssrc=7, cname="name") + rtcp.build_goodbye(ssrcs=[7, 8])
    yield rtcp.build_receiver_report(ssrc=7, blocks=[block] * 3)
    yield rtcp.build_nack(sender_ssrc=1, media_ssrc=7, sequences=[1, 2, 17, 500])
    yield rtcp.build_pli(sender_ssrc=1, media_ssrc=7)
    yield b"\x84\xce\x00\x04\0\0\0\x01\0\0\0\0\0\0\0\x07\x05\0\0\0"  # FIR
    yield b"\x8f\xce\x00\x05\0\0\0\x01\0\0\0\0REMB\x01\x13\xff\xff\0\0\0\x07"
    builder = transport_cc.FeedbackBuilder(sender_ssrc=1, media_ssrc=7)
    for number in (1, 2, 3, 9, 10, 40, 41, 400):
        builder.record(number, number * 3_000_000 + (number % 3) * 90_000_000)
    for packet in builder.build():
        yield packet
        yield packet[12:]
    yield b"\x90\xf0\x81\x02\x03\x24\x00\x9d\x01\x2a"
    yield b"\x10\x00\x9d"
    yield b"\x90\x80\x11\x00"


TARGET = Target(
    parses="RTP and its header extensions, RTCP, transport-wide feedback, SRTP's door, VP8 descriptors",
    run=_run,
    seeds=_seeds,
    tokens=(
        b"\xbe\xde",
        b"\x10\x00",
        b"REMB",
        b"\x80\xc8\x00\x06",
        b"\x8f\xcd",
        b"\x81\xcd",
        b"\x84\xce",
    ),
    ci_inputs=5000,
)

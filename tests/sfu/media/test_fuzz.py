"""What an authenticated client may send in malice: sessions neither raise, nor hang, nor grow."""

from __future__ import annotations

import json
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from rtc import calls_dc
from sfu.messages import (
    Join,
    Leave,
    MessageError,
    Reconnect,
    Rtc,
    RtcMessage,
    RtcType,
    decode,
)
from sfu.messages import encode as encode_frame

ROUNDS = 1500
NTP = 0xE9000000 << 32
TIME_S = 3.0
GROWTH_BYTES = 3_000_000

_WORDS = [0, 1, 2, 4, 8, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF]


@pytest.fixture
def dice() -> random.Random:
    return random.Random(20)


@pytest.fixture
def in_bounds() -> Iterator[Callable[[], None]]:
    """Call it after a first round: from then on memory may not grow, and it must not take long."""
    began = time.process_time()
    used: list[int] = []

    def begin() -> None:
        tracemalloc.start()
        used.append(tracemalloc.get_traced_memory()[0])

    yield begin
    grown = tracemalloc.get_traced_memory()[0] - used[0]
    tracemalloc.stop()
    assert grown < GROWTH_BYTES
    assert time.process_time() - began < 5 * TIME_S


def mutate(dice: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                changed[at : at + 2] = struct.pack("!H", dice.choice(_WORDS))
            case 2:
                del changed[at : at + dice.randrange(9)]
            case 3:
                changed[at:at] = changed[at : at + dice.randrange(40)]
            case 4:
                changed[at:at] = dice.randbytes(dice.randrange(6))
    return bytes(changed[:2000])


def rtp_packet(dice: random.Random, ssrc: int, payload_type: int) -> bytes:
    extension = b""
    first = 0x80 | dice.choice([0, 0, 0x20, 0x10, 0x10]) | dice.choice([0, 0, 0, 1, 15])
    if first & 0x10:
        body = dice.randbytes(4 * dice.randrange(6))
        profile = dice.choice([0xBEDE, 0x1000, 0x1234])
        words = dice.choice([len(body) // 4, dice.choice(_WORDS)])
        extension = struct.pack("!HH", profile, words) + body
    head = struct.pack(
        "!BBHII",
        first,
        dice.choice([payload_type, payload_type | 0x80, dice.randrange(256)]),
        dice.choice([*_WORDS, dice.randrange(1 << 16)]),
        dice.choice([0, 1 << 31, dice.randrange(1 << 32)]),
        ssrc,
    )
    return head + bytes(4 * (first & 15)) + extension + dice.randbytes(dice.randrange(60))


@pytest.mark.looptime
async def test_media_packets_of_any_bytes(
    venue: Any, dice: random.Random, in_bounds: Callable[[], None]
) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice, screen = await alice.talk(), await alice.share()
    now_ns = 0
    for number in range(ROUNDS):
        track, payload_type = dice.choice([(voice, 109), (screen, 120), (screen, 99)])
        ssrc = dice.choice([track.ssrc, track.ssrc, dice.randrange(1 << 32)])
        now_ns += dice.randrange(20_000_000)
        alice.session.rtp_received(rtp_packet(dice, ssrc, payload_type), now_ns)
        if number % 100 == 0:
            alice.session.tick(now_ns)
            alice.session.report(now_ns, NTP)
            bob.session.report(now_ns, NTP)
            bob.wire.datagrams.clear()
            await alice.settle()
        if number == 300:
            in_bounds()
    voice.send(b"still heard")
    await bob.settle()
    assert not bob.closes


@pytest.mark.looptime
async def test_reports_of_any_bytes(
    venue: Any, dice: random.Random, in_bounds: Callable[[], None]
) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    own = bob.tracks["screen_alice"].ssrc
    for number in range(ROUNDS):
        parts = []
        for _ in range(dice.choice([1, 1, 2, 5])):
            kind = dice.choice([200, 201, 202, 203, 204, 205, 205, 206, 206, 207, 255])
            words = [dice.choice([own, screen.ssrc, 0, 0xFFFFFFFF]) for _ in range(2)]
            body = struct.pack("!II", *words) + dice.randbytes(4 * dice.randrange(12))
            size = dice.choice([len(body) // 4, len(body) // 4, dice.choice(_WORDS)])
            count = dice.choice([0, 1, 4, 15, 31])
            parts.append(struct.pack("!BBH", 0x80 | count, kind, size) + body)
        compound = b"".join(parts)
        for member in (alice, bob):
            member.session.rtcp_received(compound)
        if number % 100 == 0:
            screen.send_picture(number & 0x7FFF, key=False)
            alice.session.tick(number * 10_000_000)
            bob.wire.datagrams.clear()
            bob.wire.rtcp.clear()
            alice.wire.rtcp.clear()
            await alice.settle()
        if number == 300:
            in_bounds()
    assert not alice.closes + bob.closes


@pytest.mark.looptime
async def test_channel_messages_of_any_bytes(
    venue: Any, dice: random.Random, in_bounds: Callable[[], None]
) -> None:
    member = await venue.join("alice", dc=True)
    seeds = [
        bytes.fromhex("cc01"),
        bytes.fromhex("cc07"),
        bytes.fromhex("cc08"),
        bytes.fromhex("cc04cb3fe0000000000000"),
        calls_dc.pack_sdp("offer", "v=0\r\n"),
        b"\xcc\x06" + msgpack.packb(calls_dc.pack_sdp("answer", "v=0\r\n" * 100)),
        bytes.fromhex("dfffffffff"),
        bytes.fromhex("ddffffffff"),
        b"\x91" * 1000,
        b"\xcc\x05" + b"\xc6\xff\xff\xff\xff",
        b"ping",
    ]
    for number in range(ROUNDS):
        data = dice.choice(seeds)
        message = data if number < len(seeds) else mutate(dice, data)
        member.session.channel_message(member.session._outbox.channel, message)
        if number % 50 == 0:
            member.channel_messages.clear()
            await member.settle()
        if number == 300:
            in_bounds()


@pytest.mark.looptime
async def test_descriptions_of_any_lines(
    venue: Any, dice: random.Random, in_bounds: Callable[[], None]
) -> None:
    """Cheaper rounds are not to be had: each is an offer."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.talk()
    whole = alice.negotiation.create_offer(alice.transport)
    lines = whole.split("\r\n")
    texts = ["\r\n".join(lines)]
    for number in range(600):
        changed = lines[:]
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(changed))
            match dice.randrange(6):
                case 0:
                    del changed[at]
                case 1:
                    changed.insert(dice.randrange(len(changed) + 1), changed[at])
                case 2:
                    other = dice.randrange(len(changed))
                    changed[at], changed[other] = changed[other], changed[at]
                case 3:
                    changed[at] = changed[at][: dice.randrange(len(changed[at]) + 1)]
                case 4:
                    changed[at] = mutate(dice, changed[at].encode()).decode("utf-8", "replace")
                case 5:
                    digits = str(dice.choice([-1, 0, 255, 65536, 1 << 31, 1 << 70]))
                    changed[at] = changed[at].replace("1", digits, 1)
        texts.append("\r\n".join(changed))
        kind = dice.choice(["offer"] * 12 + ["answer", "answer", "pranswer", "", "x" * 100])
        value: Any = dice.choice(texts[-1:] * 8 + ["", "\0", 5, None, [], {"sdp": {}}])
        data = json.dumps({"type": kind, "sdp": value}).encode()
        message = RtcMessage(RtcType.SDP, alice.id, data)
        await venue.server.handle(alice.id, message)
        candidate = mutate(dice, b"candidate:1 1 udp 1 127.0.0.1 8443 typ host")
        ice = {"candidate": {"candidate": candidate.decode("utf-8", "replace")}}
        await venue.server.handle(
            alice.id, RtcMessage(RtcType.ICE, alice.id, json.dumps(ice).encode())
        )
        if number % 5 == 0:
            await alice.settle()
            alice.told.clear()
            alice.messages.clear()
            bob.messages.clear()
            bob.offers.clear()
            bob.told.clear()
        if number == 100:
            in_bounds()
    await bob.settle()
    assert not bob.closes  # whatever became of alice


@pytest.mark.looptime
async def test_messages_of_the_plugin_of_any_kind_and_bytes(
    venue: Any, dice: random.Random, in_bounds: Callable[[], None]
) -> None:
    member, other = await venue.join("alice"), await venue.join("bob")
    seeds = [b"", b"{}", b"null", b"[[[[", b'{"screenStreamID": 5}', b'{"screenStreamID": "s"}']
    seeds += [b'{"candidate": []}', b"\xff\xfe", b'{"videoStreamID": null}', b"[" * 5000]
    seeds += [b'{"sdp": "\\ud800", "type": "\\ud800"}']
    for number in range(ROUNDS):
        kind = dice.choice([k for k in RtcType if k is not RtcType.SDP or number % 10 == 0])
        data = dice.choice(seeds)
        if number >= len(seeds) and dice.random() < 0.5:
            data = mutate(dice, data)
        await venue.server.handle(member.id, RtcMessage(kind, member.id, data))
        if number % 50 == 0:
            await member.settle()
            member.messages.clear()
            other.messages.clear()
        if number == 300:
            in_bounds()
    assert not other.closes


def test_frames_of_the_plugin_of_any_bytes(
    dice: random.Random, in_bounds: Callable[[], None]
) -> None:
    seeds = [
        encode_frame(Join("call", "user", "session")),
        encode_frame(Leave("session")),
        encode_frame(Reconnect("session")),
        encode_frame(Rtc(RtcMessage(RtcType.SDP, "session", b"data"))),
        msgpack.packb("leave") + msgpack.packb({"sessionID": None}),  # trap 2 of rtcd.md
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81" * 2000,
        b"",
    ]
    for number in range(8 * ROUNDS):
        data = dice.choice(seeds)
        try:
            decode(data if number < len(seeds) else mutate(dice, data))
        except MessageError:
            continue
        finally:
            if number == 300:
                in_bounds()

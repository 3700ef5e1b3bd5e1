"""What a client may send that means harm: nothing raises, hangs or grows, and no answer is larger."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from rtc.sctp.association import Association
from rtc.sctp.chunks import ChunkType, chunk
from rtc.sctp.packet import build_packet
from rtc.sctp.timings import RECEIVE_WINDOW_BYTES

KINDS = [*ChunkType, 15, 63, 64, 128, 193, 255]
BEGIN, UNORDERED = 2, 4

EVIL = {
    "a parameter of length zero": chunk(ChunkType.HEARTBEAT, pack("!HH", 1, 0) + bytes(4)),
    "one in an error": chunk(ChunkType.ERROR, pack("!HH", 1, 3)),
    "one in a reset": chunk(ChunkType.RE_CONFIG, bytes(8)),
    "gap blocks of millions": chunk(
        ChunkType.SACK, pack("!IIHH", 1, 1, 250, 0) + pack("!HH", 1, 65535) * 250
    ),
    "more gap blocks than there are": chunk(ChunkType.SACK, pack("!IIHH", 1, 1, 65535, 65535)),
    "a short chunk": chunk(ChunkType.SACK, b"\0\0\0"),
    "a chunk beyond the end": pack("!BBH", 0, 3, 60) + bytes(20),
    "a chunk of size zero": pack("!BBH", 0, 3, 0) + bytes(20),
    "skipping on a stream too high": chunk(ChunkType.FORWARD_TSN, pack("!IHH", 9, 65535, 0)),
    "a reset of half a stream": chunk(
        ChunkType.RE_CONFIG, pack("!HHIIIB", 13, 17, 1, 1, 1, 0) + bytes(3)
    ),
    "a short reset": chunk(ChunkType.RE_CONFIG, pack("!HHI", 13, 8, 1)),
    "an init ack out of turn": chunk(ChunkType.INIT_ACK, pack("!IIHHI", 1, 1, 1, 1, 1)),
    "a cookie of nobody": chunk(ChunkType.COOKIE_ECHO, bytes(64)),
    "a second init behind a chunk": chunk(ChunkType.HEARTBEAT) * 2
    + chunk(ChunkType.INIT, pack("!IIHHI", 1, 1, 1, 1, 1)),
}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_one_evil_packet_leaves_the_association_as_it_was(
    make_link: Callable[..., Any], evil: bytes
) -> None:
    link = make_link(tsns=(5000, 6000)).connect()
    began = time.process_time()
    link.forge(link.a, evil)
    link.a.association.send(0, 53, b"on")
    link.b.association.send(0, 53, b"on")
    link.run()
    assert link.a.messages == link.b.messages == [b"on"]
    assert time.process_time() - began < 10


def hostile_value(dice: random.Random, near: int) -> bytes:
    words = [0, 1, 4, 8, 13, 16, 0xFFFF, dice.randrange(1 << 16)]
    body = b"".join(pack("!HH", *dice.choices(words, k=2)) for _ in range(dice.randrange(12)))
    if dice.random() < 0.7:
        body = pack("!I", (near + dice.randrange(-3, 30)) % (1 << 32)) + body[4:]
    return body + dice.randbytes(dice.randrange(4))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_any_bytes_neither_raise_nor_hang_nor_grow(
    make_link: Callable[..., Any], kind: int
) -> None:
    dice = random.Random(kind)
    for connected in (True, False):
        link = make_link(seed=kind)
        if connected:
            link.connect()
        else:
            link.a.association.connect(link.now_ns)
        link.a.association.send(0, 53, bytes(5000))
        for _ in range(400):
            inbound = link.a.association._inbound
            near = 0 if inbound is None else inbound.cumulative
            pieces = [
                chunk(kind, hostile_value(dice, near), dice.randrange(16))
                for _ in range(dice.choice([1, 1, 1, 3]))
            ]
            tag = 0 if kind == ChunkType.INIT else None
            link.forge(link.a, *pieces, tag=tag)
            link.now_ns += 5_000_000
            link.a.association.tick(link.now_ns)
            if link.a.ended:
                assert kind in (ChunkType.ABORT, ChunkType.SHUTDOWN, ChunkType.DATA)
                break
        if link.a.association._inbound is not None:
            assert link.a.association._inbound.reassembly.buffered <= 2 * RECEIVE_WINDOW_BYTES


def test_packets_of_random_bytes_are_refused() -> None:
    dice = random.Random(5)
    association = Association(local_port=5000, remote_port=5000)
    for _ in range(3000):
        association.receive(dice.randbytes(dice.randrange(60)), 0)
        association.receive(pack("!HH", 5000, 5000) + dice.randbytes(dice.randrange(60)), 0)
    assert association.refused_packets == 6000
    assert association.take_outgoing(0) == []


def test_cut_packets_are_refused_or_read_as_far_as_they_go(link: Any, data: Any) -> None:
    association = link.a.association
    tsn = association._inbound.cumulative + 1
    body = data(tsn, b"first") + data(tsn + 1, b"second", sequence=1)
    for end in range(len(body)):
        packet = build_packet(5000, 5000, association._handshake.tag, body[:end])
        association.receive(packet, link.now_ns)
        link.flush()
    assert link.a.messages in ([b"first"], [b"first", b"second"])
    assert not association.ended


@pytest.mark.parametrize("flags", [0, BEGIN, UNORDERED, 3])
def test_what_can_never_be_put_together_is_held_in_bounds(link: Any, data: Any, flags: int) -> None:
    first = link.a.association._inbound.cumulative + 2  # one is missing before all of these
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        began = time.process_time()
        for number in range(2500):
            tsn = first + number * (2 if flags == 0 else 1)
            packet = data(tsn, flags=flags, sequence=number + 1)
            link.a.association.receive(
                build_packet(5000, 5000, link.a.association._handshake.tag, packet), link.now_ns
            )
            link.a.association.take_outgoing(link.now_ns)
        assert time.process_time() - began < 20
        assert tracemalloc.get_traced_memory()[0] - before < 4 * RECEIVE_WINDOW_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != ChunkType.INIT])
def test_no_packet_has_an_answer_larger_than_itself_by_much(
    make_link: Callable[..., Any], kind: int
) -> None:
    dice = random.Random(kind)
    for _ in range(50):
        link = make_link().connect()
        near = link.a.association._inbound.cumulative
        pieces = [chunk(kind, hostile_value(dice, near)) for _ in range(dice.randrange(1, 40))]
        link.forge(link.a, *pieces)
        answered = sum(len(packet) for _, packet in link.a.sent)
        assert answered <= 12 + sum(map(len, pieces)) + 64


def test_a_hundred_inits_have_a_hundred_answers_of_the_same_size(
    make_link: Callable[..., Any],
) -> None:
    link = make_link()
    init = chunk(ChunkType.INIT, pack("!IIHHI", 7, 1000, 1, 1, 1))
    for _ in range(100):
        link.forge(link.a, init, tag=0)
    assert len(link.a.sent) == 100
    assert {len(packet) for _, packet in link.a.sent} == {len(link.a.sent[0][1])}
    assert len(link.a.sent[0][1]) < 150
    assert link.b.association.established is False


def test_the_dearest_packets_cost_little(link: Any, data: Any) -> None:
    """Against much that is held, and much that is outstanding: the ratio of work to bytes has a limit."""
    association, dice = link.a.association, random.Random(9)
    first = association._inbound.cumulative + 2
    for number in range(3500):
        link.forge(link.a, data(first + number, sequence=number + 1))
    for _ in range(2000):
        association.send(0, 53, b"x")
    link.flush()
    acked = association._handshake.tsn - 1
    gaps = b"".join(pack("!HH", 3 * gap + 2, 3 * gap + 2) for gap in range(3))
    sacks = chunk(ChunkType.SACK, pack("!IIHH", acked % (1 << 32), 9**6, 3, 0) + gaps) * 40
    began = time.process_time()
    for number in range(100):
        pairs = b"".join(pack("!HH", dice.randrange(1, 1024), number) for _ in range(30))
        skip = chunk(ChunkType.FORWARD_TSN, pack("!IHH", (first - 1) % (1 << 32), 0, 0) + pairs)
        link.forge(link.a, sacks, skip, skip)
    assert time.process_time() - began < 10
    assert len(link.a.messages) == 3500


def test_streams_that_were_not_offered_are_not_remembered(link: Any) -> None:
    first = link.a.association._inbound.cumulative + 1
    for number in range(300):
        pairs = b"".join(pack("!HH", 200 * number + offset, 5) for offset in range(200))
        skip = pack("!I", (first + number) % (1 << 32)) + pairs
        link.forge(link.a, chunk(ChunkType.FORWARD_TSN, skip))
    assert len(link.a.association._inbound.reassembly._expected) == 1024


def test_a_reset_for_every_stream_again_and_again_is_answered_in_bounds(link: Any) -> None:
    number = link.b.association._handshake.tsn
    streams = b"".join(pack("!H", stream) for stream in range(500))
    for turn in range(300):
        value = pack("!HHIII", 13, 16 + len(streams), (number + turn) % (1 << 32), 0, 0) + streams
        link.forge(link.a, chunk(ChunkType.RE_CONFIG, value))
        link.a.events.clear()
    assert not link.a.association.ended


def test_acknowledging_by_single_bytes_wins_no_window(link: Any) -> None:
    """A SACK for each byte is no more progress than one for all (RFC 9260 section 7.2.1)."""
    association = link.a.association
    window = association._sender._window
    before = window.size_bytes
    association.send(0, 53, b"x")
    link.flush()
    sack = pack("!IIHH", (association._handshake.tsn) % (1 << 32), 1 << 31, 0, 0)
    for _ in range(1000):
        link.forge(link.a, chunk(ChunkType.SACK, sack))
    assert window.size_bytes == before

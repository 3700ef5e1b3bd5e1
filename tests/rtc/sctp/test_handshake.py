"""How associations begin and end."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from rtc.sctp.chunks import ChunkType, Init, chunk, init_chunk, parse_init
from rtc.sctp.packet import build_packet

S = 1_000_000_000
FAR_FUTURE_NS = 1 << 62
BINARY = 53


def exchange(link: Any) -> None:
    """Data goes both ways."""
    link.a.association.send(0, BINARY, b"to b")
    link.b.association.send(0, BINARY, b"to a")
    link.run()
    assert (link.a.messages, link.b.messages) == ([b"to a"], [b"to b"])


def test_one_side_alone_may_begin(make_link: Callable[..., Any]) -> None:
    link = make_link()
    link.a.association.connect(link.now_ns)
    link.run()
    assert link.a.chunks_sent() == [["INIT"], ["COOKIE_ECHO"]]
    assert link.b.chunks_sent() == [["INIT_ACK"], ["COOKIE_ACK"]]
    exchange(link)


def test_both_may_begin_at_the_same_moment(make_link: Callable[..., Any]) -> None:
    link = make_link().connect()
    exchange(link)


def test_one_may_begin_while_the_other_is_half_way(make_link: Callable[..., Any]) -> None:
    for late_ms in (5, 15, 25, 35, 45):
        link = make_link()
        link.a.association.connect(link.now_ns)
        link.run(for_s=late_ms / 1000)
        link.b.association.connect(link.now_ns)
        link.run()
        exchange(link)


@pytest.mark.parametrize("seed", range(20))
def test_it_comes_up_over_a_bad_link(make_link: Callable[..., Any], seed: int) -> None:
    link = make_link(seed=seed, loss=0.3, doubled=0.2, jitter_ns=30_000_000)
    link.a.association.connect(link.now_ns)
    if seed % 2:
        link.b.association.connect(link.now_ns)
    link.run()
    link.loss = link.doubled = 0
    exchange(link)


@pytest.mark.parametrize("lost", ["INIT", "INIT_ACK", "COOKIE_ECHO", "COOKIE_ACK"])
def test_each_of_the_four_is_sent_again_when_lost(
    make_link: Callable[..., Any], chunks: Any, lost: str
) -> None:
    link = make_link()
    seen: list[bytes] = []

    def lose_first(packet: bytes) -> bool:
        if lost in [name for name, _, _ in chunks(packet)]:
            seen.append(packet)
            return len(seen) == 1
        return False

    link.lose = lose_first
    link.a.association.connect(link.now_ns)
    link.run()
    assert len(seen) == 2
    exchange(link)


def test_it_stops_asking_a_side_that_has_no_data_channels_but_still_answers(
    make_link: Callable[..., Any],
) -> None:
    link = make_link()
    link.lose = lambda packet: True
    link.a.association.connect(link.now_ns)
    link.run()
    assert len(link.a.sent) == 9
    assert link.due_ns == FAR_FUTURE_NS
    link.lose = lambda packet: False
    link.b.association.connect(link.now_ns)
    link.run()
    exchange(link)


def test_it_can_be_asked_to_try_again(make_link: Callable[..., Any]) -> None:
    link = make_link()
    link.lose = lambda packet: True
    link.a.association.connect(link.now_ns)
    link.run()
    link.lose = lambda packet: False
    link.a.association.connect(link.now_ns)
    link.run()
    exchange(link)


def test_what_is_queued_before_goes_when_it_is_up(make_link: Callable[..., Any]) -> None:
    link = make_link()
    link.a.association.send(0, BINARY, b"early")
    link.a.association.connect(link.now_ns)
    link.run()
    assert link.b.messages == [b"early"]


def init_of(window_bytes: int = 1000, tag: int = 7, tsn: int = 1) -> Init:
    return Init(tag, window_bytes, 10, 10, tsn)


def answers(link: Any, chunks: Any) -> list[tuple[str, int, bytes]]:
    """What `a` has sent, chunk by chunk; forgotten then."""
    sent = [entry for _, packet in link.a.sent for entry in chunks(packet)]
    link.a.sent.clear()
    return sent


def cookie_for(link: Any, chunks: Any, init: Init) -> bytes:
    link.forge(link.a, init_chunk(ChunkType.INIT, init), tag=0)
    ((name, _, value),) = answers(link, chunks)
    assert name == "INIT_ACK"
    parsed = parse_init(value)
    assert parsed is not None
    return parsed.cookie


def test_an_init_leaves_nothing_behind_until_its_cookie_comes_back(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    link = make_link()
    for tag in range(1, 200):
        cookie_for(link, chunks, init_of(tag=tag))
    assert link.a.association._handshake.peer is None
    assert link.a.association.due_ns == FAR_FUTURE_NS


def test_a_cookie_with_any_changed_byte_is_no_cookie(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    link = make_link()
    cookie = cookie_for(link, chunks, init_of())
    for index in range(len(cookie)):
        forged = cookie[:index] + bytes([cookie[index] ^ 1]) + cookie[index + 1 :]
        link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, forged))
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, cookie[:-1]))
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, cookie + b"\0\0\0\0"))
    assert not link.a.association.established
    assert answers(link, chunks) == []


def test_a_cookie_of_another_association_is_no_cookie(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    cookie = cookie_for(make_link(), chunks, init_of())
    link = make_link()
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, cookie))
    assert not link.a.association.established


def test_an_old_cookie_is_stale(make_link: Callable[..., Any], chunks: Any) -> None:
    link = make_link()
    cookie = cookie_for(link, chunks, init_of())
    link.now_ns += 61 * S
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, cookie))
    assert not link.a.association.established
    assert [name for name, _, _ in answers(link, chunks)] == ["ERROR"]
    fresh = cookie_for(link, chunks, init_of())
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, fresh))
    assert link.a.association.established


def test_a_stale_cookie_is_reported_and_answered_with_a_new_init(
    make_link: Callable[..., Any],
) -> None:
    link = make_link()
    link.a.association.connect(link.now_ns)
    link.run(for_s=0.025)
    held = link._queue[:]
    assert len(held) == 1  # the COOKIE ECHO, on its way
    link._queue.clear()
    link.b.association.tick(link.now_ns)
    link.now_ns += 61 * S
    link.carry(held[0][3], link.b)
    link.run()
    exchange(link)
    assert ["ERROR"] in link.b.chunks_sent()


def test_a_cookie_played_again_starts_nothing_anew(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    link = make_link()
    link.a.association.connect(link.now_ns)
    link.run()
    (echo,) = [packet for _, packet in link.a.sent if chunks(packet)[0][0] == "COOKIE_ECHO"]
    exchange(link)
    for _ in range(3):
        link.b.association.receive(echo, link.now_ns)
        link.run()
    link.a.events.clear()
    link.b.events.clear()
    exchange(link)


def test_a_cookie_for_another_tag_changes_nothing_once_it_is_up(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    link = make_link()
    one, other = (cookie_for(link, chunks, init_of(tag=tag)) for tag in (7, 8))
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, one))
    assert [name for name, _, _ in answers(link, chunks)] == ["COOKIE_ACK"]
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, other))
    assert answers(link, chunks) == []
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, one))
    assert [name for name, _, _ in answers(link, chunks)] == ["COOKIE_ACK"]


def test_an_init_of_somebody_else_to_an_established_association_is_ignored(
    link: Any, chunks: Any
) -> None:
    link.forge(link.a, init_chunk(ChunkType.INIT, init_of()), tag=0)
    assert answers(link, chunks) == []
    exchange(link)


@pytest.mark.parametrize(
    "value",
    [b"", bytes(16), pack("!IIHHI", 0, 1, 1, 1, 1), pack("!IIHHI", 1, 1, 0, 1, 1)],
)
def test_a_broken_init_has_no_answer(
    make_link: Callable[..., Any], chunks: Any, value: bytes
) -> None:
    link = make_link()
    link.forge(link.a, chunk(ChunkType.INIT, value), tag=0)
    assert answers(link, chunks) == []


def test_unknown_parameters_of_an_init_are_reported_when_they_ask_for_it(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    link = make_link()
    reported, skipped = pack("!HHI", 0xC123, 8, 5), pack("!HHI", 0x8123, 8, 5)
    stopping = pack("!HHI", 0x0123, 8, 5)
    init = init_chunk(ChunkType.INIT, init_of())[4:] + skipped + stopping + reported
    link.forge(link.a, chunk(ChunkType.INIT, init), tag=0)
    link.forge(link.a, chunk(ChunkType.INIT, init.replace(stopping, b"")), tag=0)
    silent, telling = [value for _, _, value in answers(link, chunks)]
    assert reported not in silent
    assert skipped not in telling
    assert reported in telling


def test_zero_checksums_are_sent_once_both_can_and_never_with_init_or_cookie(
    make_link: Callable[..., Any], chunks: Any
) -> None:
    link = make_link()
    link.a.association.connect(link.now_ns)
    link.run()
    exchange(link)
    for _, packet in link.a.sent + link.b.sent:
        names = {name for name, _, _ in chunks(packet)}
        with_checksum = packet[8:12] != bytes(4)
        if names & {"INIT", "INIT_ACK", "COOKIE_ECHO"}:
            assert with_checksum
        if "DATA" in names:
            assert not with_checksum


def test_a_side_that_wants_checksums_gets_them(make_link: Callable[..., Any], chunks: Any) -> None:
    link = make_link()
    plain = init_chunk(ChunkType.INIT, init_of())[4:20]  # no parameters at all
    link.forge(link.a, chunk(ChunkType.INIT, plain), tag=0)
    ((_, _, value),) = answers(link, chunks)
    parsed = parse_init(value)
    assert parsed is not None
    assert parsed.zero_checksum
    link.forge(link.a, chunk(ChunkType.COOKIE_ECHO, parsed.cookie))
    link.a.association.send(0, BINARY, b"x")
    link.flush()
    assert all(packet[8:12] != bytes(4) for _, packet in link.a.sent)


@pytest.mark.parametrize("tag_change", [1, 1 << 31])
def test_a_wrong_tag_is_refused(link: Any, data: Any, tag_change: int) -> None:
    association = link.a.association
    own = association._handshake.tag
    link.forge(link.a, data(association._inbound.cumulative + 1), tag=own ^ tag_change)
    link.forge(link.a, chunk(ChunkType.ABORT), tag=own ^ tag_change)
    link.forge(link.a, chunk(ChunkType.ABORT, flags=1), tag=own)
    assert association.established
    assert link.a.messages == []
    assert association.refused_packets == 3


def test_a_damaged_packet_is_refused(link: Any, data: Any) -> None:
    association = link.a.association
    good = build_packet(
        5000, 5000, association._handshake.tag, data(association._inbound.cumulative + 1)
    )
    for index in range(len(good)):
        damaged = good[:index] + bytes([good[index] ^ 64]) + good[index + 1 :]
        association.receive(damaged, link.now_ns)
    assert association.refused_packets == len(good)
    association.receive(good, link.now_ns)
    link.flush()
    assert link.a.messages == [b"x"]


def test_packets_for_other_ports_are_refused(link: Any, data: Any) -> None:
    association = link.a.association
    for ports in ((5000, 5001), (5001, 5000)):
        packet = build_packet(*ports, association._handshake.tag, data(1))
        association.receive(packet, link.now_ns)
    assert association.refused_packets == 2


def test_an_abort_ends_the_other_side_at_once(link: Any) -> None:
    link.a.association.send(0, BINARY, b"never acknowledged")
    link.flush()
    link.b.association.abort("enough")
    link.run()
    assert link.a.ended == ["aborted by the other side (cause 12)"]
    assert link.b.ended == ["aborted by us"]
    assert link.due_ns == FAR_FUTURE_NS
    assert not link.a.association.send(0, BINARY, b"x")
    link.a.association.connect(link.now_ns)
    link.run()
    assert not link.a.association.established


def test_an_abort_that_reflects_the_tag_ends_it_too(link: Any) -> None:
    link.forge(link.a, chunk(ChunkType.ABORT, flags=1), tag=link.b.association._handshake.tag)
    assert link.a.association.ended


def test_a_shutdown_is_acknowledged_and_ends_it(link: Any) -> None:
    link.forge(link.a, chunk(ChunkType.SHUTDOWN, bytes(4)))
    assert link.a.ended == ["shut down by the other side"]
    assert link.a.chunks_sent() == [["SHUTDOWN_ACK"]]


def test_a_heartbeat_comes_back_as_it_was(link: Any, chunks: Any) -> None:
    info = pack("!HHI", 1, 8, 99)
    link.forge(link.a, chunk(ChunkType.HEARTBEAT, info))
    assert answers(link, chunks) == [("HEARTBEAT_ACK", 0, info)]


@pytest.mark.parametrize(
    ("kind", "reported", "goes_on"),
    [(63, False, False), (127, True, False), (191, False, True), (255, True, True)],
)
def test_what_is_done_with_an_unknown_chunk_is_said_by_its_type(
    link: Any, data: Any, kind: int, reported: bool, goes_on: bool
) -> None:
    following = data(link.a.association._inbound.cumulative + 1)
    link.forge(link.a, chunk(kind, b"what"), following)
    assert (link.a.messages == [b"x"]) == goes_on
    assert (["ERROR"] in [names[:1] for names in link.a.chunks_sent()]) == reported

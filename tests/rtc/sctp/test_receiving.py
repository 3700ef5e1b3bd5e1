"""What the receiving half hands over, holds, and acknowledges."""

from __future__ import annotations

import random
from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from rtc.sctp.chunks import BEGIN, END, UNORDERED, ChunkType, chunk, parse_sack
from rtc.sctp.timings import MAX_MESSAGE_BYTES, RECEIVE_WINDOW_BYTES

MS = 1_000_000
WHOLE = BEGIN | END


@pytest.fixture
def sacks(link: Any, chunks: Any) -> Callable[[], list[Any]]:
    """Those that `a` has sent since the last call, the cumulative TSN counted from the first expected."""
    first = link.b.association._handshake.tsn

    def since() -> list[Any]:
        found = []
        for _, packet in link.a.sent:
            for name, _, value in chunks(packet):
                parsed = parse_sack(value) if name == "SACK" else None
                if parsed is not None:
                    cumulative, window_bytes, gaps = parsed
                    found.append(((cumulative - first) % (1 << 32), window_bytes, gaps))
        link.a.sent.clear()
        return found

    return since


@pytest.fixture
def give(link: Any, data: Any) -> Callable[..., None]:
    """Hand `a` a packet with chunks; TSNs are counted from the first expected."""
    first = link.b.association._handshake.tsn

    def hand_over(*numbers: int, **options: Any) -> None:
        link.forge(link.a, *(data(first + number, **options) for number in numbers))

    return hand_over


def test_one_packet_waits_for_company_and_two_do_not(link: Any, give: Any, sacks: Any) -> None:
    give(0)
    assert sacks() == []
    assert link.a.association.due_ns == link.now_ns + 200 * MS
    link.now_ns += 200 * MS
    link.a.association.tick(link.now_ns)
    link.flush()
    assert [cumulative for cumulative, _, _ in sacks()] == [0]
    give(1, sequence=1)
    assert sacks() == []
    give(2, sequence=2)
    assert [cumulative for cumulative, _, _ in sacks()] == [2]


def test_a_chunk_that_asks_for_it_is_acknowledged_at_once(give: Any, sacks: Any) -> None:
    give(0, flags=WHOLE | 8)
    assert len(sacks()) == 1


def test_gaps_and_their_end_and_duplicates_are_told_at_once(give: Any, sacks: Any) -> None:
    give(2, 3, sequence=1)
    give(6, sequence=1)
    give(6, sequence=1)
    give(0, 1)
    give(4, 5)
    told = [(cumulative, gaps) for cumulative, _, gaps in sacks()]
    before = (1 << 32) - 1
    assert told == [
        (before, [(3, 4)]),
        (before, [(3, 4), (7, 7)]),
        (before, [(3, 4), (7, 7)]),
        (3, [(3, 3)]),
        (6, []),
    ]


def test_duplicates_are_handed_over_once_and_named(link: Any, give: Any, chunks: Any) -> None:
    give(0)
    link.a.sent.clear()
    give(0)
    assert link.a.messages == [b"x"]
    ((_, _, value),) = chunks(link.a.sent[0][1])
    assert value[8:12] == pack("!HH", 0, 1)


def test_fragments_make_a_message_in_any_order(link: Any, data: Any) -> None:
    first = link.b.association._handshake.tsn
    pieces = [bytes([number]) * 3 for number in range(9)]
    for seed in range(30):
        order = list(range(9))
        random.Random(seed).shuffle(order)
        for number in order:
            flags = (BEGIN if number == 0 else 0) | (END if number == 8 else 0)
            flags |= UNORDERED if seed % 2 else 0
            tsn = first + 9 * seed + number
            link.forge(link.a, data(tsn, pieces[number], flags=flags, sequence=seed // 2))
        assert link.a.messages == [b"".join(pieces)] * (seed + 1)
    assert link.a.association._inbound.reassembly.buffered == 0


def test_neighbouring_messages_are_not_mixed(link: Any, data: Any) -> None:
    first = link.b.association._handshake.tsn
    fragments = [(BEGIN, b"a1", 0), (END, b"a2", 0), (BEGIN, b"b1", 1), (END, b"b2", 1)]
    for number in (1, 2, 3, 0):
        flags, payload, sequence = fragments[number]
        link.forge(link.a, data(first + number, payload, flags=flags, sequence=sequence))
    assert link.a.messages == [b"a1a2", b"b1b2"]


@pytest.mark.parametrize(
    ("stream", "flags"), [(1, END), (0, END | UNORDERED)], ids=["stream", "order"]
)
def test_fragments_that_do_not_belong_together_end_the_association(
    link: Any, data: Any, stream: int, flags: int
) -> None:
    first = link.b.association._handshake.tsn
    link.forge(link.a, data(first, flags=BEGIN), data(first + 1, flags=flags, stream=stream))
    assert link.a.ended == ["fragments of one message are of different streams"]
    assert link.a.chunks_sent()[-1] == ["ABORT"]


def test_a_message_over_the_limit_ends_the_association(link: Any, give: Any) -> None:
    give(0, flags=BEGIN, payload=bytes(1000))
    for number in range(1, MAX_MESSAGE_BYTES // 1000 + 1):
        give(number, flags=0, payload=bytes(1000))
    assert link.a.ended == [f"a message is longer than {MAX_MESSAGE_BYTES} bytes"]
    assert link.a.events[-1].failed


def test_the_window_shrinks_by_what_is_held_and_no_more_is_taken(
    link: Any, give: Any, sacks: Any
) -> None:
    number = 1
    while not link.a.association._inbound.refused_chunks:
        give(number, sequence=number, payload=bytes(1000))
        number += 1
    windows = [window_bytes for _, window_bytes, _ in sacks()]
    assert windows == sorted(windows, reverse=True)
    assert windows[0] == RECEIVE_WINDOW_BYTES - 1128
    assert windows[-1] < 1128
    assert number == RECEIVE_WINDOW_BYTES // 1128 + 2
    give(0)  # what closes the gap is always taken
    assert len(link.a.messages) == number - 1
    assert sacks()[-1][1] == RECEIVE_WINDOW_BYTES


def test_a_chunk_too_far_ahead_is_not_taken(link: Any, give: Any) -> None:
    give(9000, sequence=1)
    assert link.a.association._inbound.refused_chunks == 1
    assert link.a.association._inbound.reassembly.buffered == 0


def test_gaps_have_a_limit_in_number(link: Any, give: Any, sacks: Any) -> None:
    for number in range(1, 1000, 2):
        give(number, sequence=number)
    assert len(sacks()[-1][2]) == 200
    assert link.a.association._inbound.refused_chunks == 300


def test_messages_that_can_never_have_their_turn_end_the_association_in_bounds(
    link: Any, give: Any
) -> None:
    number = 0
    while not link.a.ended:
        give(number, sequence=number + 1, payload=bytes(1000))
        number += 1
    assert link.a.ended == ["more data is held back than the window allows"]
    assert number <= 2 * RECEIVE_WINDOW_BYTES // 1128 + 3


def test_data_without_a_byte_ends_the_association(link: Any) -> None:
    link.forge(link.a, chunk(ChunkType.DATA, bytes(12), 3))
    assert link.a.ended == ["a DATA chunk without data"]


def test_a_stream_that_was_not_offered_is_acknowledged_and_dropped(
    link: Any, give: Any, sacks: Any
) -> None:
    give(0, 1, stream=1024)
    give(2)
    assert link.a.messages == [b"x"]
    assert sacks()[-1][0] == 2


# FORWARD-TSN


def forward(link: Any, number: int, *streams: tuple[int, int]) -> None:
    first = link.b.association._handshake.tsn
    pairs = b"".join(pack("!HH", *pair) for pair in streams)
    link.forge(
        link.a, chunk(ChunkType.FORWARD_TSN, pack("!I", (first + number) % (1 << 32)) + pairs)
    )


def test_what_the_other_side_gives_up_is_not_waited_for(link: Any, give: Any, sacks: Any) -> None:
    give(2, sequence=2, payload=b"two")
    give(3, sequence=3, payload=b"three")
    assert link.a.messages == []
    forward(link, 1, (0, 1))
    assert link.a.messages == [b"two", b"three"]
    assert sacks()[-1] == ((3), RECEIVE_WINDOW_BYTES, [])


def test_messages_that_waited_among_the_skipped_ones_come_in_order(link: Any, give: Any) -> None:
    give(3, sequence=3, payload=b"three")
    give(1, sequence=1, payload=b"one")
    give(5, sequence=5, payload=b"five")
    forward(link, 4, (0, 4))
    assert link.a.messages == [b"one", b"three", b"five"]


def test_fragments_of_a_message_given_up_are_forgotten(link: Any, give: Any) -> None:
    give(0, flags=BEGIN)
    give(2, flags=0)
    give(4, flags=BEGIN, sequence=1, payload=b"whole ")
    forward(link, 3, (0, 0))
    give(5, flags=END, sequence=1, payload=b"message")
    assert link.a.messages == [b"whole message"]
    assert link.a.association._inbound.reassembly.buffered == 0


def test_an_old_forward_tsn_changes_nothing_but_is_answered(
    link: Any, give: Any, sacks: Any
) -> None:
    give(0, 1)
    sacks()
    forward(link, 0, (0, 40))
    give(2, sequence=1, payload=b"next")
    assert link.a.messages == [b"x", b"next"]
    assert [cumulative for cumulative, _, _ in sacks()] == [1]


def test_a_jump_of_two_thousand_million_costs_nothing(link: Any, give: Any) -> None:
    forward(link, (1 << 31) - 2, *((stream, 32_000) for stream in range(280)))
    give((1 << 31) - 1, sequence=32_001)
    assert link.a.messages == [b"x"]

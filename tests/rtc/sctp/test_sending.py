"""Windows, timers and SACKs of the sending half."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack_from
from typing import Any

import pytest

from rtc.sctp.chunks import ChunkType, chunk
from rtc.sctp.congestion import CongestionWindow
from rtc.sctp.rto import RetransmissionTimeout
from rtc.sctp.sender import Sender

MS = 1_000_000
NOW = 10**12
BINARY = 53
FAR_FUTURE_NS = 1 << 62
FIRST = 1000


@pytest.fixture
def sender() -> Sender:
    """Connected to somebody with a window of 100 kB; its first TSN is 1000."""
    sender = Sender(FIRST, RetransmissionTimeout())
    sender.peer_window(100_000)
    return sender


def tsns(chunks: list[bytes]) -> list[int]:
    return [unpack_from("!I", chunk, 4)[0] for chunk in chunks]


def fill(sender: Sender, count: int, size: int = 1000, now_ns: int = NOW) -> list[int]:
    for _ in range(count):
        assert sender.queue(0, BINARY, bytes(size))
    return tsns(sender.transmit(now_ns))


def test_the_first_flight_is_ten_packets(sender: Sender) -> None:
    assert sender.queue(0, BINARY, bytes(60_000))
    assert len(sender.transmit(NOW)) == 11
    assert sender.transmit(NOW) == []


def test_no_more_is_sent_than_the_other_side_can_take(sender: Sender) -> None:
    sender.peer_window(2500)
    assert fill(sender, 5) == [1000, 1001]
    sender.sacked(1001, 1000, [], NOW)
    assert tsns(sender.transmit(NOW)) == [1002]


def test_a_closed_window_is_probed_with_one_chunk_until_it_opens(sender: Sender) -> None:
    fill(sender, 3)
    sender.sacked(1002, 0, [], NOW)
    assert fill(sender, 3) == [1003]
    now_ns, sent = NOW, 0
    for _ in range(5):
        now_ns = sender.t3_ns
        sender.expire(now_ns)
        sent += len(sender.transmit(now_ns))
    assert sent == 5
    assert now_ns > NOW + 5000 * MS
    sender.sacked(1003, 50_000, [], now_ns)
    assert tsns(sender.transmit(now_ns)) == [1004, 1005]


def test_three_reports_of_later_chunks_mean_a_loss(sender: Sender) -> None:
    fill(sender, 6)
    for reported in (1, 2):
        sender.sacked(999, 90_000, [(2, 1 + reported)], NOW)
        assert sender.transmit(NOW) == []
    sender.sacked(999, 90_000, [(2, 4)], NOW)
    assert tsns(sender.transmit(NOW)) == [1000]
    sender.sacked(999, 90_000, [(2, 5)], NOW)
    assert sender.transmit(NOW) == []  # once; then its timer


def test_the_same_report_again_is_no_evidence(sender: Sender) -> None:
    fill(sender, 6)
    for _ in range(10):
        sender.sacked(999, 90_000, [(2, 2)], NOW)
    assert sender.transmit(NOW) == []


def test_all_that_is_outstanding_is_sent_again_when_the_timer_ends_but_not_at_once(
    sender: Sender,
) -> None:
    fill(sender, 6)
    sender.sacked(999, 90_000, [(3, 3)], NOW)
    due_ns = sender.t3_ns
    sender.expire(due_ns - 1)
    assert sender.transmit(due_ns - 1) == []
    sender.expire(due_ns)
    assert tsns(sender.transmit(due_ns)) == [1000]
    sender.sacked(1000, 90_000, [(2, 2)], due_ns)
    assert tsns(sender.transmit(due_ns)) == [1001, 1003]


def test_a_chunk_that_the_other_side_takes_back_is_sent_again(sender: Sender) -> None:
    fill(sender, 3)
    sender.sacked(999, 90_000, [(2, 3)], NOW)
    sender.sacked(999, 90_000, [], NOW)
    sender.sacked(1000, 90_000, [], NOW)
    due_ns = sender.t3_ns
    sender.expire(due_ns)
    assert tsns(sender.transmit(due_ns)) == [1001]
    sender.sacked(1001, 90_000, [], due_ns)
    assert tsns(sender.transmit(due_ns)) == [1002]
    sender.sacked(1002, 90_000, [], due_ns)
    assert sender.idle
    assert sender.t3_ns == FAR_FUTURE_NS
    assert sender.buffered_bytes == 0


@pytest.mark.parametrize(
    ("cumulative", "gaps"),
    [(998, []), (500, []), (1003, []), (999 + (1 << 31), []), (999, [(2, 60_000)])],
)
def test_a_sack_that_is_old_or_of_what_was_never_sent_changes_nothing(
    sender: Sender, cumulative: int, gaps: list[tuple[int, int]]
) -> None:
    fill(sender, 3)
    sender.sacked(1000, 90_000, [], NOW)
    sender.sacked(cumulative, 0, gaps, NOW)
    assert sender.last_tsn == 1002
    assert fill(sender, 1) == [1003]
    sender.sacked(1003, 90_000, [], NOW)
    assert sender.idle


def test_outstanding_chunks_have_a_limit_in_number(sender: Sender) -> None:
    sender.peer_window(1 << 30)
    sender._window.size_bytes = 1 << 30
    assert len(fill(sender, 3000, size=1)) == 512


def test_the_timer_follows_the_round_trip_within_its_limits() -> None:
    rto = RetransmissionTimeout()
    assert rto.ns == 1000 * MS
    for _ in range(20):
        rto.measured(10 * MS)
    assert rto.ns == 400 * MS
    rto.back_off()
    rto.back_off()
    assert rto.ns == 1600 * MS
    rto.progressed()
    assert rto.ns == 400 * MS
    for _ in range(40):
        rto.measured(900 * MS)
    assert 900 * MS < rto.ns < 1200 * MS
    for _ in range(10):
        rto.back_off()
    assert rto.ns == 4000 * MS


def test_what_was_sent_twice_measures_nothing(sender: Sender) -> None:
    fill(sender, 1)
    due_ns = sender.t3_ns
    sender.expire(due_ns)
    sender.transmit(due_ns)
    sender.sacked(1000, 90_000, [], due_ns + 1)
    assert fill(sender, 1, now_ns=due_ns) == [1001]
    assert sender.t3_ns - due_ns == 1000 * MS


def test_the_window_doubles_then_grows_by_a_packet_and_is_halved_once_per_loss() -> None:
    window = CongestionWindow()
    start = window.size_bytes
    window.acknowledged(1, 1160, start)
    assert window.size_bytes == start + 1160
    window.acknowledged(2, 100_000, window.size_bytes)
    assert window.size_bytes == start + 2320
    window.acknowledged(3, 1160, 100)  # it was not full
    assert window.size_bytes == start + 2320
    window.lost(10)
    halved = window.size_bytes
    assert halved == (start + 2320) // 2
    window.lost(11)
    window.acknowledged(9, 1160, halved)
    assert window.size_bytes == halved
    assert window.recovering
    window.acknowledged(10, 1160, halved)
    assert not window.recovering
    before = window.size_bytes
    window.acknowledged(12, before, before)
    grown = window.size_bytes
    assert grown == before + 1160
    window.acknowledged(13, grown // 2, grown)
    assert window.size_bytes == grown
    window.acknowledged(14, grown // 2 + 1160, grown)
    assert window.size_bytes == grown + 1160
    window.expired()
    assert window.size_bytes == 1160


def test_a_window_that_was_not_used_for_long_is_small_again() -> None:
    window = CongestionWindow()
    window.size_bytes = 400_000
    window.idled(1)
    assert window.size_bytes == 200_000
    window.idled(1 << 40)
    assert window.size_bytes == 11_600


def test_an_exhausted_window_opens_when_the_gap_before_it_closes(link: Any) -> None:
    link.lose = lambda packet: b"first" in packet
    link.a.association.send(0, BINARY, b"first")
    link.flush()
    for number in range(7):  # nothing of it can be handed over before the first
        assert link.a.association.send(0, BINARY, bytes([number]) * 100_000)
    link.run(for_s=20)
    assert link.b.messages == []
    assert link.b.association._inbound.reassembly.buffered <= 512 * 1024
    link.lose = lambda packet: False
    link.run()
    assert link.b.messages == [b"first", *(bytes([number]) * 100_000 for number in range(7))]


def test_sacks_before_the_association_is_up_are_ignored(make_link: Callable[..., Any]) -> None:
    link = make_link()
    link.a.association.send(0, BINARY, b"x")
    link.forge(link.a, chunk(ChunkType.SACK, pack("!IIHH", 1, 1, 0, 0)))
    assert link.a.association.buffered_bytes > 0

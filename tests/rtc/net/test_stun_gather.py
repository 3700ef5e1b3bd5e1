"""Server-reflexive candidates."""

from __future__ import annotations

from rtc import stun
from rtc.net.stun_gather import StunGatherer

S = 1_000_000_000
LOCAL = ("192.168.1.5", 40_000)
SERVER = ("192.0.2.1", 3478)
MAPPED = ("203.0.113.9", 41_000)


def _answer(request: bytes, mapped: tuple[str, int] = MAPPED) -> bytes:
    return stun.binding_success(request[8:20], mapped=mapped, key=None)


def test_an_answer_is_a_candidate_of_the_socket_that_asked() -> None:
    gatherer = StunGatherer()
    gatherer.ask(LOCAL, SERVER, 0)
    [(local, server, request)] = gatherer.take_outgoing()
    assert (local, server) == (LOCAL, SERVER)
    answer = _answer(request)
    assert gatherer.expects(answer)
    candidate = gatherer.receive(answer, LOCAL, SERVER)
    assert candidate is not None
    assert candidate.address == MAPPED
    assert (candidate.type, candidate.related) == ("srflx", LOCAL)
    assert not gatherer.expects(answer)


def test_an_answer_of_somebody_else_or_at_another_socket_is_not_believed() -> None:
    gatherer = StunGatherer()
    gatherer.ask(LOCAL, SERVER, 0)
    [(_, _, request)] = gatherer.take_outgoing()
    answer = _answer(request)
    assert gatherer.receive(answer, LOCAL, ("192.0.2.66", 3478)) is None
    assert gatherer.receive(answer, ("192.168.1.5", 1), SERVER) is None
    assert gatherer.receive(answer, LOCAL, SERVER) is not None


def test_an_address_that_is_our_own_or_known_is_no_news() -> None:
    gatherer = StunGatherer()
    for mapped, is_news in ((LOCAL, False), (MAPPED, True), (MAPPED, False)):
        gatherer.ask(LOCAL, SERVER, 0)
        [(_, _, request)] = gatherer.take_outgoing()
        candidate = gatherer.receive(_answer(request, mapped), LOCAL, SERVER)
        assert (candidate is not None) == is_news


def test_a_question_is_repeated_three_times_and_given_up() -> None:
    gatherer = StunGatherer()
    gatherer.ask(LOCAL, SERVER, 0)
    sent_s = []
    now_ns = 0
    while gatherer.due_ns < 100 * S:
        sent_s += [now_ns / S for _ in gatherer.take_outgoing()]
        now_ns = gatherer.due_ns
        gatherer.tick(now_ns)
    assert sent_s == [0, 0.5, 1.5, 3.5]
    assert now_ns == 7.5 * S
    assert gatherer.unanswered == [SERVER]


def test_a_check_of_the_other_side_is_none_of_its_business() -> None:
    gatherer = StunGatherer()
    gatherer.ask(LOCAL, SERVER, 0)
    assert not gatherer.expects(stun.server_request(stun.new_transaction_id()))

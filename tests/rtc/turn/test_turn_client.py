"""What the TURN client does, against a server that obeys the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.turn import messages
from rtc.turn.client import Allocated, Ended, PeerRefused, TurnClient
from rtc.turn.messages import Attribute, Kind, Method

PEER = ("192.0.2.1", 8443)
OTHER = ("192.0.2.2", 8443)
RELAYED = ("198.51.100.7", 50_000)
MAPPED = ("203.0.113.9", 40_000)


def test_credentials_go_out_only_after_the_server_asked_for_them(exchange) -> None:
    exchange.start()
    first, second = exchange.server.requests
    assert Attribute.USERNAME not in first.attributes
    assert second.attributes[Attribute.USERNAME] == b"user"
    assert exchange.events == [Allocated(RELAYED, MAPPED)]
    assert exchange.client.relayed == RELAYED


def test_a_server_that_asks_for_no_credentials_gets_none(exchange) -> None:
    exchange.server.open_to_all = True
    exchange.start()
    assert exchange.events == [Allocated(RELAYED, MAPPED)]
    assert len(exchange.server.requests) == 1


def test_wrong_credentials_end_it_after_one_try(exchange) -> None:
    exchange.server.password = "another"
    exchange.start()
    assert exchange.events == [
        Ended("refused with 401 (Unauthorized: credentials wrong or expired)")
    ]
    assert len(exchange.server.requests) == 2


def test_a_success_that_the_password_did_not_sign_is_not_believed(exchange) -> None:
    exchange.client.start(exchange.now_ns)
    (challenged,) = exchange.client.take_outgoing()
    challenge = exchange.server.answer(challenged)
    exchange.client.receive(challenge, exchange.now_ns)
    (request,) = exchange.client.take_outgoing()
    asked = messages.parse(request)
    forged = messages.build(
        Method.ALLOCATE,
        Kind.SUCCESS,
        asked.transaction_id,
        messages.encode_address(Attribute.XOR_RELAYED_ADDRESS, OTHER, asked.transaction_id),
    )
    exchange.client.receive(forged, exchange.now_ns)
    assert exchange.client.take_events() == []
    exchange.client.receive(exchange.server.answer(request), exchange.now_ns)
    assert exchange.client.take_events() == [Allocated(RELAYED, MAPPED)]


def test_over_udp_a_request_is_repeated_and_given_up_after_8_s(exchange) -> None:
    exchange.server.silent = True
    exchange.start()
    exchange.advance(7.9)
    # At 0, 0.5, 1.5, 3.5, 5.5 and 7.5 s.
    assert len(exchange.server.requests) == 6
    assert len({request.transaction_id for request in exchange.server.requests}) == 1
    assert exchange.events == []
    exchange.advance(0.2)
    assert exchange.events == [Ended("no answer within 8 s")]


def test_over_a_stream_a_request_is_sent_once(make_exchange) -> None:
    exchange = make_exchange(reliable=True)
    exchange.server.silent = True
    exchange.start()
    exchange.advance(7.9)
    assert len(exchange.server.requests) == 1
    exchange.advance(0.2)
    assert exchange.events == [Ended("no answer within 8 s")]


def test_the_allocation_is_refreshed_a_minute_before_it_ends(exchange) -> None:
    exchange.start()
    exchange.advance(539)
    assert Method.REFRESH not in exchange.server.methods()
    exchange.advance(2)
    assert exchange.server.methods().count(Method.REFRESH) == 1
    exchange.advance(540)
    assert exchange.server.methods().count(Method.REFRESH) == 2
    assert len(exchange.events) == 1


def test_a_short_lifetime_is_refreshed_at_half_of_it(exchange) -> None:
    exchange.server.lifetime_s = 60
    exchange.start()
    exchange.advance(31)
    assert exchange.server.methods().count(Method.REFRESH) == 1


def test_a_new_nonce_is_taken_and_the_request_comes_again(exchange) -> None:
    exchange.start()
    exchange.server.nonce = b"nonce-2"
    exchange.advance(541)
    assert exchange.server.methods()[-2:] == [Method.REFRESH, Method.REFRESH]
    assert exchange.server.requests[-1].attributes[Attribute.NONCE] == b"nonce-2"
    assert len(exchange.events) == 1


def test_a_server_that_never_likes_its_own_nonces_is_left(exchange) -> None:
    exchange.start()
    exchange.server.refuses[Method.REFRESH] = 438
    exchange.advance(541)
    assert exchange.server.methods().count(Method.REFRESH) == 4
    assert exchange.events[-1] == Ended("refused with 438 (because)")


def test_an_allocation_that_the_server_forgot_ends(exchange) -> None:
    exchange.start()
    exchange.server.refuses[Method.REFRESH] = 437
    exchange.advance(541)
    assert exchange.events[-1] == Ended("refused with 437 (Allocation Mismatch)")
    assert exchange.client.ended


def test_a_server_that_falls_silent_ends_it(exchange) -> None:
    exchange.start()
    exchange.server.silent = True
    exchange.advance(540 + 21)
    assert exchange.events[-1] == Ended("no answer within 20 s")


def test_what_is_sent_first_waits_for_the_channel_and_keeps_its_order(exchange) -> None:
    exchange.start()
    for data in (b"one", b"two"):
        exchange.send(data, PEER)
    exchange.settle()
    exchange.send(b"three", PEER)
    exchange.settle()
    assert exchange.server.channel_data == [(0x4000, b"one"), (0x4000, b"two"), (0x4000, b"three")]
    assert exchange.server.methods().count(Method.CHANNEL_BIND) == 1


def test_of_what_waits_for_a_channel_the_oldest_goes(exchange) -> None:
    exchange.start()
    for number in range(20):
        exchange.send(bytes([number]), PEER)
    exchange.settle()
    assert [data for _, data in exchange.server.channel_data] == [bytes([n]) for n in range(12, 20)]


def test_every_peer_has_a_channel_of_its_own(exchange) -> None:
    exchange.start()
    exchange.send(b"a", PEER)
    exchange.send(b"b", OTHER)
    exchange.settle()
    assert exchange.server.channel_data == [(0x4000, b"a"), (0x4001, b"b")]
    assert exchange.client.receive(
        messages.channel_data(0x4001, b"reply", padded=False), exchange.now_ns
    ) == (OTHER, b"reply")


@pytest.mark.parametrize(("reliable", "length"), [(True, 12), (False, 9)])
def test_channel_data_is_padded_on_streams_only(make_exchange, reliable: bool, length: int) -> None:
    exchange = make_exchange(reliable=reliable)
    exchange.start()
    exchange.send(b"12345", PEER)
    exchange.settle()
    assert len(exchange.server.raw[-1]) == length


def test_data_that_comes_before_the_channel_is_known_is_taken(exchange) -> None:
    exchange.start()
    exchange.send(b"check", PEER)
    transaction_id = messages.new_transaction_id()
    attributes = messages.encode_address(Attribute.XOR_PEER_ADDRESS, PEER, transaction_id)
    attributes += messages.encode(Attribute.DATA, b"early")
    indication = messages.build(Method.DATA, Kind.INDICATION, transaction_id, attributes)
    assert exchange.client.receive(indication, exchange.now_ns) == (PEER, b"early")


def test_what_comes_on_a_channel_that_nobody_bound_is_dropped(exchange) -> None:
    exchange.start()
    data = messages.channel_data(0x4321, b"?", padded=False)
    assert exchange.client.receive(data, exchange.now_ns) is None


def test_a_channel_in_use_is_refreshed_before_its_permission_ends(exchange) -> None:
    exchange.start()
    for _ in range(10):
        exchange.send(b"media", PEER)
        exchange.settle()
        exchange.advance(30)
    assert exchange.server.methods().count(Method.CHANNEL_BIND) == 2
    numbers = {
        r.attributes[Attribute.CHANNEL_NUMBER]
        for r in exchange.server.requests
        if r.method == Method.CHANNEL_BIND
    }
    assert len(numbers) == 1


def test_an_unused_channel_lapses_and_is_bound_again_when_it_is_wanted(exchange) -> None:
    exchange.start()
    exchange.send(b"check", PEER)
    exchange.settle()
    exchange.advance(400)
    assert exchange.server.methods().count(Method.CHANNEL_BIND) == 1
    exchange.send(b"again", PEER)
    exchange.settle()
    assert exchange.server.methods().count(Method.CHANNEL_BIND) == 2
    assert exchange.server.channel_data[-1] == (0x4000, b"again")


def test_a_peer_that_the_server_refuses_does_not_end_the_others(exchange) -> None:
    exchange.server.forbidden.add(PEER)
    exchange.start()
    exchange.send(b"a", PEER)
    exchange.send(b"b", OTHER)
    exchange.settle()
    assert exchange.events[-1] == PeerRefused(PEER, "refused with 403 (Forbidden)")
    assert exchange.server.channel_data == [(0x4001, b"b")]
    exchange.send(b"c", PEER)
    exchange.settle()
    assert exchange.server.methods().count(Method.CHANNEL_BIND) == 2
    assert exchange.client.dropped == 1


def test_peers_are_limited(exchange) -> None:
    exchange.start()
    for number in range(200):
        exchange.send(b"x", ("192.0.2.3", 1000 + number))
    exchange.settle()
    assert exchange.server.methods().count(Method.CHANNEL_BIND) == 128
    assert exchange.client.dropped == 72


def test_release_gives_the_allocation_back_at_once(exchange) -> None:
    exchange.start()
    exchange.client.release(exchange.now_ns)
    exchange.settle()
    refresh = exchange.server.requests[-1]
    assert refresh.method == Method.REFRESH
    assert refresh.lifetime_s == 0
    assert exchange.client.due_ns > exchange.now_ns + 10**15
    exchange.send(b"late", PEER)
    assert exchange.client.take_outgoing() == []


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_whatever_the_server_sends_raises_nothing(junk: list[bytes]) -> None:
    client = TurnClient(username="user", password="secret", reliable=False)
    client.start(0)
    (request,) = client.take_outgoing()
    for data in junk:
        client.receive(data, 1)
        client.receive(request[:8] + data, 1)
        client.receive(b"\x01\x13" + len(data).to_bytes(2, "big") + request[4:20] + data, 1)

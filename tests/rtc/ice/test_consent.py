"""Consent to send: how often it is asked for, and what silence leads to (RFC 7675)."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from rtc import stun
from rtc.ice import Disconnected, Failed, IceTimings, Path, Recovered, Selected


def blackout(transport: str, source: tuple[str, int], to: tuple[str, int]) -> bool:
    return True


def clear(transport: str, source: tuple[str, int], to: tuple[str, int]) -> bool:
    return False


@pytest.fixture
def ends(network: Any) -> tuple[Any, Any]:
    client, server = network.pair()
    network.introduce(client, server)
    network.run_until(lambda: client.agent.selected and server.agent.selected)
    network.run(1)
    return client, server


def requests(host: Any) -> list[float]:
    return [
        at
        for at, _, datagram in host.sent
        if stun.parse_message(datagram).kind == stun.BINDING_REQUEST
    ]


def test_an_idle_agent_sends_one_request_in_four_to_six_seconds_and_never_evenly(
    network: Any, ends: tuple[Any, Any]
) -> None:
    before = len(requests(ends[0]))
    network.run(500)
    times = requests(ends[0])[before:]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    round_trip = 2 * network.latency_s
    assert all(4.0 <= gap <= 6.0 + round_trip for gap in gaps)
    assert max(gaps) - min(gaps) > 0.5
    assert 4.8 < sum(gaps) / len(gaps) < 5.3
    assert len({at % 1 for at in times}) > 50


def test_nothing_is_due_between_two_requests_for_consent(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, _ = ends
    network.run_until(lambda: len(requests(client)) > 4)
    network.run(0.5)
    assert client.agent.due_ns - network.now_ns > 3.4e9


def test_silence_is_reported_within_nine_seconds_and_ends_after_thirty(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    network.run_until(lambda: len(requests(server)) > 3)
    network.blocks = blackout
    cut = network.now_s
    network.run(40)
    for host in ends:
        assert host.kinds() == ["Selected", "Disconnected", "Failed"]
        (disconnected,), (failed,) = host.when(Disconnected), host.when(Failed)
        assert 5.0 - 6.0 <= disconnected - cut <= 8.6
        assert 23.9 <= failed - cut <= 30.1
        assert host.agent.selected is None
    assert "no consent to send for 30 s" in client.of(Failed)[0].reason
    assert "10.0.0.1:1000 -> 10.0.0.2:2000" in client.of(Failed)[0].reason


def test_after_consent_expired_nothing_is_sent_or_answered(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, _server = ends
    network.blocks = blackout
    network.run_until(lambda: client.agent.failed)
    sent = len(client.sent)
    network.blocks = clear
    network.run(20)
    assert len(client.sent) == sent


def test_a_request_that_comes_when_consent_has_just_expired_is_not_answered(
    network: Any, ends: tuple[Any, Any]
) -> None:
    _, server = ends
    late_ns = network.now_ns + 31_000_000_000  # the owner's ticker is late as well
    ours = server.agent.credentials
    request = stun.binding_request(
        stun.new_transaction_id(),
        username=f"{ours.ufrag}:x".encode(),
        key=ours.password.encode(),
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
    )
    server.agent.receive(request, Path("udp", ("10.0.0.2", 2000), ("10.0.0.1", 1000)), late_ns)
    assert server.agent.failed
    assert server.agent.take_outgoing() == ()


def test_answers_that_come_again_are_reported(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = blackout
    network.run_until(lambda: client.kinds()[-1] == server.kinds()[-1] == "Disconnected")
    network.run(10)
    network.blocks = clear
    network.run(3)
    for host in ends:
        assert host.kinds() == ["Selected", "Disconnected", "Recovered"]
    network.run(60)
    assert not client.agent.failed


def test_a_short_outage_is_not_worth_a_word(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    for _ in range(10):
        network.blocks = blackout
        network.run(1.9)
        network.blocks = clear
        network.run(7)
    assert client.kinds() == server.kinds() == ["Selected"]


def test_requests_of_the_other_side_are_no_consent(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    client_address = ("10.0.0.1", 1000)
    network.blocks = lambda transport, source, to: to == client_address
    network.run(36)
    assert client.agent.failed  # it hears nothing
    assert server.agent.failed  # it hears requests, but no answers to its own


def test_loss_of_thirty_percent_does_not_end_a_call(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    dice = random.Random(7)
    network.loses = lambda: dice.random() < 0.3
    network.run(600)
    assert not client.agent.failed
    assert not server.agent.failed
    assert client.agent.selected is not None


def test_a_forged_answer_is_no_consent(network: Any, ends: tuple[Any, Any]) -> None:
    client, _ = ends
    network.blocks = blackout
    sent = len(client.sent)
    network.run_until(lambda: len(client.sent) > sent)
    _, path, datagram = client.sent[-1]
    identity = stun.parse_message(datagram).transaction_id
    for key in (b"guessed", None):
        forged = stun.binding_success(identity, mapped=path.local, key=key)
        network.inject(client, path, forged)
    assert client.agent.ignored_messages == 2
    network.run_until(lambda: client.agent.failed, seconds=36)


def test_an_answer_counts_once(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    before = len(requests(client))
    network.run_until(lambda: len(requests(client)) > before)
    _, path, datagram = client.sent[-1]
    key = server.agent.credentials.password.encode()
    network.run(1)  # it has been answered
    answer = stun.binding_success(datagram[8:20], mapped=path.local, key=key)
    network.inject(client, path, answer)
    assert client.agent.ignored_messages == 1


def test_the_owner_can_have_a_doubtful_path_asked_at_once(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, _ = ends
    network.run_until(lambda: len(requests(client)) > 3)
    network.run(0.1)
    network.blocks = blackout
    asked = len(requests(client))
    client.agent.probe(network.now_ns)
    network.flush()
    assert len(requests(client)) == asked + 1
    client.agent.probe(network.now_ns)  # has asked already
    network.flush()
    assert len(requests(client)) == asked + 1


def test_a_failed_agent_can_be_restarted(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = blackout
    network.run_until(lambda: client.agent.failed and server.agent.failed)
    network.blocks = clear
    generate = type(client.agent.credentials).generate
    for host in ends:
        host.agent.restart(generate(), network.now_ns)
    network.introduce(client, server)
    network.run(2)
    for host in ends:
        assert host.kinds() == ["Selected", "Disconnected", "Failed", "Selected"]


def test_the_round_trip_is_that_of_the_last_answer(network: Any, ends: tuple[Any, Any]) -> None:
    client, _ = ends
    network.latency_s = 0.05
    network.run(7)
    assert client.agent.rtt_s == pytest.approx(0.1)


def test_recovery_is_told_after_the_new_path(network: Any) -> None:
    client = network.host("client", controlling=True).udp("10.0.0.1", 1000)
    client.udp("10.0.1.1", 1000, preference=5)
    server = network.host("server", controlling=False).udp("10.0.0.2", 2000)
    network.introduce(client, server)
    network.run(3)
    network.blocks = lambda transport, source, to: ("10.0.0.1", 1000) in (source, to)
    network.run(15)
    for host in (client, server):
        assert host.agent.selected is not None
        assert not host.agent.failed
    assert client.agent.selected.local == ("10.0.1.1", 1000)
    assert server.agent.selected.remote == ("10.0.1.1", 1000)
    kinds = [k for k in client.kinds() if k != "Disconnected"]
    assert kinds in (["Selected", "Selected"], ["Selected", "Selected", "Recovered"])
    assert client.when(Selected)[-1] - 3 < 9.5
    assert len(client.of(Recovered)) == len(client.of(Disconnected))


def test_timings_are_those_of_the_rfcs_where_they_name_one() -> None:
    timings = IceTimings()
    assert timings.pace_ns == 50_000_000
    assert timings.rto_ns == 500_000_000
    assert timings.expiry_ns == 30_000_000_000

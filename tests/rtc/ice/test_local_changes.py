"""Candidates of ours that come late or go, and what a dead path means for the next restart."""

from __future__ import annotations

from typing import Any

import pytest

from rtc.ice import ConnectTcp, Disconnected, IceCredentials, PairState, Recovered, Selected
from rtc.ice.candidate import Candidate, candidate_priority

RELAY = ("198.51.100.7", 50_000)
_MS = 1_000_000


def _relay() -> Candidate:
    return Candidate("9", 1, "udp", candidate_priority("relay"), *RELAY, type="relay")


@pytest.fixture
def ends(network: Any) -> tuple[Any, Any]:
    client, server = network.pair()
    network.introduce(client, server)
    network.run_until(lambda: client.agent.selected and server.agent.selected)
    return client, server


def test_a_relay_that_goes_takes_its_pairs_along_and_says_why(network: Any) -> None:
    client, server = network.pair()
    client.agent.add_local(_relay(), RELAY)
    network.introduce(client, server)
    assert [p.path.local for p in client.agent.pairs()].count(RELAY) == 1
    client.agent.remove_local(RELAY, network.now_ns, "TURN: gone")
    [report] = [p for p in client.agent.pairs() if p.path.local == RELAY]
    assert (report.state, report.reason) == (PairState.FAILED, "TURN: gone")
    assert RELAY not in [c.address for c in client.agent.local_candidates]
    client.agent.add_remote_candidate("1 1 udp 1 10.0.0.9 9 typ host", network.now_ns)
    assert [p.path.local for p in client.agent.pairs()].count(RELAY) == 1


def test_the_loss_of_the_selected_socket_is_noticed_at_once(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, _ = ends
    assert not client.agent.doubtful(network.now_ns)
    base = client.agent.selected.local
    client.agent.remove_local(base, network.now_ns, "gone")
    network.flush()
    assert client.agent.selected is None
    assert client.agent.doubtful(network.now_ns)
    assert client.of(Disconnected)
    assert client.of(Recovered) == []


def test_a_path_is_in_doubt_a_second_after_a_probe_without_answer(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, _ = ends
    client.agent.probe(network.now_ns)
    client.agent.take_outgoing()  # lost
    asked_ns = network.now_ns
    for after_ms, doubtful in ((500, False), (999, False), (1000, True)):
        now_ns = asked_ns + after_ms * _MS
        client.agent.tick(now_ns)
        client.agent.take_outgoing()
        assert client.agent.doubtful(now_ns) == doubtful


@pytest.mark.parametrize("path_is_dead", [True, False])
def test_after_a_dead_path_tcp_does_not_wait_for_udp_first(
    network: Any, ends: tuple[Any, Any], path_is_dead: bool
) -> None:
    client, _ = ends
    now_ns = network.now_ns
    active = Candidate.parse("2 1 tcp 100 10.0.0.1 9 typ host tcptype active")
    client.agent.add_local(active, active.address)
    if path_is_dead:
        client.agent.probe(now_ns)
        for after_ms in (0, 500, 1000):
            client.agent.tick(now_ns + after_ms * _MS)
            client.agent.take_outgoing()
        now_ns += 1000 * _MS
    client.agent.restart(IceCredentials.generate(), now_ns)
    client.agent.set_remote(IceCredentials.generate(), now_ns)
    client.agent.add_remote_candidate("1 1 udp 1 10.0.0.2 2000 typ host", now_ns)
    client.agent.add_remote_candidate("2 1 tcp 1 10.0.0.2 2000 typ host tcptype passive", now_ns)
    for after_ms in range(0, 300, 10):
        client.agent.tick(now_ns + after_ms * _MS)
    dialled = [e for e in client.agent.take_events() if isinstance(e, ConnectTcp)]
    assert bool(dialled) == path_is_dead
    assert client.of(Selected)

"""ICE over TCP (RFC 6544): after UDP, and instead of it when it dies."""

from __future__ import annotations

from typing import Any

import pytest

from rtc.ice import (
    ConnectTcp,
    Disconnected,
    Failed,
    PairState,
    Path,
    PathReleased,
    Recovered,
    Selected,
)

ACTIVE = ("10.0.0.1", 9)
LISTENER = ("10.0.0.2", 2000)
TCP_PATH = Path("tcp", ACTIVE, LISTENER)


def no_udp(transport: str, source: tuple[str, int], to: tuple[str, int]) -> bool:
    return transport == "udp"


def all_clear(transport: str, source: tuple[str, int], to: tuple[str, int]) -> bool:
    return False


def nothing(transport: str, source: tuple[str, int], to: tuple[str, int]) -> bool:
    return True


@pytest.fixture
def ends(network: Any) -> tuple[Any, Any]:
    client, server = network.pair()
    client.tcp_active("10.0.0.1")
    server.tcp_listener(*LISTENER)
    return client, server


def selected(*hosts: Any) -> bool:
    return all(host.agent.selected is not None for host in hosts)


def test_where_udp_works_no_tcp_flow_is_opened(network: Any, ends: tuple[Any, Any]) -> None:
    network.introduce(*ends)
    network.run(30)
    assert ends[0].of(ConnectTcp) == []
    assert ends[0].agent.selected.transport == "udp"


def test_where_udp_is_silent_tcp_carries_media_within_two_seconds(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    assert 1.5 < network.run_until(lambda: selected(client, server)) < 2.0
    assert client.agent.selected == TCP_PATH
    assert server.agent.selected.transport == "tcp"
    assert server.agent.selected.local == LISTENER
    network.run(120)
    assert client.of(Disconnected) == server.of(Disconnected) == []


def test_a_side_with_tcp_only_does_not_wait_for_udp(network: Any) -> None:
    client = network.host("client", controlling=True).tcp_active("10.0.0.1")
    server = network.host("server", controlling=False).tcp_listener(*LISTENER)
    network.introduce(client, server)
    assert network.run_until(lambda: selected(client, server)) < 0.35


def test_the_passive_side_never_opens_a_flow(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = nothing
    network.introduce(client, server)
    network.run(29)
    assert server.of(ConnectTcp) == []
    assert all(pair.path.transport == "udp" for pair in server.agent.pairs())


def test_a_controlled_side_opens_the_flow_as_well(network: Any) -> None:
    client = network.host("client", controlling=False).tcp_active("10.0.0.1")
    server = network.host("server", controlling=True).tcp_listener(*LISTENER)
    network.introduce(client, server)
    network.run_until(lambda: selected(client, server), seconds=2)


def test_a_refused_connection_is_kept_as_the_reason(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = no_udp
    network.listeners.clear()
    network.introduce(client, server)
    network.run(31)
    assert "tcp 10.0.0.1:9 -> 10.0.0.2:2000 connection refused" in client.of(Failed)[0].reason


def test_a_connection_that_never_comes_about_is_given_up(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    network.blocks = nothing
    network.introduce(client, server)
    network.run(12)
    assert client.of(PathReleased) == [PathReleased(TCP_PATH)]
    client.agent.path_opened(TCP_PATH, network.now_ns)  # too late
    network.flush()
    assert client.of(PathReleased) == [PathReleased(TCP_PATH)] * 2
    network.run(20)
    assert "TCP flow not open within 10 s" in client.of(Failed)[0].reason


def test_a_request_over_tcp_is_not_repeated(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    network.run_until(lambda: selected(client, server))
    assert (
        len([1 for _, path, _ in client.sent if path == TCP_PATH]) == 3
    )  # check, answer, nomination


def test_when_udp_dies_media_moves_to_tcp(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.introduce(client, server)
    network.run(20)
    network.blocks = no_udp
    cut = network.now_s
    network.run(15)
    for host in ends:
        assert host.agent.selected.transport == "tcp"
        assert host.when(Selected)[-1] - cut < 9
        assert len(host.of(Disconnected)) == len(host.of(Recovered))
    udp = next(p for p in client.agent.pairs() if p.path.transport == "udp")
    assert udp.reason == "stopped answering"
    network.run(60)
    assert not client.agent.failed


def test_an_owner_that_misses_media_moves_to_tcp_sooner(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    network.introduce(client, server)
    network.run(20)
    network.blocks = no_udp
    cut = network.now_s
    client.agent.probe(network.now_ns)
    network.run(8)
    assert client.when(Selected)[-1] - cut < 3
    assert server.agent.selected.transport == "tcp"
    assert len(client.of(Disconnected)) == len(client.of(Recovered))


def test_udp_that_answers_again_during_the_move_is_kept(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    network.introduce(client, server)
    network.run(20)
    network.blocks = no_udp
    client.agent.probe(network.now_ns)
    network.run(1.6)  # others are being checked, the flow is open
    assert client.of(ConnectTcp)
    network.blocks = all_clear
    network.run(20)
    assert client.kinds() == server.kinds() == ["Selected"]
    assert client.of(PathReleased) == [PathReleased(TCP_PATH)]
    assert network.flows == {}
    network.blocks = no_udp  # this time for good: the flow is opened anew
    network.run(15)
    assert client.agent.selected == TCP_PATH
    assert len(client.of(ConnectTcp)) == 2


def test_from_tcp_it_goes_back_to_udp_when_that_works(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    network.run(40)
    network.blocks = all_clear
    network.run_until(lambda: client.agent.selected.transport == "udp", seconds=35)
    network.run(1)
    assert server.agent.selected.transport == "udp"
    assert client.of(PathReleased) == []  # the server may not have moved yet
    network.run(1)
    assert client.of(PathReleased) == [PathReleased(TCP_PATH)]
    assert network.flows == {}
    states = {pair.path: pair.state for pair in client.agent.pairs()}
    assert states[TCP_PATH] is PairState.IDLE
    network.run(60)
    assert client.kinds() == server.kinds() == ["Selected", "Selected"]


def test_looking_for_udp_opens_no_other_flow(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    client.tcp_active("2001:db8::1")
    server.tcp_listener("2001:db8::2", 2000)
    network.blocks = no_udp
    network.introduce(client, server)
    network.run(10)
    dials = len(client.of(ConnectTcp))
    network.run(100)
    assert len(client.of(ConnectTcp)) == dials
    assert len(network.flows) == 2  # both ends of one
    assert client.kinds() == server.kinds() == ["Selected"]


def test_udp_that_answers_late_is_preferred(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    network.run(3)
    assert client.agent.selected == TCP_PATH
    network.blocks = all_clear
    network.run(3)
    assert client.agent.selected.transport == server.agent.selected.transport == "udp"


def test_a_flow_that_breaks_is_opened_again(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    network.run(5)
    first = server.agent.selected
    network.cut_flows()
    assert client.agent.selected is None
    assert client.kinds()[-1] == server.kinds()[-1] == "Disconnected"
    network.run(2)
    assert client.agent.selected == TCP_PATH
    assert server.agent.selected.transport == "tcp"
    assert server.agent.selected != first
    assert client.kinds() == server.kinds() == ["Selected", "Disconnected", "Selected", "Recovered"]


def test_flows_that_are_gone_leave_nothing_behind(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    for _ in range(10):
        network.run(6)
        network.cut_flows()
    network.run(6)
    assert len(server.agent.pairs()) == 2
    assert client.agent.selected == TCP_PATH


def test_a_flow_that_breaks_and_cannot_be_opened_again_ends_after_thirty_seconds(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    network.run(5)
    network.listeners.clear()
    network.cut_flows()
    network.run(31)
    assert client.kinds() == server.kinds() == ["Selected", "Disconnected", "Failed"]
    dials = client.when(ConnectTcp)
    assert 5 <= len(dials) <= 9  # every 5 s, no storm
    assert "no consent" in client.of(Failed)[0].reason


def test_a_restart_moves_to_a_flow_of_its_own(network: Any, ends: tuple[Any, Any]) -> None:
    """A server may know a flow by the ufrag of its first message, so that the old flow cannot be used."""
    client, server = ends
    network.blocks = no_udp
    network.introduce(client, server)
    network.run(5)
    old = server.agent.selected
    generate = type(client.agent.credentials).generate
    for host in ends:
        host.agent.restart(generate(), network.now_ns)
    network.introduce(client, server)
    assert server.agent.selected == old
    network.run(4)
    assert client.agent.selected == Path("tcp", ("10.0.0.1", 10), LISTENER)
    assert server.agent.selected.transport == "tcp"
    assert server.agent.selected != old
    assert client.of(PathReleased) == [PathReleased(TCP_PATH)]
    assert client.of(Disconnected) == server.of(Disconnected) == []


def test_a_flow_that_opens_when_it_is_not_wanted_any_more_is_released(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, _ = ends
    network.introduce(*ends)
    network.run(1)
    client.agent.path_opened(TCP_PATH, network.now_ns)
    network.flush()
    assert client.of(PathReleased) == [PathReleased(TCP_PATH)]


def test_both_address_families_are_dialled(network: Any) -> None:
    client = network.host("client", controlling=True)
    client.tcp_active("10.0.0.1").tcp_active("2001:db8::1")
    server = network.host("server", controlling=False).tcp_listener("2001:db8::2", 2000)
    network.introduce(client, server)
    network.run_until(lambda: selected(client, server), seconds=2)
    assert [e.path for e in client.of(ConnectTcp)] == [
        Path("tcp", ("2001:db8::1", 9), ("2001:db8::2", 2000))
    ]

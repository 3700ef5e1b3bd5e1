"""ICE restart: new credentials, while media goes on over the old path (RFC 8445 section 9)."""

from __future__ import annotations

from typing import Any

import pytest

from rtc import stun
from rtc.ice import (
    Disconnected,
    Failed,
    IceCredentials,
    Path,
    PathReleased,
    PathValidated,
    Selected,
)

CLIENT_PATH = Path("udp", ("10.0.0.1", 1000), ("10.0.0.2", 2000))


@pytest.fixture
def ends(network: Any) -> tuple[Any, Any]:
    client, server = network.pair()
    network.introduce(client, server)
    network.run_until(lambda: client.agent.selected and server.agent.selected)
    return client, server


def renew(network: Any, *hosts: Any) -> None:
    for host in hosts:
        host.agent.restart(IceCredentials.generate(), network.now_ns)
    network.flush()


def test_the_old_path_carries_media_until_the_new_one_is_selected(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    renew(network, client)
    assert client.agent.selected == CLIENT_PATH
    network.run(8)  # the answer takes its time; consent goes on meanwhile
    assert client.agent.selected == CLIENT_PATH
    assert client.of(Disconnected) == server.of(Disconnected) == []
    renew(network, server)
    network.introduce(client, server)
    network.run(1)
    for host in ends:
        assert host.kinds() == ["Selected", "Selected"]
        assert host.of(PathReleased) == []
    network.run(60)
    assert client.of(Disconnected) == server.of(Disconnected) == []


def test_after_a_restart_the_old_credentials_are_not_taken_any_more(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    old = server.agent.credentials
    renew(network, client, server)
    network.introduce(client, server)
    network.run(3)
    request = stun.binding_request(
        stun.new_transaction_id(),
        username=f"{old.ufrag}:x".encode(),
        key=old.password.encode(),
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
    )
    sent = len(server.sent)
    network.inject(server, Path("udp", ("10.0.0.2", 2000), ("10.0.0.1", 1000)), request)
    assert server.agent.refused_requests == 1
    assert len(server.sent) == sent


def test_other_remote_credentials_alone_are_a_restart_too(
    network: Any, ends: tuple[Any, Any]
) -> None:
    """The other side may renew its own only, and keep taking ours."""
    client, server = ends
    ours = server.agent.credentials
    renew(network, client)
    network.introduce(client, server)
    network.run(1)
    assert server.agent.credentials == ours
    assert server.agent.remote_credentials == client.agent.credentials
    for host in ends:
        assert host.kinds() == ["Selected", "Selected"]


def test_where_only_the_other_side_renewed_its_old_requests_bind_nothing_new(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    ours, old = server.agent.credentials, client.agent.credentials
    renew(network, client)
    network.tell(server, client, [])
    moved = Path("udp", ("10.0.0.2", 2000), ("198.51.100.1", 1))
    for theirs, expected in ((old, []), (client.agent.credentials, [moved])):
        request = stun.binding_request(
            stun.new_transaction_id(),
            username=f"{ours.ufrag}:{theirs.ufrag}".encode(),
            key=ours.password.encode(),
            priority=1,
            tie_breaker=bytes(8),
            controlling=True,
        )
        network.inject(server, moved, request)
        found = [event.path for event in server.of(PathValidated)]
        assert [path for path in found if path == moved] == expected


def test_the_same_remote_credentials_again_change_nothing(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    sent = len(client.sent)
    network.introduce(client, server)
    network.run(2)
    assert client.kinds() == ["Selected"]
    assert len(client.sent) <= sent + 1


def test_a_restart_finds_the_way_over_another_network(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    network.blocks = lambda transport, source, to: ("10.0.0.1", 1000) in (source, to)
    network.run_until(lambda: client.of(Disconnected))
    client.udp("172.16.0.1", 1000)
    renew(network, client, server)
    network.introduce(client, server)
    network.run(2)
    assert client.agent.selected == Path("udp", ("172.16.0.1", 1000), ("10.0.0.2", 2000))
    assert server.agent.selected == Path("udp", ("10.0.0.2", 2000), ("172.16.0.1", 1000))
    assert client.kinds() == ["Selected", "Disconnected", "Selected", "Recovered"]
    assert server.of(PathReleased) == []  # the client may still be sending there
    network.run(1)
    assert Path("udp", ("10.0.0.2", 2000), ("10.0.0.1", 1000)) in [
        event.path for event in server.of(PathReleased)
    ]


def test_a_restart_that_finds_nothing_does_not_harm_the_path_that_works(
    network: Any, ends: tuple[Any, Any]
) -> None:
    """The answer never comes to the server's agent: old credentials stay good on both sides."""
    client, server = ends
    renew(network, client)
    client.agent.set_remote(IceCredentials("never-heard-of", "nothing"), network.now_ns)
    network.run(100)
    assert client.agent.selected == CLIENT_PATH
    assert client.of(Failed) == client.of(Disconnected) == server.of(Disconnected) == []


def test_a_candidate_of_the_next_generation_waits_for_it(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    coming = IceCredentials.generate()
    line = f"1 1 udp 2130706431 10.0.0.2 2000 typ host ufrag {coming.ufrag}"
    client.agent.add_remote_candidate(line, network.now_ns)
    assert len(client.agent.pairs()) == 1
    server.agent.restart(coming, network.now_ns)
    renew(network, client)
    network.tell(server, client, [])
    network.tell(client, server, [])
    network.run(1)
    assert [len(host.of(Selected)) for host in ends] == [2, 2]


def test_a_candidate_of_the_generation_before_is_dropped(
    network: Any, ends: tuple[Any, Any]
) -> None:
    client, server = ends
    old = server.agent.credentials.ufrag
    renew(network, client, server)
    stale = f"1 1 udp 2130706431 10.0.0.9 2000 typ host ufrag {old}"
    client.agent.add_remote_candidate(stale, network.now_ns)
    network.introduce(client, server)
    assert [pair.path.remote[0] for pair in client.agent.pairs()] == ["10.0.0.2"]


def test_restarts_in_quick_succession_end_on_the_last(network: Any, ends: tuple[Any, Any]) -> None:
    client, server = ends
    for _ in range(5):
        renew(network, client, server)
        network.introduce(client, server)
        network.run(0.015)
    network.run(2)
    assert client.agent.remote_credentials == server.agent.credentials
    assert client.kinds()[-1] == server.kinds()[-1] == "Selected"
    network.run(40)
    assert not client.agent.failed
    assert client.of(Disconnected) == []


def test_a_restart_before_anything_is_selected_lets_go_of_what_was_found(network: Any) -> None:
    client, server = network.pair()
    network.tell(client, server)
    network.run(0.015)
    path = Path("udp", ("10.0.0.2", 2000), ("10.0.0.1", 1000))
    assert server.of(PathValidated) == [PathValidated(path)]
    renew(network, server)
    assert server.of(PathReleased) == [PathReleased(path)]


def test_a_short_ufrag_is_refused_and_changes_nothing(network: Any, ends: tuple[Any, Any]) -> None:
    client, _ = ends
    before = client.agent.credentials
    with pytest.raises(ValueError, match="wanted 16"):
        client.agent.restart(IceCredentials("short", "p" * 32), network.now_ns)
    assert client.agent.credentials == before
    assert client.agent.selected == CLIENT_PATH

"""Whoever signals candidates chooses where our checks go: how many, how fast, and never where."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rtc import stun
from rtc.ice import Candidate, IceBounds, IceCredentials, Path, host_candidate
from rtc.ice.bounds import CheckBudget
from rtc.ice.pair import Pair

S = 1_000_000_000
SERVER = ("10.0.0.2", 2000)
BOUNDS = IceBounds(checks_per_s=20, link_local=False)
NOWHERE = (
    *("169.254.1.1", "169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254"),
    *("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "64:ff9b::a9fe:a9fe", "255.255.255.255"),
)


@pytest.fixture
def server(network: Any) -> Any:
    """With a server's pace and bounds; it knows the other side's credentials, and no candidate yet."""
    server = network.host("server", controlling=False, bounds=BOUNDS, pace_ns=5_000_000)
    server.udp(*SERVER).agent.add_local(host_candidate("fd77::2", 2000))
    remote = IceCredentials("remote-ufrag", "remote-password-of-22+")
    server.agent.set_remote(remote, network.now_ns)
    return server


def named(server: Any, network: Any, host: str, port: int = 1000) -> None:
    server.agent.add_remote_candidate(f"1 1 udp 1 {host} {port} typ host", network.now_ns)


def request(server: Any, *, nominate: bool = False) -> bytes:
    """A check of the other side, with the right password."""
    ours = server.agent.credentials
    return stun.binding_request(
        stun.new_transaction_id(),
        username=f"{ours.ufrag}:remote-ufrag".encode(),
        key=ours.password.encode(),
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
        use_candidate=nominate,
    )


def checks(server: Any) -> list[tuple[float, tuple[str, int]]]:
    """When and where to the server's own checks went."""
    return [
        (at, path.remote)
        for at, path, datagram in server.sent
        if stun.parse_message(datagram).kind == stun.BINDING_REQUEST
    ]


def busiest(times: list[float]) -> int:
    """The most that fell into one second."""
    return max(sum(start <= at < start + 0.999999 for at in times) for start in times)


def test_at_most_twenty_checks_a_second_go_out_and_every_named_address_gets_its_first_ones(
    network: Any, server: Any
) -> None:
    for number in range(90):
        named(server, network, f"10.9.0.{number}")
    network.run(12)
    sent = checks(server)
    assert busiest([at for at, _ in sent]) == 10  # the other half is for who was heard
    assert len({remote for _, remote in sent}) == 90
    assert server.agent.held_checks >= 80


def test_repetitions_go_round_so_that_nobody_waits_for_the_others_to_be_given_up(
    network: Any, server: Any
) -> None:
    for number in range(30):
        named(server, network, f"10.9.0.{number}")
    network.run(11)
    times = Counter(remote for _, remote in checks(server))
    assert len(times) == 30
    assert set(times.values()) == {3, 4}


def test_the_address_that_was_heard_does_not_wait_behind_those_that_were_only_named(
    network: Any, server: Any
) -> None:
    for number in range(90):
        named(server, network, f"10.9.0.{number}")
    network.run(0.5)
    network.inject(server, Path("udp", SERVER, ("10.0.0.1", 1000)), request(server))
    network.run(0.02)
    assert checks(server)[-1][1] == ("10.0.0.1", 1000)


def test_made_up_sources_draw_no_more_than_twenty_checks_a_second(
    network: Any, server: Any
) -> None:
    for number in range(80):
        network.inject(server, Path("udp", SERVER, (f"10.9.0.{number}", 1000)), request(server))
    network.run(4)
    assert busiest([at for at, _ in checks(server)]) == 20


def test_a_path_that_answered_is_free_until_its_consent_is_over() -> None:
    budget = CheckBudget(2, consent_ns=30 * S)
    pair = Pair(
        Path("udp", SERVER, ("10.0.0.1", 1000)),
        Candidate.parse("1 1 udp 1 10.0.0.1 1000 typ host"),
        local_priority=1,
        controlling=False,
    )
    pair.validated = True
    for now_ns in (100 * S, 100 * S + 1):
        assert budget.permits(pair, now_ns)
        budget.spend(pair, now_ns)
    assert not budget.permits(pair, 101 * S - 1)
    assert budget.permits(pair, 101 * S)
    pair.answered_ns = 100 * S + 2
    assert budget.permits(pair, 100 * S + 2)
    budget.spend(pair, 100 * S + 2)  # takes nothing from the others
    assert budget.permits(pair, 101 * S)
    budget.spend(pair, 100 * S + 3)
    pair.answered_ns = 71 * S - 1
    assert not budget.permits(pair, 101 * S - 1)
    assert budget.held == 2


@pytest.mark.parametrize("host", NOWHERE)
def test_nothing_goes_to_link_local_and_metadata_addresses_whoever_names_them(
    network: Any, server: Any, host: str
) -> None:
    named(server, network, host)
    source = ("udp", ("fd77::2", 2000) if ":" in host else SERVER, (host, 80))
    network.inject(server, Path(*source), request(server, nominate=True))
    network.run(2)
    assert server.sent == []
    assert server.agent.pairs() == ()
    assert (server.agent.intake.forbidden, server.agent.forbidden_requests) == (1, 1)


def test_a_client_trusts_its_server_also_on_a_link_local_network(network: Any) -> None:
    client = network.host("client", controlling=True).udp("169.254.0.1", 1000)
    other = network.host("server", controlling=False).udp("169.254.0.2", 2000)
    network.introduce(client, other)
    network.run_until(lambda: client.agent.selected and other.agent.selected, seconds=2)


@pytest.mark.parametrize(
    "name", ["metadata.google.internal", "2852039166", "0xA9FEA9FE", "a.local"]
)
def test_a_candidate_that_is_no_literal_address_is_never_looked_up(
    network: Any, server: Any, name: str
) -> None:
    named(server, network, name)
    network.run(2)
    assert (server.sent, server.agent.pairs()) == ([], ())
    assert server.agent.intake.ignored == 1


def test_more_remote_candidates_than_there_may_be_are_counted_and_a_restart_begins_anew(
    network: Any,
) -> None:
    server = network.host("server", controlling=False, bounds=IceBounds(candidates=3))
    server.udp(*SERVER)
    for port in range(1, 6):  # before the credentials are known
        named(server, network, "10.0.0.1", port)
    assert server.agent.intake.excess == 2
    server.agent.set_remote(IceCredentials("remote-ufrag", "remote-password-of-22+"), 1)
    named(server, network, "10.0.0.1", 1)  # known
    named(server, network, "10.0.0.1", 9)
    assert (server.agent.intake.excess, len(server.agent.pairs())) == (3, 3)
    server.agent.set_remote(IceCredentials("another-ufrag", "another-password-of-22"), 2)
    named(server, network, "10.0.0.1", 9)
    assert (server.agent.intake.excess, len(server.agent.pairs())) == (3, 1)


def test_a_participant_with_thirty_addresses_is_connected_as_fast_as_one_with_a_single_one(
    network: Any,
) -> None:
    server = network.host("server", controlling=False, bounds=BOUNDS, pace_ns=5_000_000)
    for number in range(2, 7):
        server.udp(f"10.0.0.{number}", 2000)
    client = network.host("client", controlling=True).udp("10.0.0.1", 1000)
    elsewhere = [host_candidate(f"10.9.0.{number}", 1000) for number in range(29)]
    network.tell(server, client, [*elsewhere, *client.agent.local_candidates])
    network.tell(client, server)
    took_s = network.run_until(lambda: client.agent.selected and server.agent.selected)
    assert took_s < 0.3
    assert busiest([at for at, _ in checks(server)]) <= 20

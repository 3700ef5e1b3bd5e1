"""How two agents find a path: roles, candidates in any order, loss, NATs, address families."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from rtc import stun
from rtc.ice import (
    Candidate,
    Disconnected,
    Failed,
    PairState,
    Path,
    PathReleased,
    PathValidated,
    Selected,
)

CLIENT = ("10.0.0.1", 1000)
SERVER = ("10.0.0.2", 2000)
CLIENT_PATH = Path("udp", CLIENT, SERVER)
SERVER_PATH = Path("udp", SERVER, CLIENT)


def connected(*hosts: Any) -> bool:
    return all(host.agent.selected is not None for host in hosts)


@pytest.mark.parametrize(
    ("client_controls", "server_controls"), list(itertools.product([True, False], repeat=2))
)
def test_any_combination_of_roles_ends_with_one_of_each(
    network: Any, client_controls: bool, server_controls: bool
) -> None:
    client = network.host("client", controlling=client_controls).udp(*CLIENT)
    server = network.host("server", controlling=server_controls).udp(*SERVER)
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server), seconds=2)
    assert client.agent.selected == CLIENT_PATH
    assert server.agent.selected == SERVER_PATH
    assert client.agent.controlling is not server.agent.controlling


def test_the_first_check_leaves_at_once_and_two_round_trips_suffice(network: Any) -> None:
    client, server = network.pair()
    network.introduce(client, server)
    assert client.sent[0][0] == 0.0
    assert network.run_until(lambda: connected(client, server)) == pytest.approx(
        4 * network.latency_s, abs=1e-6
    )
    assert client.agent.rtt_s == pytest.approx(2 * network.latency_s)


def test_an_address_is_validated_before_it_is_selected(network: Any) -> None:
    client, server = network.pair()
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server))
    events = [event for _, event in server.events]
    assert events == [PathValidated(SERVER_PATH), Selected(SERVER_PATH)]


@pytest.mark.parametrize("late", ["client", "server", "both", "none"])
def test_candidates_may_trickle_in_on_either_side(network: Any, late: str) -> None:
    client, server = network.pair()
    network.tell(client, server, [] if late in ("client", "both") else None)
    network.tell(server, client, [] if late in ("server", "both") else None)
    network.run(1.0)
    for host, other in ((client, server), (server, client)):
        for candidate in other.agent.local_candidates:
            host.agent.add_remote_candidate(f"candidate:{candidate.format()}", network.now_ns)
    network.run_until(lambda: connected(client, server), seconds=2)


def test_candidates_that_come_before_the_credentials_wait(network: Any) -> None:
    client, server = network.pair()
    for _ in range(2):
        line = server.agent.local_candidates[0].format()
        client.agent.add_remote_candidate(line, network.now_ns)
    network.run(1)
    assert client.sent == []
    network.tell(client, server, [])
    network.tell(server, client, [])
    network.run_until(lambda: connected(client, server), seconds=1)
    assert len(client.agent.pairs()) == 1


def test_at_most_a_hundred_candidates_wait_for_the_credentials(network: Any) -> None:
    client, _ = network.pair()
    for port in range(3000, 3120):
        client.agent.add_remote_candidate(f"1 1 udp 1 10.0.0.9 {port} typ host", network.now_ns)
    assert client.agent.intake.ignored == client.agent.intake.excess == 20


def test_checks_that_come_before_the_credentials_are_answered_and_followed_up(network: Any) -> None:
    """The offerer's check may overtake its answer (RFC 8445 section 7.3)."""
    client, server = network.pair()
    network.tell(client, server)
    network.run(0.03)
    assert server.of(PathValidated) == [PathValidated(SERVER_PATH)]
    assert client.agent.selected is None or server.agent.selected is None
    network.tell(server, client, [])
    network.run_until(lambda: connected(client, server), seconds=1)


@pytest.mark.parametrize(
    "line",
    [
        "1 1 udp 2130706431 5a3b6cf8-0b3d-4f1c-8b1b-6a2f5d3b9a11.local 50000 typ host",
        "1 2 udp 2130706431 10.0.0.2 2001 typ host",
        "1 1 udp 2130706431 224.0.0.1 2000 typ host",
        "1 1 udp 2130706431 0.0.0.0 2000 typ host",
        "1 1 udp 2130706431 10.0.0.2 0 typ host",
        "1 1 sctp 2130706431 10.0.0.2 2000 typ host",
        "1 1 tcp 2130706431 10.0.0.2 2000 typ host",
        "",
        "nonsense",
    ],
)
def test_candidates_nothing_can_be_sent_to_are_left_out(network: Any, line: str) -> None:
    client, server = network.pair()
    network.tell(client, server, [])
    client.agent.add_remote_candidate(line, network.now_ns)
    assert client.agent.pairs() == ()
    assert client.agent.intake.ignored == 1


def test_a_server_without_remote_candidates_connects_through_the_checks_it_gets(
    network: Any,
) -> None:
    """Browsers announce mDNS names only."""
    client, server = network.pair()
    network.tell(client, server)
    network.tell(server, client, [])
    network.run_until(lambda: connected(client, server), seconds=1)
    assert server.agent.selected == SERVER_PATH


def test_a_client_behind_a_nat_is_reached_at_the_address_its_checks_come_from(network: Any) -> None:
    client, server = network.pair()
    public = ("198.51.100.7", 40000)
    network.nat[CLIENT] = public
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server), seconds=1)
    assert server.agent.selected == Path("udp", SERVER, public)


def test_a_candidate_known_by_its_checks_is_recognised_when_it_is_signalled(network: Any) -> None:
    client, server = network.pair()
    network.tell(client, server)
    network.tell(server, client, [])
    network.run_until(lambda: connected(client, server), seconds=1)
    before = server.agent.pairs()[0].priority
    line = client.agent.local_candidates[0].format()
    server.agent.add_remote_candidate(line, network.now_ns)
    (pair,) = server.agent.pairs()
    assert pair.priority > before  # host, no longer peer-reflexive
    assert pair.selected


def test_several_announced_addresses_of_one_socket_make_one_pair(network: Any) -> None:
    client = network.host("client", controlling=True).udp(*CLIENT)
    server = network.host("server", controlling=False)
    bound = ("0.0.0.0", 8443)
    server.udp("10.0.0.2", 8443, base=bound).udp("203.0.113.2", 8443, base=bound, preference=9)
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server), seconds=1)
    assert len(server.agent.pairs()) == 1
    assert server.agent.selected == Path("udp", bound, CLIENT)
    assert len(client.agent.pairs()) == 2


def test_address_families_are_not_mixed(network: Any) -> None:
    client = network.host("client", controlling=True).udp(*CLIENT).udp("2001:db8::1", 1000)
    server = network.host("server", controlling=False).udp(*SERVER).udp("2001:db8::2", 2000)
    network.introduce(client, server)
    assert {(p.path.local[0], p.path.remote[0]) for p in client.agent.pairs()} == {
        ("10.0.0.1", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::2"),
    }
    network.blocks = lambda transport, source, to: "." in to[0]
    network.run_until(lambda: connected(client, server), seconds=2)
    assert client.agent.selected == Path("udp", ("2001:db8::1", 1000), ("2001:db8::2", 2000))


def test_loopback_is_not_tried_towards_other_hosts(network: Any) -> None:
    client = network.host("client", controlling=True).udp("127.0.0.1", 1).udp(*CLIENT)
    network.tell(client, network.host("server", controlling=False).udp(*SERVER))
    assert [pair.path for pair in client.agent.pairs()] == [CLIENT_PATH]


def test_a_socket_that_is_added_late_is_paired_with_what_is_known(network: Any) -> None:
    client = network.host("client", controlling=True)
    server = network.host("server", controlling=False).udp(*SERVER)
    network.introduce(client, server)
    client.udp(*CLIENT)
    network.run_until(lambda: connected(client, server), seconds=1)


@pytest.mark.parametrize("seed", range(10))
def test_loss_of_thirty_percent_delays_but_does_not_prevent(network: Any, seed: int) -> None:
    client, server = network.pair()
    dice = random.Random(seed)
    network.loses = lambda: dice.random() < 0.3
    network.introduce(client, server)
    assert network.run_until(lambda: connected(client, server), seconds=5) < 5


@pytest.mark.parametrize("lost", range(6))
def test_any_one_lost_datagram_is_made_good(network: Any, lost: int) -> None:
    client, server = network.pair()
    count = itertools.count()
    network.loses = lambda: next(count) == lost
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server), seconds=3)
    assert client.kinds() == server.kinds() == ["Selected"]


@pytest.mark.parametrize("deaf", [CLIENT, SERVER])
def test_a_path_that_works_one_way_only_is_not_selected(
    network: Any, deaf: tuple[str, int]
) -> None:
    client, server = network.pair()
    network.blocks = lambda transport, source, to: to == deaf
    network.introduce(client, server)
    network.run(29)
    assert not connected(client)
    assert not connected(server)


def test_the_best_of_several_pairs_is_nominated_where_all_work(network: Any) -> None:
    client = network.host("client", controlling=True)
    client.udp("10.0.1.1", 1001, preference=100).udp(*CLIENT, preference=200)
    server = network.host("server", controlling=False).udp(*SERVER)
    network.introduce(client, server)
    network.run(5)
    assert client.agent.selected == CLIENT_PATH
    assert server.agent.selected == SERVER_PATH
    assert client.kinds() == ["Selected"]
    nominated = {
        path
        for _, path, datagram in client.sent
        if datagram[1] == 1 and stun.parse_message(datagram).use_candidate
    }
    assert nominated == {CLIENT_PATH}


def test_a_valid_pair_waits_a_little_for_a_better_one(network: Any) -> None:
    client = network.host("client", controlling=True, nomination_wait_ns=700_000_000)
    client.udp("10.0.1.1", 1001, preference=100).udp(*CLIENT, preference=200)
    server = network.host("server", controlling=False).udp(*SERVER)
    network.introduce(client, server)
    network.blocks = lambda transport, source, to: network.now_s < 0.3 and CLIENT in (source, to)
    # What was sent at once is on its way already: only the answers are lost.
    network.run_until(lambda: connected(client, server), seconds=2)
    assert client.agent.selected == CLIENT_PATH


def test_a_better_pair_that_has_failed_is_not_waited_for(network: Any) -> None:
    client = network.host("client", controlling=True)
    client.udp("10.0.1.1", 1001, preference=300).udp(*CLIENT, preference=200)
    server = network.host("server", controlling=False).udp(*SERVER)
    network.blocks = lambda transport, source, to: "10.0.1.1" in (source[0], to[0])
    network.introduce(client, server)
    lost = Path("udp", ("10.0.1.1", 1001), SERVER)
    client.agent.path_lost(lost, network.now_ns, "network is unreachable")
    assert network.run_until(lambda: connected(client, server)) < 0.1
    assert [p.reason for p in client.agent.pairs() if p.path == lost] == ["network is unreachable"]


def test_a_candidate_that_comes_when_all_is_well_is_not_checked(network: Any) -> None:
    client, server = network.pair()
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server))
    late = "1 1 udp 2130706431 10.0.0.77 2000 typ host"
    client.agent.add_remote_candidate(late, network.now_ns)
    network.run(3)
    assert [path for _, path, _ in client.sent if path.remote[0] == "10.0.0.77"] == []


def test_a_pair_that_was_given_up_gets_a_whole_new_check_when_the_other_side_asks(
    network: Any,
) -> None:
    client, server = network.pair()
    network.blocks = lambda transport, source, to: to == CLIENT  # the client is deaf
    network.tell(server, client)
    network.run(17)
    assert [pair.state for pair in server.agent.pairs()] == [PairState.FAILED]
    sent = len(server.sent)
    network.tell(client, server)
    network.run(3)
    checks = [d for _, _, d in server.sent[sent:] if d[1] == 1]
    assert len(checks) > 5


def test_a_check_that_backs_off_goes_on_at_once_when_the_other_side_is_heard(network: Any) -> None:
    client, server = network.pair()
    network.blocks = lambda transport, source, to: to == CLIENT
    network.tell(server, client)
    network.run(5.6)  # the next transmission is due at 6.5 s
    network.blocks = lambda transport, source, to: False
    network.tell(client, server)
    assert network.run_until(lambda: connected(client, server)) < 0.1


def test_a_reflexive_candidate_stands_for_the_socket_it_was_found_through(network: Any) -> None:
    client, server = network.pair()
    line = "9 1 udp 1694498815 198.51.100.7 40000 typ srflx raddr 10.0.0.1 rport 1000"
    client.agent.add_local(Candidate.parse(line))
    network.introduce(client, server)
    assert [pair.path for pair in client.agent.pairs()] == [CLIENT_PATH]
    assert len(client.agent.local_candidates) == 2


def test_a_pair_that_works_does_not_wait_long_for_one_that_may_not(network: Any) -> None:
    client = network.host("client", controlling=True)
    client.udp("10.0.1.1", 1001, preference=300).udp(*CLIENT, preference=200)
    server = network.host("server", controlling=False).udp(*SERVER)
    network.blocks = lambda transport, source, to: "10.0.1.1" in (source[0], to[0])
    network.introduce(client, server)
    assert network.run_until(lambda: connected(client, server)) < 0.3
    assert client.agent.selected == CLIENT_PATH


def test_new_checks_keep_their_pace_and_repeated_ones_back_off(network: Any) -> None:
    client, _ = network.pair()
    client.agent.set_remote(network.hosts[1].agent.credentials, network.now_ns)
    for port in range(9000, 9005):
        client.agent.add_remote_candidate(f"1 1 udp 1 10.9.9.9 {port} typ host", network.now_ns)
    network.run(25)
    first_sent: dict[int, float] = {}
    times: dict[int, list[float]] = {}
    for at, path, _ in client.sent:
        first_sent.setdefault(path.remote[1], at)
        times.setdefault(path.remote[1], []).append(at - first_sent[path.remote[1]])
    assert sorted(first_sent.values()) == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    for offsets in times.values():
        assert offsets == pytest.approx([0.0, 0.5, *(0.5 + n for n in range(1, 15))])
    assert {pair.state for pair in client.agent.pairs()} == {PairState.FAILED}
    assert {pair.reason for pair in client.agent.pairs()} == {"no answer to 16 requests"}


def test_once_a_pair_is_selected_the_others_are_left_alone(network: Any) -> None:
    client, server = network.pair()
    for number in range(20):
        server.agent.add_local(server.agent.local_candidates[0])
        client.agent.add_remote_candidate(f"1 1 udp 1 10.9.9.{number} 1 typ host", network.now_ns)
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server), seconds=5)
    sent = len(client.sent)
    network.run(3)
    assert len(client.sent) == sent


def test_at_most_a_hundred_pairs_are_kept(network: Any) -> None:
    client, server = network.pair()
    client.udp("10.0.0.3", 1000)
    network.tell(client, server)
    for number in range(150):
        line = f"1 1 udp {number} 10.7.0.{number} 9 typ host"
        client.agent.add_remote_candidate(line, network.now_ns)
    assert len(client.agent.pairs()) == 100
    assert client.agent.intake.ignored == 51
    network.introduce(client, server)
    network.run_until(lambda: connected(client, server), seconds=10)


def test_without_any_pair_that_works_it_fails_and_names_what_was_tried(network: Any) -> None:
    client, server = network.pair()
    network.blocks = lambda transport, source, to: True
    network.introduce(client, server)
    network.run(31)
    (failed,) = client.of(Failed)
    assert client.when(Failed) == [30.0]
    assert failed.reason == (
        "no pair worked within 30 s; pairs tried: "
        "udp 10.0.0.1:1000 -> 10.0.0.2:2000 no answer to 16 requests"
    )
    assert client.agent.failed
    sent = len(client.sent)
    network.run(10)
    assert len(client.sent) == sent


def test_without_any_candidate_it_fails_and_says_so(network: Any) -> None:
    client, server = network.pair()
    network.tell(client, server, [])
    network.run(31)
    assert [event.reason for event in client.of(Failed)] == [
        "no pair worked within 30 s; pairs tried: none"
    ]


def test_nothing_that_is_in_use_is_released_or_doubted(network: Any) -> None:
    client, server = network.pair()
    network.introduce(client, server)
    network.run(60)
    for host in (client, server):
        assert host.of(PathReleased) == host.of(Disconnected) == []


def test_transaction_ids_begin_with_the_tag_of_our_credentials(network: Any) -> None:
    """Processes that share a port find by it whose answer came."""
    client, server = network.pair()
    server.agent.restart(type(server.agent.credentials).generate("w7"), network.now_ns)
    network.introduce(client, server)
    network.run(10)
    ours = [d for _, _, d in server.sent if d[:2] == b"\x00\x01"]
    assert len(ours) >= 2
    assert all(datagram[8:10] == b"w7" for datagram in ours)

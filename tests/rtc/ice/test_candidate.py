"""Candidate lines (RFC 8839 section 5.1) and priorities (RFC 8445 section 5.1.2, RFC 6544 section 4.2)."""

from __future__ import annotations

import random

import pytest

from rtc.ice import Candidate, CandidateError, host_candidate
from rtc.ice.candidate import candidate_priority, foundation, pair_priority, reflexive_priority
from rtc.ice.credentials import IceCredentials
from rtc.ice.generation import Generation
from rtc.ice.interfaces import local_addresses

LINES = [
    "842163049 1 udp 1677729535 198.51.100.7 46154 typ srflx raddr 10.0.0.1 rport 46154",
    "1 1 udp 2130706431 2001:db8::1 8443 typ host",
    "3 1 tcp 1671430143 10.0.0.2 8443 typ host tcptype passive",
    "4 1 tcp 1671434239 10.0.0.1 9 typ host tcptype active ufrag Xk3e",
    "5 1 udp 16777215 192.0.2.3 50000 typ relay raddr 198.51.100.7 rport 46154",
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_written_as_it_was_read(line: str) -> None:
    assert Candidate.parse(line).format() == line


@pytest.mark.parametrize("prefix", ["", "candidate:", "a=candidate:"])
def test_a_line_may_come_with_its_prefixes(prefix: str) -> None:
    assert Candidate.parse(f"{prefix}{LINES[0]}\r\n").address == ("198.51.100.7", 46154)


def test_the_line_of_a_browser_with_all_its_extensions_is_read() -> None:
    candidate = Candidate.parse(
        "candidate:3098175849 1 UDP 2113937151 192.168.1.5 60234 typ host generation 0 ufrag zP4M "
        "network-id 1 network-cost 10"
    )
    assert (candidate.transport, candidate.type, candidate.ufrag) == ("udp", "host", "zP4M")
    assert candidate.is_reachable


def test_an_mdns_name_is_read_but_not_reachable() -> None:
    candidate = Candidate.parse("1 1 udp 1 5a3b6cf8-0b3d-4f1c-8b1b-6a2f5d3b9a11.local 9 typ host")
    assert candidate.host.endswith(".local")
    assert not candidate.is_reachable


@pytest.mark.parametrize(
    ("written", "normal"),
    [("2001:DB8:0:0::1", "2001:db8::1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("10.0.0.1", "10.0.0.1")],
)
def test_addresses_are_compared_in_normal_form(written: str, normal: str) -> None:
    assert Candidate.parse(f"1 1 udp 1 {written} 9 typ host").host == normal


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("", "foundation"),
        ("1 1 udp 1 10.0.0.1 9 host", "foundation"),
        ("1 1 udp 1 10.0.0.1 9 type host", "foundation"),
        ("1 x udp 1 10.0.0.1 9 typ host", "component 'x'"),
        ("1 0 udp 1 10.0.0.1 9 typ host", "component '0'"),
        ("1 1 dccp 1 10.0.0.1 9 typ host", "transport 'dccp'"),
        ("1 1 udp 4294967296 10.0.0.1 9 typ host", "priority"),
        ("1 1 udp -1 10.0.0.1 9 typ host", "priority"),
        ("1 1 udp 1 10.0.0.1 65536 typ host", "port '65536'"),
        ("1 1 udp 1 10.0.0.1 1_0 typ host", "port '1_0'"),
        ("1 1 udp 1 10.0.0.1 ９ typ host", "port"),
        ("1 1 udp 1 10.0.0.1 9 typ hosts", "type 'hosts'"),
        ("1 1 tcp 1 10.0.0.1 9 typ host", "tcptype ''"),
        ("1 1 tcp 1 10.0.0.1 9 typ host tcptype both", "tcptype 'both'"),
        ("1 1 udp 1 10.0.0.1 9 typ srflx raddr 10.0.0.2 rport x", "rport 'x'"),
        ("1 1 udp 1 10.0.0.1 9 typ host " + "x " * 400, "foundation"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_by_field(line: str, field: str) -> None:
    with pytest.raises(CandidateError, match=field):
        Candidate.parse(line)


def test_any_line_gives_a_candidate_or_a_candidate_error() -> None:
    randomness = random.Random(8839)
    for _ in range(3000):
        text = list(randomness.choice(LINES))
        for _ in range(randomness.randint(1, 5)):
            text[randomness.randrange(len(text))] = chr(randomness.choice([32, 48, 58, 97, 0x661]))
        try:
            Candidate.parse("".join(text)).format()
        except CandidateError:
            continue


def test_the_priority_is_that_of_the_rfc() -> None:
    assert candidate_priority("host") == 2130706431  # 126 << 24 | 65535 << 8 | 255
    assert candidate_priority("srflx") == 1694498815
    assert candidate_priority("relay") == 16777215


def test_udp_comes_before_tcp_and_tcp_before_a_relay() -> None:
    ordered = [
        candidate_priority("host"),
        candidate_priority("srflx"),
        candidate_priority("host", "tcp", "active"),
        candidate_priority("host", "tcp", "passive"),
        candidate_priority("srflx", "tcp", "passive"),
        candidate_priority("relay"),
    ]
    assert ordered == sorted(ordered, reverse=True)
    assert len(set(ordered)) == len(ordered)


@pytest.mark.parametrize("preference", [0, 8191, 65535])
def test_every_priority_fits_in_the_field_and_is_not_zero(preference: int) -> None:
    for type_, transport in (("host", "udp"), ("relay", "udp"), ("relay", "tcp"), ("prflx", "tcp")):
        value = candidate_priority(type_, transport, "active", preference=preference)
        assert 0 < value < 1 << 31


def test_a_checks_priority_is_that_of_the_same_candidate_as_peer_reflexive() -> None:
    priority = candidate_priority("host", preference=77)
    assert reflexive_priority(priority, "udp") == candidate_priority("prflx", preference=77)


def test_both_sides_rank_a_pair_the_same_but_for_the_last_bit() -> None:
    one, other = candidate_priority("host"), candidate_priority("srflx")
    assert pair_priority(one, other) == (other << 32) + 2 * one + 1
    assert pair_priority(other, one) == (other << 32) + 2 * one


def test_foundations_tell_base_transport_and_type_apart() -> None:
    different = {
        foundation("host", "udp", "10.0.0.1"),
        foundation("host", "tcp", "10.0.0.1"),
        foundation("srflx", "udp", "10.0.0.1"),
        foundation("host", "udp", "10.0.0.2"),
        foundation("srflx", "udp", "10.0.0.1", "stun:192.0.2.1"),
    }
    assert len(different) == 5
    assert host_candidate("10.0.0.1", 1).foundation == host_candidate("10.0.0.1", 2).foundation


def test_own_credentials_are_long_new_each_time_and_not_shown() -> None:
    one, other = IceCredentials.generate(), IceCredentials.generate()
    assert (len(one.ufrag), len(one.password)) == (16, 32)
    assert one.ufrag != other.ufrag
    assert one.password not in repr(one)


def test_a_short_ufrag_of_our_own_is_refused() -> None:
    with pytest.raises(ValueError, match="4 characters, wanted 16"):
        Generation(IceCredentials("abcd", "p" * 32))


def test_the_hosts_addresses_are_found_and_are_ipv4_unless_asked() -> None:
    assert "127.0.0.1" in local_addresses()
    assert not any(":" in address for address in local_addresses())
    assert set(local_addresses()) <= set(local_addresses(ipv6=True))


def test_a_tag_is_in_front_of_the_ufrag_and_takes_nothing_from_its_randomness() -> None:
    tagged = IceCredentials.generate("3b")
    assert tagged.ufrag.startswith("3b")
    assert len(tagged.ufrag) == 18

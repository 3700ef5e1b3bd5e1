"""What clients are told: candidates, overrides, discovery, ports (rtcd.md 3.11, 7, traps 30, 31, 33, 35)."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from foundation.clock import ManualClock
from sfu.addresses import (
    AddressError,
    AnnouncedAddress,
    CachedResolver,
    announced_addresses,
    bind_addresses,
    first_stun_url,
    local_ips,
    stun_address,
)
from sfu.settings import IceServer, SfuSettings, load_settings
from sfu.stun_discovery import DiscoveryError

LOOPBACK, ONE, TWO = "127.0.0.1", "10.0.0.1", "10.0.0.2"
SIX = "2001:db8::1"
PUBLIC = "8.8.8.8"


def settings(**variables: str) -> SfuSettings:
    return load_settings(None, {f"RTCD_RTC_{name}": value for name, value in variables.items()})


async def unexpected(*arguments: Any) -> Any:
    raise AssertionError(f"asked for {arguments}")


async def announced(
    *local: str, resolve: Any = unexpected, discover: Any = unexpected, **variables: str
) -> list[tuple[str, str, int, str]]:
    """Transport, address, port and local address of each candidate."""
    found = await announced_addresses(
        settings(**variables), resolve=resolve, discover=discover, host_addresses=local
    )
    return [(a.transport, a.address, a.port, a.bind_address) for a in found]


def of(transport: str, found: list[tuple[str, str, int, str]]) -> list[tuple[str, int]]:
    return [(address, port) for t, address, port, _ in found if t == transport]


def resolving(**answers: Sequence[str]) -> Any:
    async def resolve(host: str) -> Sequence[str]:
        return answers[host]

    return resolve


def discovering(**answers: str) -> Any:
    """`a10_0_0_1="8.8.8.8"`; who is not there gets no answer."""

    async def discover(address: str, port: int, server: tuple[str, int]) -> str:
        assert (port, server) == (8443, ("192.0.2.1", 3478))
        try:
            return answers["a" + address.replace(".", "_")]
        except KeyError:
            raise DiscoveryError("no answer") from None

    return discover


STUN = json.dumps(["stun:192.0.2.1:3478"])


async def test_every_local_address_is_a_candidate_of_both_transports_loopback_too() -> None:
    assert await announced(LOOPBACK, ONE) == [
        ("udp", LOOPBACK, 8443, LOOPBACK),
        ("udp", ONE, 8443, ONE),
        ("tcp", LOOPBACK, 8443, LOOPBACK),
        ("tcp", ONE, 8443, ONE),
    ]


async def test_each_transport_has_its_port() -> None:
    found = await announced(ONE, ICEPORTUDP="1000", ICEPORTTCP="2000")
    assert found == [("udp", ONE, 1000, ONE), ("tcp", ONE, 2000, ONE)]


@pytest.mark.parametrize("address", ["::1", "fe80::1", "ff02::1"])
def test_of_ipv6_only_global_addresses_count_and_only_when_enabled(address: str) -> None:
    assert local_ips(settings(), [ONE, SIX, address]) == [ONE]
    assert local_ips(settings(ENABLEIPV6="true"), [ONE, SIX, address]) == [ONE, SIX]


@pytest.mark.parametrize("local", [(), (SIX,)])
async def test_without_any_usable_address_the_start_fails_in_the_words_of_the_original(
    local: tuple[str, ...],
) -> None:
    with pytest.raises(AddressError) as caught:
        await announced(*local)
    assert str(caught.value) == "no valid address to listen on was found"


async def test_listed_addresses_narrow_what_is_told() -> None:
    found = await announced(LOOPBACK, ONE, TWO, ICEADDRESSUDP=ONE, ICEADDRESSTCP=f"{ONE},{TWO}")
    assert of("udp", found) == [(ONE, 8443)]
    assert of("tcp", found) == [(ONE, 8443), (TWO, 8443)]


async def test_addresses_that_are_listed_for_one_transport_narrow_the_other_too() -> None:
    found = await announced(LOOPBACK, ONE, TWO, ICEADDRESSUDP=ONE)
    assert (of("udp", found), of("tcp", found)) == ([(ONE, 8443)], [(ONE, 8443)])


async def test_a_listed_address_that_is_not_ours_is_left_out_and_alone_fails_the_start() -> None:
    assert of("udp", await announced(ONE, ICEADDRESSUDP=f"{ONE},192.0.2.9")) == [(ONE, 8443)]
    with pytest.raises(AddressError, match="no valid address to listen on was found"):
        await announced(ONE, ICEADDRESSUDP="192.0.2.9")


async def test_any_loopback_address_may_be_listed() -> None:
    found = await announced(LOOPBACK, ONE, ICEADDRESSUDP="127.0.0.2")
    assert of("udp", found) == [("127.0.0.2", 8443)]


@pytest.mark.parametrize("anywhere", ["0.0.0.0", "::", f"0.0.0.0,{TWO}"])
async def test_the_unspecified_address_means_all(anywhere: str) -> None:
    assert of("udp", await announced(ONE, TWO, ICEADDRESSUDP=anywhere)) == [
        (ONE, 8443),
        (TWO, 8443),
    ]


async def test_the_only_local_address_is_told_as_the_override_address() -> None:
    for local in (ONE, LOOPBACK):
        found = await announced(local, ICEHOSTOVERRIDE=PUBLIC)
        assert found == [("udp", PUBLIC, 8443, local), ("tcp", PUBLIC, 8443, local)]


async def test_of_several_local_addresses_loopback_stays_and_the_others_become_one_candidate() -> (
    None
):
    found = await announced(LOOPBACK, ONE, TWO, ICEHOSTOVERRIDE=PUBLIC)
    assert of("udp", found) == [(LOOPBACK, 8443), (PUBLIC, 8443)]
    assert of("tcp", found) == [(LOOPBACK, 8443), (PUBLIC, 8443)]
    local = local_ips(settings(), [LOOPBACK, ONE, TWO])
    assert bind_addresses(settings(), "udp", local) == [LOOPBACK, ONE, TWO]  # all are listened on


async def test_an_override_replaces_addresses_of_its_family_only() -> None:
    found = await announced(ONE, SIX, ENABLEIPV6="true", ICEHOSTOVERRIDE=PUBLIC)
    assert of("udp", found) == [(PUBLIC, 8443), (SIX, 8443)]


async def test_a_host_name_is_resolved_for_each_family() -> None:
    name = {"ENABLEIPV6": "true", "ICEHOSTOVERRIDE": "sfu"}
    resolve = resolving(sfu=["2001:db8::9", PUBLIC, "9.9.9.9"])
    found = await announced(ONE, SIX, resolve=resolve, **name)
    assert of("udp", found) == [(PUBLIC, 8443), ("2001:db8::9", 8443)]


async def test_pairs_are_taken_as_they_are_and_who_is_in_none_stands_for_itself() -> None:
    pairs = f"{PUBLIC}/{ONE}, 9.9.9.9/{TWO}"
    found = await announced(LOOPBACK, ONE, TWO, ICEHOSTOVERRIDE=pairs)
    assert of("udp", found) == [(LOOPBACK, 8443), (PUBLIC, 8443), ("9.9.9.9", 8443)]


@pytest.mark.parametrize("text", ["8.8.8.8/", "/10.0.0.1", "sfu/10.0.0.1", "8.8.8.8/10.0.0.1,x"])
async def test_a_pair_of_another_form_is_named(text: str) -> None:
    with pytest.raises(AddressError, match=r"rtc\.ice_host_override: .* EXTERNAL/LOCAL"):
        await announced(ONE, ICEHOSTOVERRIDE=text)


async def test_without_an_override_the_stun_server_says_what_the_outside_sees() -> None:
    discover = discovering(a10_0_0_1=PUBLIC)
    found = await announced(LOOPBACK, ONE, TWO, discover=discover, ICESERVERS=STUN)
    assert of("udp", found) == [(LOOPBACK, 8443), (PUBLIC, 8443), (TWO, 8443)]
    assert of("tcp", found) == [(LOOPBACK, 8443), (PUBLIC, 8443), (TWO, 8443)]


async def test_an_override_wins_over_the_stun_server() -> None:
    found = await announced(ONE, ICEHOSTOVERRIDE=PUBLIC, ICESERVERS=STUN)
    assert of("udp", found) == [(PUBLIC, 8443)]


async def test_several_local_addresses_behind_one_public_address_are_one_candidate() -> None:
    discover = discovering(a10_0_0_1=PUBLIC, a10_0_0_2=PUBLIC)
    found = await announced(ONE, TWO, discover=discover, ICESERVERS=STUN)
    assert found == [("udp", PUBLIC, 8443, ONE), ("tcp", PUBLIC, 8443, ONE)]


@pytest.mark.parametrize("url", ["stun:192.0.2.1", "stun:nowhere:3478"])
async def test_a_stun_server_that_cannot_be_asked_only_warns(url: str) -> None:
    async def unknown(host: str) -> Sequence[str]:
        raise AddressError(f"{host} cannot be resolved")

    found = await announced(ONE, resolve=unknown, ICESERVERS=json.dumps([url]))
    assert of("udp", found) == [(ONE, 8443)]


def test_the_first_url_of_the_first_stun_server_counts() -> None:
    turn = IceServer(("turn:t:1",))
    one, two = IceServer(("stuns:a:1", "stun:b:2")), IceServer(("stun:c:3",))
    assert first_stun_url([]) is None
    assert first_stun_url([turn]) is None
    assert first_stun_url([turn, one, two]) == "stuns:a:1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stun:a.example:3478", ("a.example", 3478)),
        ("stuns:1.2.3.4:5349", ("1.2.3.4", 5349)),
        ("stun:[2001:db8::1]:3478", ("2001:db8::1", 3478)),
        ("stun:a:1?transport=udp", ("a", 1)),
    ],
)
def test_a_stun_url_has_a_host_and_a_port(url: str, expected: tuple[str, int]) -> None:
    assert stun_address(url) == expected


@pytest.mark.parametrize("url", ["stun:a.example", "stun:", "stun::3478", "stun:a:x"])
@pytest.mark.documents("a-stun-server-without-a-port")
def test_a_stun_url_without_a_port_is_refused(url: str, documented: Any) -> None:
    with pytest.raises(AddressError) as refused:
        stun_address(url)
    documented("a-stun-server-without-a-port", str(refused.value))


# the port that is told


@pytest.mark.parametrize("port", ["443", f"{LOOPBACK}/443", f"192.0.2.7/80,{ONE}/443"])
async def test_another_port_is_told_with_external_addresses_only(port: str) -> None:
    local = (LOOPBACK, ONE)
    assert of("udp", await announced(*local, ICEHOSTPORTOVERRIDE=port)) == [
        (LOOPBACK, 8443),
        (ONE, 8443),
    ]
    found = await announced(*local, ICEHOSTOVERRIDE=PUBLIC, ICEHOSTPORTOVERRIDE=port)
    for transport in ("udp", "tcp"):
        assert of(transport, found) == [(LOOPBACK, 8443), (PUBLIC, 443)]


async def test_another_port_is_told_for_a_host_name_as_well() -> None:
    """Trap 30: the original compares the name with resolved addresses, and finds none."""
    found = await announced(
        ONE, resolve=resolving(sfu=[PUBLIC]), ICEHOSTOVERRIDE="sfu", ICEHOSTPORTOVERRIDE="443"
    )
    assert of("udp", found) == [(PUBLIC, 443)]


async def test_another_port_is_told_for_what_a_stun_server_found() -> None:
    found = await announced(
        ONE,
        TWO,
        discover=discovering(a10_0_0_1=PUBLIC),
        ICESERVERS=STUN,
        ICEHOSTPORTOVERRIDE="443",
    )
    assert of("udp", found) == [(PUBLIC, 443), (TWO, 8443)]


async def test_of_pairs_another_port_is_told_where_the_sides_differ() -> None:
    pairs = f"{PUBLIC}/{ONE},{TWO}/{TWO}"
    found = await announced(ONE, TWO, ICEHOSTOVERRIDE=pairs, ICEHOSTPORTOVERRIDE="443")
    assert of("udp", found) == [(PUBLIC, 443), (TWO, 8443)]


async def test_a_port_map_of_many_machines_gives_each_its_own_port() -> None:
    """One configuration for all nodes behind one address (rtcd.md 6.3)."""
    ports = f"{ONE}/1001,{TWO}/1002"
    for node, port in ((ONE, 1001), (TWO, 1002), ("10.0.0.3", 8443)):
        found = await announced(node, ICEHOSTOVERRIDE=PUBLIC, ICEHOSTPORTOVERRIDE=ports)
        assert of("udp", found) == [(PUBLIC, port)]


# host names


class Names:
    """A name service that a test switches off."""

    def __init__(self) -> None:
        self.answers = [PUBLIC]
        self.asked = 0

    async def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked += 1
        if not self.answers:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(0, 0, 0, "", (address, 0)) for address in self.answers]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr("sfu.addresses.asyncio.get_running_loop", lambda: names)
    return names


async def test_a_host_name_is_resolved_once_a_minute_and_its_last_answer_kept(names: Names) -> None:
    """Trap 31: the original resolves at every join, and fails joins when that fails."""
    clock = ManualClock()
    resolve = CachedResolver(clock=clock)
    for _ in range(10):
        assert await resolve("sfu") == [PUBLIC]
    assert names.asked == 1
    clock.advance(seconds=61)
    names.answers = ["9.9.9.9"]
    assert await resolve("sfu") == ["9.9.9.9"]
    clock.advance(seconds=61)
    names.answers = []
    for _ in range(10):  # a name service that is away is asked no more often
        assert await resolve("sfu") == ["9.9.9.9"]
    assert names.asked == 3


async def test_a_host_name_that_never_resolved_is_named(names: Names) -> None:
    names.answers = []
    with pytest.raises(AddressError, match="host name 'sfu' cannot be resolved: Temporary failure"):
        await CachedResolver(clock=ManualClock())("sfu")


def test_this_machines_own_addresses_can_be_had() -> None:
    assert LOOPBACK in local_ips(settings())


def test_a_candidate_is_what_the_transports_need() -> None:
    entry = AnnouncedAddress("udp", PUBLIC, 443, ONE)
    assert (entry.transport, entry.address, entry.port, entry.bind_address) == (
        *("udp", PUBLIC, 443, ONE),
    )

"""A client's addresses: those of its host, and what configured STUN servers say of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from rtc import stun
from rtc.ice.credentials import IceCredentials
from rtc.net import client_network
from rtc.net.client_network import ClientNetwork
from rtc.net.client_servers import ServerCandidates
from rtc.net.transport import IceTransport
from rtc.turn.servers import IceServer, ServerUrl

MAPPED = ("203.0.113.9", 41_000)


async def _no_tls() -> ssl.SSLContext:
    raise FileNotFoundError


@pytest.fixture
async def client() -> AsyncIterator[tuple[IceTransport, ServerCandidates, list[str]]]:
    """A transport on loopback, what adds servers to it, and the candidates that it told later."""
    later: list[str] = []
    network = ClientNetwork(addresses=["127.0.0.1"])
    transport = IceTransport(
        network,
        controlling=True,
        on_data=lambda data: None,
        on_selected=lambda: None,
        on_lost=lambda reason: None,
        on_candidate=later.append,
    )
    servers = network.servers = ServerCandidates(network, transport, make_tls=_no_tls)
    yield transport, servers, later
    transport.close()
    await asyncio.sleep(0)


@pytest.fixture
def stun_server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(25):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_address_that_a_stun_server_sees_is_announced_and_told_later(
    client: tuple[IceTransport, ServerCandidates, list[str]], stun_server: socket.socket
) -> None:
    transport, servers, later = client
    url = ServerUrl.parse(f"stun:127.0.0.1:{stun_server.getsockname()[1]}")
    servers.use([IceServer((url,))], relay_after_s=float("inf"))
    loop = asyncio.get_running_loop()
    lost, _ = await loop.sock_recvfrom(stun_server, 2048)
    request, source = await loop.sock_recvfrom(stun_server, 2048)
    assert request == lost
    answer = stun.binding_success(request[8:20], mapped=MAPPED, key=None)
    stun_server.sendto(answer, source)
    await _until(lambda: later)
    [line] = later
    assert "203.0.113.9 41000 typ srflx raddr 127.0.0.1" in line
    assert line in transport.candidate_lines()


async def test_without_servers_nothing_is_sent_to_anybody(
    client: tuple[IceTransport, ServerCandidates, list[str]], stun_server: socket.socket
) -> None:
    _, servers, later = client
    servers.use([], relay_after_s=0)
    await asyncio.sleep(0.05)
    with pytest.raises(BlockingIOError):
        stun_server.recvfrom(2048)
    assert later == []
    assert servers.reports == []


async def test_by_default_all_addresses_are_used_ipv4_first_and_16_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = ["::1", *(f"127.0.0.{number}" for number in range(1, 20))]
    monkeypatch.setattr(client_network, "local_addresses", lambda *, ipv6: own)
    hosts = list(dict.fromkeys(c.candidate.host for c in ClientNetwork(udp=False).candidates()))
    assert hosts == [f"127.0.0.{number}" for number in range(1, 17)]
    monkeypatch.setattr(client_network, "local_addresses", lambda *, ipv6: ["::1", "127.0.0.1"])
    hosts = [c.candidate.host for c in ClientNetwork(udp=False).candidates()]
    assert hosts == ["127.0.0.1", "::1"]


async def test_for_relays_alone_no_address_of_the_host_is_told() -> None:
    network = ClientNetwork(relay_only=True)
    assert list(network.candidates()) == []
    assert network.udp_sockets == {}


@pytest.mark.parametrize("resolves", [True, False])
async def test_a_candidate_that_names_a_host_is_paired_by_its_address_at_clients_only(
    resolves: bool,
) -> None:
    transport = IceTransport(
        ClientNetwork(addresses=["127.0.0.1"], tcp=False),
        controlling=True,
        on_data=lambda data: None,
        on_selected=lambda: None,
        on_lost=lambda reason: None,
        resolve_names=resolves,
    )
    transport.start(IceCredentials.generate())
    transport.add_remote_candidate("candidate:1 1 udp 1 localhost 9 typ host")
    if resolves:
        await _until(transport.pairs)
    else:
        await asyncio.sleep(0.05)
    remotes = [pair.path.remote for pair in transport.pairs()]
    assert remotes == ([("127.0.0.1", 9)] if resolves else [])
    transport.close()


async def test_a_candidate_that_comes_before_the_answer_to_our_restart_is_used_after_it() -> None:
    """Servers send them as soon as they know the offer, by another way than the answer."""
    transport = IceTransport(
        ClientNetwork(addresses=["127.0.0.1"], tcp=False),
        controlling=True,
        on_data=lambda data: None,
        on_selected=lambda: None,
        on_lost=lambda reason: None,
    )
    transport.start(IceCredentials.generate())
    transport.prepare_restart()
    transport.add_remote_candidate("candidate:1 1 udp 1 127.0.0.1 9 typ host")
    transport.commit_restart()
    assert transport.pairs() == ()
    transport.start(IceCredentials.generate())
    assert [pair.path.remote for pair in transport.pairs()] == [("127.0.0.1", 9)]
    transport.close()

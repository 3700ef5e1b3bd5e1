"""Two SFUs behind one name: who takes a call, who is flagged, dropped, found again (rtcd.md 4.2).

The clients are played and the clock is virtual; the resolver is a dictionary that a test changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sfu.messages import Leave, Message
from testbed.plugin.resolution import HostsFile, resolve_ipv4
from testbed.plugin.rtcd import Credentials, RtcdError, RtcdUrl
from testbed.plugin.rtcd_hosts import RtcdHosts

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
_NAME = "sfu.test"


class Network:
    """All SFUs of a test, and the name they share."""

    def __init__(self) -> None:
        self.addresses = [A, B]
        self.loads: dict[str, float | None] = {A: 0.5, B: 0.5, C: 0.5}
        """None: no answer."""
        self.refused: set[str] = set()
        """Those that nobody can connect to."""
        self.attempts: list[tuple[float, str]] = []
        """When a connection was tried."""
        self.clients: dict[str, PlayedClient] = {}
        """The newest of each address."""

    async def resolve(self, host: str) -> list[str]:
        assert host == _NAME
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses

    def client(self, url: RtcdUrl, address: str, credentials: Any, **_: Any) -> PlayedClient:
        assert str(url) == f"http://{_NAME}:8045"
        return PlayedClient(self, address)

    def attempts_at(self, address: str) -> list[float]:
        return [at_s for at_s, who in self.attempts if who == address]


class PlayedClient:
    """In the place of RtcdClient."""

    def __init__(self, network: Network, address: str) -> None:
        self.version = {"buildVersion": f"dev-{address}"}
        self.sent: list[Message] = []
        self.closed = False
        self.lost = asyncio.Event()
        self._network = network
        self._address = address

    async def connect(self) -> None:
        self._network.attempts.append((asyncio.get_running_loop().time(), self._address))
        if self._address in self._network.refused:
            raise RtcdError(f"{self._address} refuses")
        self._network.clients[self._address] = self

    async def run(self) -> None:
        await self.lost.wait()

    async def close(self) -> None:
        self.closed = True

    def send(self, message: Message) -> None:
        self.sent.append(message)

    async def cpu_load(self) -> float:
        load = self._network.loads[self._address]
        if load is None:
            raise RtcdError("no answer")
        return load


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr("testbed.plugin.rtcd_hosts.RtcdClient", network.client)
    return network


async def _ignore(_: Message) -> None:
    return None


class Running:
    """The hosts of a test, activated and kept."""

    def __init__(self, network: Network, *, jitter_s: float = 0.0) -> None:
        self.hosts = RtcdHosts(
            RtcdUrl("http", _NAME, 8045),
            Credentials("standin", "k" * 32),
            on_message=_ignore,
            resolve=network.resolve,
            jitter_s=jitter_s,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RtcdHosts:
        await self.hosts.activate()
        self._task = asyncio.create_task(self.hosts.run())
        return self.hosts

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert not self._task.done(), self._task.exception()
        self._task.cancel()
        await asyncio.wait([self._task])


def _states(hosts: RtcdHosts) -> dict[object, str]:
    return {
        h["address"]: ("connected" if h["connected"] else "lost")
        + (" flagged" if h["flagged"] else "")
        for h in hosts.describe()
    }


@pytest.mark.looptime
async def test_each_address_of_the_name_gets_a_connection(network: Network) -> None:
    async with Running(network) as hosts:
        assert _states(hosts) == {A: "connected", B: "connected"}
        assert hosts.version() == {"buildVersion": f"dev-{A}"}


@pytest.mark.looptime
@pytest.mark.parametrize("refusing", [A, B])
async def test_one_host_that_cannot_be_used_fails_the_activation_and_leaves_nothing_open(
    network: Network, refusing: str
) -> None:
    network.refused = {refusing}
    with pytest.raises(RtcdError, match=refusing):
        await Running(network).hosts.activate()
    assert all(client.closed for client in network.clients.values())


@pytest.mark.looptime
async def test_a_name_without_an_address_fails_the_activation(network: Network) -> None:
    network.addresses = []
    with pytest.raises(RtcdError, match=f"http://{_NAME}:8045 cannot be resolved"):
        await Running(network).hosts.activate()


@pytest.mark.looptime
@pytest.mark.parametrize(("loads", "chosen"), [((0.2, 0.1), B), ((0.1, 0.2), A), ((None, 9.0), B)])
async def test_a_new_call_goes_to_the_lowest_load_that_is_told(
    network: Network, loads: tuple[float | None, float | None], chosen: str
) -> None:
    network.loads = dict(zip((A, B), loads, strict=True))
    async with Running(network) as hosts:
        assert await hosts.host_for_new_call() == chosen


@pytest.mark.looptime
async def test_where_none_tells_its_load_any_host_will_do(network: Network) -> None:
    network.loads = {A: None, B: None}
    async with Running(network) as hosts:
        assert {await hosts.host_for_new_call() for _ in range(64)} == {A, B}


@pytest.mark.looptime
async def test_a_host_that_vanished_from_the_name_takes_no_new_calls_but_keeps_its_own(
    network: Network,
) -> None:
    network.loads = {A: 0.1, B: 0.9}
    async with Running(network) as hosts:
        network.addresses = [B]
        await asyncio.sleep(9)
        assert await hosts.host_for_new_call() == A
        await asyncio.sleep(2)
        assert _states(hosts) == {A: "connected flagged", B: "connected"}
        assert await hosts.host_for_new_call() == B
        hosts.send(A, Leave("s1"))
        assert network.clients[A].sent == [Leave("s1")]


@pytest.mark.looptime
async def test_a_host_that_returns_to_the_name_takes_calls_again(network: Network) -> None:
    network.loads = {A: 0.1, B: 0.9}
    async with Running(network) as hosts:
        network.addresses = [B]
        await asyncio.sleep(11)
        network.addresses = [A, B]
        await asyncio.sleep(10)
        assert await hosts.host_for_new_call() == A
        assert len(network.attempts_at(A)) == 1


@pytest.mark.looptime
async def test_an_address_that_is_new_gets_a_connection_within_the_jitter(network: Network) -> None:
    async with Running(network, jitter_s=5.0) as hosts:
        network.addresses = [A, B, C]
        await asyncio.sleep(16)
        assert _states(hosts)[C] == "connected"
        assert 10 <= network.attempts_at(C)[0] <= 15


@pytest.mark.looptime
async def test_an_address_that_is_new_and_refuses_is_tried_at_the_next_look(
    network: Network,
) -> None:
    network.refused = {C}
    async with Running(network) as hosts:
        network.addresses = [A, B, C]
        await asyncio.sleep(15)
        assert C not in _states(hosts)
        network.refused = set()
        await asyncio.sleep(10)
        assert network.attempts_at(C) == [10, 20]
        assert _states(hosts)[C] == "connected"


@pytest.mark.looptime
async def test_a_name_that_cannot_be_resolved_for_a_while_changes_nothing(network: Network) -> None:
    async with Running(network) as hosts:
        network.addresses = []
        await asyncio.sleep(25)
        assert _states(hosts) == {A: "connected", B: "connected"}


@pytest.mark.looptime
async def test_while_nobody_is_connected_or_unflagged_there_is_no_new_call(
    network: Network,
) -> None:
    async with Running(network) as hosts:
        network.refused = {A, B}
        network.addresses = [A]
        await asyncio.sleep(11)
        network.clients[A].lost.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(RtcdError, match="no SFU is available"):
            await hosts.host_for_new_call()


@pytest.mark.looptime
async def test_a_lost_host_is_tried_after_growing_waits_and_dropped_before_the_eighth_attempt(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.plugin.rtcd_hosts.random.uniform", lambda low, high: high)
    async with Running(network, jitter_s=1.0) as hosts:
        network.refused = {A}
        lost_s = asyncio.get_running_loop().time()
        network.clients[A].lost.set()
        await asyncio.sleep(28.5)
        waited = [at_s - lost_s for at_s in network.attempts_at(A)[1:]]
        assert waited == [1, 3, 6, 10, 15, 21, 28]
        await asyncio.sleep(1)
        assert A not in _states(hosts)
        network.refused = set()
        await asyncio.sleep(11)  # still in the name: found again
        assert _states(hosts)[A] == "connected"


@pytest.mark.looptime
async def test_a_lost_host_comes_back_with_a_fresh_client_and_nothing_is_bound_anew(
    network: Network,
) -> None:
    async with Running(network) as hosts:
        first = network.clients[A]
        hosts.send(A, Leave("s1"))
        first.lost.set()
        await asyncio.sleep(1)
        second = network.clients[A]
        assert second is not first
        assert (first.sent, second.sent) == ([Leave("s1")], [])
        assert _states(hosts)[A] == "connected"


@pytest.mark.looptime
async def test_a_flagged_host_that_is_lost_is_dropped_at_once(network: Network) -> None:
    async with Running(network) as hosts:
        network.addresses = [B]
        await asyncio.sleep(11)
        network.clients[A].lost.set()
        await asyncio.sleep(0.1)
        assert _states(hosts) == {B: "connected"}
        assert len(network.attempts_at(A)) == 1


@pytest.mark.looptime
async def test_what_is_sent_to_a_host_that_is_away_is_lost_and_hurts_nobody(
    network: Network,
) -> None:
    async with Running(network) as hosts:
        hosts.send(C, Leave("s1"))
        assert not [message for client in network.clients.values() for message in client.sent]


async def test_a_hosts_file_is_read_at_every_question(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(f"{B} other {_NAME}  # twice\n{A} {_NAME}\n\n192.0.2.9 other\n")
    resolve: Callable[[str], Awaitable[list[str]]] = HostsFile(file)
    assert await resolve(_NAME) == [A, B]
    file.write_text(f"{A} {_NAME}\n")
    assert await resolve(_NAME) == [A]
    with pytest.raises(OSError, match="no address of elsewhere"):
        await resolve("elsewhere")


async def test_an_address_resolves_to_itself() -> None:
    assert await resolve_ipv4("127.0.0.1") == ["127.0.0.1"]

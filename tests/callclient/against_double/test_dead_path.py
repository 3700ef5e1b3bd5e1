"""UDP dies in mid-call: pion keeps the pair it has unless a better one is nominated, which TCP is not, so
that only an ICE restart brings media back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from callclient.events import MediaLost, MediaRestored
from callclient.path_watch import LOST_AFTER_NS
from rtc.ice.path import Path
from rtc.ice.selection import Selection
from rtc.net.client_network import ClientNetwork

_NS = 1_000_000_000


@pytest.fixture
def pion_nominations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controlled side follows nominations upwards only."""

    def take_nomination(self: Any, generation: Any, pair: Any, now_ns: int) -> None:
        present = self.pair
        if not pair.nominated_ns or pair is present:
            return
        if present is None or self.generation is not generation or pair.priority > present.priority:
            self._select(generation, pair, now_ns)

    monkeypatch.setattr(Selection, "take_nomination", take_nomination)


@pytest.fixture
def udp_dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and no client sends or gets a datagram any more."""
    dead = False
    send, came = ClientNetwork.send, ClientNetwork.datagram_came

    def send_if_alive(self: Any, path: Path, datagram: bytes, transport: Any) -> None:
        if not dead or path.transport == "tcp":
            send(self, path, datagram, transport)

    def came_if_alive(self: Any, path: Path, data: bytes) -> None:
        if not dead:
            came(self, path, data)

    def die() -> None:
        nonlocal dead
        dead = True

    monkeypatch.setattr(ClientNetwork, "send", send_if_alive)
    monkeypatch.setattr(ClientNetwork, "datagram_came", came_if_alive)
    return die


async def _gap(guest: Any, tools: Any) -> list[Any]:
    """MediaLost and MediaRestored, each once."""

    def told() -> list[Any]:
        return [e for e in guest.events if isinstance(e, MediaLost | MediaRestored)]

    await tools.until(lambda: len(told()) == 2)
    return told()


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of this host; change it."""
    own = ["127.0.0.2"]
    monkeypatch.setattr("rtc.net.client_network.local_addresses", lambda *, ipv6: list(own))
    monkeypatch.setattr("callclient.path_keeper._ADDRESSES_EVERY_S", 0.05)
    return own


def _ufrags(guest: Any, kind: str) -> list[str]:
    found = [re.search(r"a=ice-ufrag:(\S+)", sdp) for sent, sdp in guest.sent if sent == kind]
    return [match[1] for match in found if match is not None]


@pytest.mark.parametrize("dc_signaling", [False, True])
async def test_media_comes_back_over_tcp_by_an_ice_restart(
    lobby: Any,
    tools: Any,
    pion_nominations: None,
    udp_dies: Callable[[], None],
    dc_signaling: bool,
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double, dc_signaling=dc_signaling)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    await tools.heard(voice, track, b"\xf8one")
    died_ns = time.monotonic_ns()
    udp_dies()
    began_s = asyncio.get_running_loop().time()
    await tools.heard(voice, track, b"\xf8two")
    assert asyncio.get_running_loop().time() - began_s < 8
    lost, restored = await _gap(listener, tools)
    assert lost.since_ns <= died_ns < restored.at_ns
    assert restored.at_ns - lost.since_ns >= LOST_AFTER_NS
    first, *restarts = _ufrags(listener, "offer")
    assert restarts
    assert first not in restarts
    double.puppet("bob").voice().send(tools.silence)  # offers, the data channel and answers go on
    await tools.until(lambda: len(listener.tracks) == 2)
    assert listener.book.foreign_unlocks == 0


@pytest.mark.slow
async def test_without_a_restart_pion_would_not_follow(
    lobby: Any,
    tools: Any,
    pion_nominations: None,
    udp_dies: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Holds the test above to its purpose."""
    monkeypatch.setattr("callclient.path_watch.RESTART_AFTER_NS", 99 * _NS)
    double = await lobby.double()
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    await tools.heard(voice, track, b"\xf8one")
    udp_dies()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await tools.heard(voice, track, b"\xf8two")


async def test_a_restart_that_meets_an_offer_of_the_server_gives_way_and_comes_again(
    lobby: Any, tools: Any, pion_nominations: None, udp_dies: Callable[[], None]
) -> None:
    """An open offer of ours would make us refuse theirs, and the server would be stuck for good."""
    double = await lobby.double()
    listener = await lobby.enter(double)
    listener.hold.add("offer")
    udp_dies()
    await tools.until(lambda: listener.held)
    double.puppet("alice").voice().send(tools.silence)
    await tools.until(lambda: len(listener.tracks) == 1)
    assert _ufrags(listener, "answer") == _ufrags(listener, "offer")[:1]
    listener.hold.clear()
    voice = double.puppet("bob").voice()
    voice.send(tools.silence)
    await tools.heard(voice, await listener.track(2), b"\xf8two")
    assert len(set(_ufrags(listener, "offer"))) == 2


async def test_when_the_address_of_the_path_goes_media_moves_to_a_new_one_by_a_restart(
    lobby: Any, tools: Any, pion_nominations: None, addresses: list[str]
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    await tools.heard(voice, track, b"\xf8one")
    addresses[:] = ["127.0.0.3"]
    await tools.until(lambda: len(_ufrags(listener, "offer")) == 2)
    await tools.heard(voice, track, b"\xf8two")
    [selected] = [pair for pair in listener.media._transport.pairs() if pair.selected]
    assert selected.path.local[0] == "127.0.0.3"
    assert len(set(_ufrags(listener, "offer"))) == 2
    double.puppet("bob").voice().send(tools.silence)
    await tools.until(lambda: len(listener.tracks) == 2)
    assert listener.book.foreign_unlocks == 0


async def test_an_address_that_comes_after_the_old_one_went_is_found_too(
    lobby: Any, tools: Any, pion_nominations: None, addresses: list[str]
) -> None:
    """A host between two networks: nothing for a while."""
    double = await lobby.double()
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    await tools.heard(voice, track, b"\xf8one")
    addresses.clear()
    await tools.until(lambda: len(_ufrags(listener, "offer")) > 1)
    addresses[:] = ["127.0.0.3"]
    await tools.heard(voice, track, b"\xf8two")


async def test_a_new_address_beside_one_that_works_is_announced_and_changes_nothing(
    lobby: Any, tools: Any, addresses: list[str]
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    addresses.append("127.0.0.3")
    transport = listener.media._transport
    await tools.until(lambda: any(p.path.local[0] == "127.0.0.3" for p in transport.pairs()))
    await tools.heard(voice, track, b"\xf8one")
    [selected] = [pair for pair in transport.pairs() if pair.selected]
    assert selected.path.local[0] == "127.0.0.2"
    assert len(_ufrags(listener, "offer")) == 1
    assert not [e for e in listener.events if isinstance(e, MediaLost)]

"""Offers of an ICE restart that are lost, withdrawn or repeated change nothing until one is answered."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rtc.negotiation import Capabilities
from rtc.net.client_network import client_transport
from rtc.peer import Peer


class _Nobody:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def _peer(*, controlling: bool) -> Peer:
    return Peer(
        ice=lambda on_data, on_selected, on_lost: client_transport(
            controlling=controlling,
            on_data=on_data,
            on_selected=on_selected,
            on_lost=on_lost,
            addresses=["127.0.0.1"],
        ),
        capabilities=Capabilities(audio_codecs=(), video_codecs=()),
        events=_Nobody(),
    )


@pytest.fixture
async def peers() -> AsyncIterator[tuple[Peer, Peer]]:
    """A client and a server after their first exchange."""
    client, server = _peer(controlling=True), _peer(controlling=False)
    client.negotiation.add_data_section()
    await client.accept_answer(await server.accept_offer(await client.create_offer()))
    yield client, server
    await client.close()
    await server.close()


def _ufrag(sdp: str) -> str:
    match = re.search(r"a=ice-ufrag:(\S+)", sdp)
    assert match is not None
    return match[1]


async def test_a_withdrawn_restart_leaves_our_answers_and_the_server_as_they_were(
    peers: tuple[Peer, Peer],
) -> None:
    client, server = peers
    before = _ufrag(await client.create_offer())
    client.negotiation.withdraw_offer()
    client.restart_ice()
    assert _ufrag(await client.create_offer()) != before
    client.negotiation.withdraw_offer()
    assert _ufrag(await client.accept_offer(await server.create_offer())) == before


async def test_a_restart_that_is_offered_again_is_the_same_one(peers: tuple[Peer, Peer]) -> None:
    """The server may have taken the first, and its answer may be what was lost."""
    client, server = peers
    client.restart_ice()
    first = await client.create_offer()
    lost = await server.accept_offer(first)
    client.negotiation.withdraw_offer()
    client.restart_ice()
    second = await client.create_offer()
    assert _ufrag(second) == _ufrag(first)
    answer = await server.accept_offer(second)
    assert _ufrag(answer) == _ufrag(lost)
    await client.accept_answer(answer)
    client.restart_ice()
    assert _ufrag(await client.create_offer()) != _ufrag(first)


async def test_every_offer_asks_for_the_restart_until_one_is_answered(
    peers: tuple[Peer, Peer],
) -> None:
    client, server = peers
    client.restart_ice()
    offer = await client.create_offer()
    await client.accept_answer(await server.accept_offer(offer))
    assert _ufrag(await client.create_offer()) == _ufrag(offer)

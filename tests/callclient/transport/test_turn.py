"""Media through a real TURN server, over each way to it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from callclient.errors import MediaFailed
from callclient.events import MediaLost
from sfu.turn import credentials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_scope="module"),
]


async def _offer_relay(site: Any, coturn: Any, *links: str) -> None:
    """The plugin names the server and has short-lived credentials for it."""
    urls = [coturn.url(link) for link in links]
    await site.configure(ICEServersConfigs=[{"urls": urls}], TURNStaticAuthSecret=coturn.secret)


@pytest.mark.parametrize("link", ["udp", "tcp", "tls"])
async def test_a_call_goes_through_turn_alone_and_gives_the_relay_back(
    site: Any, coturn: Any, link: str
) -> None:
    await _offer_relay(site, coturn, link)
    alice = await site.join("alice", ice_transport="relay", ca_file=coturn.ca_file)
    bob = await site.join("bob")
    await bob.talk()
    await alice.hears()
    carol = await site.join("carol", ice_transport="relay", ca_file=coturn.ca_file)
    await carol.talk()
    await alice.hears()
    await carol.go()
    await alice.go()
    await coturn.logged(":alice>, lifetime=0")


async def test_where_nothing_direct_gets_through_a_relay_is_found_and_carries_on(
    site: Any, coturn: Any, cut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callclient.path_keeper._ADDRESSES_EVERY_S", 0.05)
    await _offer_relay(site, coturn, "udp", "tcp", "tls")
    low, high = coturn.relay_ports
    async with (
        cut("udp", site.media_port, let_through=f"{low}:{high}"),
        cut("tcp", site.media_port),
    ):
        began_s = time.monotonic()
        alice = await site.join("alice")
        assert time.monotonic() - began_s < 6
        bob = await site.join("bob")
        await bob.talk()
        await alice.hears()
        await alice.hears()  # the addresses of the host were looked at meanwhile
        assert not [e for e in alice.events if isinstance(e, MediaLost)]


async def test_when_the_direct_way_dies_in_mid_call_a_relay_takes_over(
    site: Any, coturn: Any, cut: Any
) -> None:
    await _offer_relay(site, coturn, "tls", "udp")
    alice, bob = await site.join("alice"), await site.join("bob")
    await bob.talk()
    await alice.hears()
    low, high = coturn.relay_ports
    async with (
        cut("udp", site.media_port, let_through=f"{low}:{high}"),
        cut("tcp", site.media_port),
    ):
        await asyncio.sleep(0.3)
        began_s = time.monotonic()
        await alice.hears()
        assert time.monotonic() - began_s < 8
    await alice.hears()


async def test_a_direct_way_leaves_the_turn_server_alone(site: Any, coturn: Any) -> None:
    await _offer_relay(site, coturn, "udp")
    alice, bob = await site.join("alice"), await site.join("bob")
    await bob.talk()
    await alice.hears()
    await asyncio.sleep(2.5)
    assert "ALLOCATE" not in coturn.log.read_text()


@pytest.mark.documents("turn-credentials-that-are-refused")
async def test_expired_credentials_are_named_in_the_failure(
    site: Any, coturn: Any, documented
) -> None:
    username, password = credentials(
        secret=coturn.secret, name="alice", expiration_minutes=1, now_s=time.time() - 3600
    )
    server = {"urls": [coturn.url("udp")], "username": username, "credential": password}
    await site.configure(ICEServersConfigs=[server])
    with pytest.raises(MediaFailed) as failure:
        await site.join("alice", ice_transport="relay", join_timeout_s=4)
    documented("turn-credentials-that-are-refused", str(failure.value))
    assert password not in str(failure.value)


@pytest.mark.documents("a-turn-server-that-is-not-trusted")
async def test_a_turn_server_of_an_unknown_authority_is_not_trusted(
    site: Any, coturn: Any, documented
) -> None:
    await _offer_relay(site, coturn, "tls")
    with pytest.raises(MediaFailed) as failure:
        await site.join("alice", ice_transport="relay", join_timeout_s=4)
    documented("a-turn-server-that-is-not-trusted", str(failure.value))


@pytest.mark.documents("relay-alone-and-no-turn-server")
async def test_relay_alone_without_a_server_fails_with_that_reason(site: Any, documented) -> None:
    with pytest.raises(MediaFailed) as failure:
        await site.join("alice", ice_transport="relay", join_timeout_s=3)
    documented("relay-alone-and-no-turn-server", str(failure.value))

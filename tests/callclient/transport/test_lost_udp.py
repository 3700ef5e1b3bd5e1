"""Networks that do not let UDP through, from the start or all of a sudden."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from callclient.errors import MediaFailed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_where_udp_is_blocked_a_call_is_joined_over_tcp_within_4_s(
    site: Any, cut: Any
) -> None:
    async with cut("udp", site.media_port):
        began_s = time.monotonic()
        alice = await site.join("alice")
        took_s = time.monotonic() - began_s
        assert took_s < 4
        bob = await site.join("bob")
        await bob.talk()
        await alice.hears()


async def test_when_udp_dies_in_mid_call_media_is_back_within_8_s(site: Any, cut: Any) -> None:
    alice, bob = await site.join("alice"), await site.join("bob")
    await bob.talk()
    await alice.hears()
    async with cut("udp", site.media_port):
        await asyncio.sleep(0.3)  # what was on its way has arrived
        began_s = time.monotonic()
        await alice.hears()
        assert time.monotonic() - began_s < 7.7
        carol = await site.join("carol")
        await carol.talk()  # the data channel and offers work over the new path
        assert await alice.hears() < 2
    assert await alice.hears() < 2


async def test_when_nothing_gets_through_the_failure_names_every_pair(site: Any, cut: Any) -> None:
    async with cut("udp", site.media_port), cut("tcp", site.media_port):
        with pytest.raises(MediaFailed) as failure:
            await site.join("alice", join_timeout_s=6)
    text = str(failure.value)
    for transport in ("udp", "tcp"):
        assert f"{transport} 127.0.0.1:" in text
        assert f"-> 127.0.0.1:{site.media_port}" in text
    assert "relays: no TURN server is configured" in text


async def test_when_everything_dies_in_mid_call_the_failure_names_every_pair(
    site: Any, cut: Any
) -> None:
    alice = await site.join("alice")
    async with cut("udp", site.media_port), cut("tcp", site.media_port):
        with pytest.raises(MediaFailed) as failure:
            async with asyncio.timeout(45):
                await alice.running
    text = str(failure.value)
    assert "no consent" in text
    assert "udp 127.0.0.1:" in text
    assert "tcp 127.0.0.1:" in text


@pytest.mark.documents("udp-and-tcp-are-blocked")
async def test_where_nothing_gets_through_every_way_is_named(
    site: Any, cut: Any, documented: Any
) -> None:
    async with cut("udp", site.media_port), cut("tcp", site.media_port):
        with pytest.raises(MediaFailed) as failed:
            await site.join("alice", join_timeout_s=5)
    documented("udp-and-tcp-are-blocked", str(failed.value))
    assert f":{site.media_port}" in str(failed.value)

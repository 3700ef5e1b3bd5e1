"""The whole client through the stand-in for the plugin, which talks to the double as to an rtcd."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from callclient.errors import MediaFailed
from callclient.events import CallEnded, ParticipantLeft
from callclient.receive.tracks import TrackSource


async def test_a_screen_is_known_to_the_sfu_before_its_first_packet(
    start_site: Any, tools: Any
) -> None:
    """The original refuses video for good whose `screen_on` comes a moment later."""
    site = await start_site()
    alice, bob = await site.join("alice"), await site.join("bob")
    await tools.until(lambda: alice.joined and bob.joined)
    screen, sound = await alice.client.start_screen(with_audio=True)
    screen.send(b"\x10\x00\x00\x00", rtp_timestamp=0, marker=True)
    sound.send(tools.silence, rtp_timestamp=0, marker=False)
    await tools.until(lambda: len(bob.sources()) == 2)
    assert set(bob.sources()) == {TrackSource.SCREEN, TrackSource.SCREEN_AUDIO}
    assert site.double.books[alice.client.session_id].rejected_video == 0


@pytest.mark.documents("no-media-connection")
async def test_a_join_that_only_the_plugin_confirms_fails_with_a_reason_in_time(
    start_site: Any, tools: Any, documented
) -> None:
    """The original tells nobody that it could not make a session."""
    site = await start_site(fails_joins=True)
    alice = await site.join("alice", join_timeout_s=3)
    with pytest.raises(MediaFailed, match=r"no media connection within 3 s") as failed:
        async with asyncio.timeout(25):
            await alice.running
    documented("no-media-connection", str(failed.value))


async def test_a_session_that_the_sfu_ends_shows_in_the_media_when_its_close_is_lost(
    start_site: Any, tools: Any
) -> None:
    """After a reconnect of the plugin, `close` goes to the connection that is gone."""
    site = await start_site()
    alice = await site.join("alice")
    await tools.until(lambda: alice.joined)
    site.double.cut_plugins_off()
    await tools.until(lambda: not site.double.plugins)
    await site.double.leave(alice.client.session_id)
    with pytest.raises(MediaFailed, match="closed the connection"):
        async with asyncio.timeout(25):
            await alice.running


async def test_whom_a_host_removes_leaves_before_the_server_closes_the_media(
    start_site: Any, tools: Any
) -> None:
    site = await start_site()
    alice = await site.join("alice")
    await tools.until(lambda: alice.joined)  # the first one is the host
    bob = await site.join("bob")
    await tools.until(lambda: bob.joined)
    async with httpx.AsyncClient(base_url=site.url) as http:
        response = await http.post(
            f"/plugins/com.mattermost.calls/calls/{site.world.channel_id}/host/remove",
            json={"session_id": bob.client.session_id},
            headers={"Authorization": f"Bearer {site.world.users['alice'].token}"},
        )
    assert response.status_code == 200
    async with asyncio.timeout(25):
        await bob.running
    assert bob.events[-1] == CallEnded("a host removed this session from the call")
    told = ParticipantLeft(bob.client.session_id, site.world.users["bob"].user_id)
    await tools.until(lambda: told in alice.events)

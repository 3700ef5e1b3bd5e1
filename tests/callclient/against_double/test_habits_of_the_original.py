"""What the original's SFU expects of a client before it gives anything."""

from __future__ import annotations

import asyncio
from typing import Any


async def test_the_first_offer_comes_at_once_with_a_data_channel_and_no_media(
    start_site: Any, tools: Any
) -> None:
    """Otherwise the session is closed 10 s after the join; without a channel nothing is ever announced."""
    site = await start_site(first_offer_timeout_s=2.0)
    alice = await site.join("alice")
    await tools.until(lambda: alice.joined)
    [offer] = site.double.books[alice.client.session_id].client_offers
    assert [line for line in offer.splitlines() if line.startswith("m=")] == [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
    ]
    await tools.pause(2.2)
    assert not alice.running.done()


async def test_a_share_in_av1_is_not_for_who_did_not_claim_to_decode_it(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    modern, classic = double.puppet("modern"), double.puppet("classic")
    tools.show(modern.screen(codec="AV1"), 0, key=True)
    modern.stop_screen()
    tools.show(classic.screen(), 0, key=True)
    track = await listener.track()
    assert track.session_id == classic.config.session_id
    await tools.until(lambda: listener.book.announced)
    assert len(listener.book.announced) == 1


async def test_who_sends_transport_feedback_gets_the_high_layer(lobby: Any, tools: Any) -> None:
    double = await lobby.double(
        low_window_s=0.05, high_window_s=0.05, first_estimate_bps=250_000, switch_wait_s=0.0
    )
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    low, high = alice.screen(rid="l"), alice.screen(rid="h")

    async def share() -> None:
        number = 0
        while True:
            number += 1
            tools.show(low, number, key=True)
            tools.show(high, number, key=True)
            await asyncio.sleep(0.02)

    sharing = asyncio.create_task(share())
    await tools.until(lambda: high.receivers)
    sharing.cancel()
    await asyncio.wait([sharing])
    assert listener.book.transport_feedback > 0

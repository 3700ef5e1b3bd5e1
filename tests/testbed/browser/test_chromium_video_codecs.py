"""What Chromium publishes as simulcast and as AV1, and what the bundled SFU makes of it for others."""

from __future__ import annotations

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(150),
    pytest.mark.asyncio(loop_scope="module"),
]

_RED = (200, 40, 40)
_PATTERN = "pattern:rgb(200,40,40)"
_BOTH_LAYERS = """async () => {
    const video = (await call.summary()).outgoing.filter((o) => o.kind === "video");
    return ["l", "h"].every((rid) => video.some((o) => o.rid === rid && o.framesEncoded > 5)) && video;
}"""
_BOTH_LAYERS_S = 60.0
"""Chromium begins with the high layer when it believes in 1.2 Mbit/s. On a host without time to spare its
first probes tell it a tenth of that, and from there it goes up by 8 % a second."""


async def test_a_simulcast_screen_is_published_in_both_layers_and_seen(invite, meeting) -> None:
    await meeting.configure(EnableSimulcast=True)
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("shareScreen", _PATTERN)
    layers = await alice.tab.until(_BOTH_LAYERS, timeout_s=_BOTH_LAYERS_S)
    assert {layer["rid"] for layer in layers} == {"l", "h"}
    await bob.until_colour(alice_id, "screen", _RED)
    await bob.until_incoming(alice_id, "screen", "t.framesDecoded > 5")


async def test_a_receiver_with_room_gets_the_better_layer_without_noticing(invite, meeting) -> None:
    await meeting.configure(EnableSimulcast=True)
    alice = await invite("alice")
    alice_id = await alice.session_id()
    await alice.do("shareScreen", _PATTERN)
    await alice.tab.until(_BOTH_LAYERS, timeout_s=_BOTH_LAYERS_S)
    bob = await invite("bob")  # who joins a running share begins with the small layer
    first = await bob.until_incoming(alice_id, "screen", "t.framesDecoded > 5")
    offers = (await bob.summary())["negotiation"]["offersTaken"]
    later = await bob.until_incoming(alice_id, "screen", "t.framesPerSecond > 12", timeout_s=45)
    assert later["ssrc"] == first["ssrc"]
    assert (await bob.summary())["negotiation"]["offersTaken"] == offers
    assert later["freezeCount"] == 0


async def test_av1_goes_to_those_who_can_and_vp8_to_the_others(
    invite, meeting, engine_missing
) -> None:
    await meeting.configure(EnableAV1=True)
    alice, bob = await invite("alice"), await invite("bob")
    if not await alice.do("canSend", "video/AV1"):
        engine_missing("av1", "this build of Chromium cannot encode it")
    await meeting.configure(EnableAV1=False)
    carol = await invite("carol")
    alice_id = await alice.session_id()
    await alice.do("shareScreen", _PATTERN)
    for guest, codec in ((bob, "video/AV1"), (carol, "video/VP8")):
        await guest.until_colour(alice_id, "screen", _RED)
        seen = await guest.until_incoming(alice_id, "screen", "t.framesDecoded > 5")
        assert seen["codec"] == codec
    sent = [o["codec"] for o in (await alice.summary())["outgoing"] if o["kind"] == "video"]
    assert sorted(sent) == ["video/AV1", "video/VP8"]

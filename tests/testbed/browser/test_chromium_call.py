"""Chromium tabs in one call through the bundled SFU: what one sends, the others hear and see."""

from __future__ import annotations

import asyncio

import pytest

from testbed.browser.meeting import Guest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]

_MICROPHONE_HZ = 523
_NEAR_HZ = 15
"""Bins of the analysis are 6 Hz wide."""
_RED, _GREEN, _BLUE = (200, 40, 40), (40, 160, 60), (40, 60, 200)


def _pattern(colour: tuple[int, int, int]) -> str:
    return f"pattern:rgb({','.join(map(str, colour))})"


async def test_voices_are_heard_as_they_were_spoken(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id, bob_id = await alice.session_id(), await bob.session_id()
    await asyncio.gather(alice.do("unmute", "device"), bob.do("unmute", "tone:900"))
    await bob.until_incoming(alice_id, "voice", "t.totalAudioEnergy > 0")
    await alice.until_incoming(bob_id, "voice", "t.totalAudioEnergy > 0")
    of_alice, of_bob = await asyncio.gather(
        bob.listen(alice_id, "voice"), alice.listen(bob_id, "voice")
    )
    assert of_alice["hz"] == pytest.approx(_MICROPHONE_HZ, abs=_NEAR_HZ)
    assert of_bob["hz"] == pytest.approx(900, abs=_NEAR_HZ)


async def test_who_speaks_is_shown_to_the_others(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("unmute", "tone:600")
    speaks = "(id) => call.state().participants.some((p) => p.sessionId === id && p.speaking)"
    await bob.tab.until(speaks, alice_id)
    await alice.do("mute")
    await bob.tab.until(f"(id) => !({speaks})(id)", alice_id)


async def until_nothing_comes(guest: Guest, session_id: str, type_: str, counter: str) -> int:
    """The counter of a received track that stays, as soon as it has stood still for half a second."""
    seen: list[int] = []
    async with asyncio.timeout(20):
        while len(seen) < 2 or seen[-1] != seen[-2]:
            track = await guest.incoming(session_id, type_)
            assert track is not None
            seen.append(track[counter])
            await asyncio.sleep(0.5)
    return seen[-1]


@pytest.mark.parametrize("data_channel", [False, True], ids=["websocket", "data-channel"])
async def test_after_a_mute_the_voice_comes_back_without_another_offer(
    invite, meeting, *, data_channel: bool
) -> None:
    await meeting.configure(EnableDCSignaling=data_channel)
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("unmute", "tone:600")
    await bob.until_incoming(alice_id, "voice", "t.packetsReceived > 10")
    offers = [(await guest.summary())["negotiation"] for guest in (alice, bob)]
    await alice.do("mute")
    more = await until_nothing_comes(bob, alice_id, "voice", "packetsReceived") + 10
    await alice.do("unmute")
    await bob.until_incoming(alice_id, "voice", f"t.packetsReceived > {more}")
    assert (await bob.listen(alice_id, "voice"))["hz"] == pytest.approx(600, abs=_NEAR_HZ)
    assert [(await guest.summary())["negotiation"] for guest in (alice, bob)] == offers


@pytest.mark.parametrize("data_channel", [False, True], ids=["websocket", "data-channel"])
async def test_a_screen_with_sound_is_seen_and_heard_beside_the_voice(
    invite, meeting, *, data_channel: bool
) -> None:
    await meeting.configure(EnableDCSignaling=data_channel)
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("unmute", "tone:600")
    await alice.do("shareScreen", f"{_pattern(_RED)}+tone:1100")
    await bob.until_colour(alice_id, "screen", _RED)
    seen = await bob.until_incoming(alice_id, "screen", "t.framesDecoded > 15")
    assert seen["codec"] == "video/VP8"
    await bob.until_incoming(alice_id, "screen-audio", "t.totalAudioEnergy > 0")
    screen, voice = await asyncio.gather(
        bob.listen(alice_id, "screen-audio"), bob.listen(alice_id, "voice")
    )
    assert screen["hz"] == pytest.approx(1100, abs=_NEAR_HZ)
    assert voice["hz"] == pytest.approx(600, abs=_NEAR_HZ)


async def test_one_screen_after_the_other_is_seen_in_the_section_that_was_left(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id, bob_id = await alice.session_id(), await bob.session_id()
    await alice.do("shareScreen", _pattern(_RED))
    first = await bob.until_incoming(alice_id, "screen", "t.framesDecoded > 5")
    await bob.until_colour(alice_id, "screen", _RED)
    await alice.do("stopScreen")
    await bob.until_gone(alice_id, "screen")
    await alice.do("shareScreen", _pattern(_GREEN))
    await bob.until_colour(alice_id, "screen", _GREEN)
    second = await bob.incoming(alice_id, "screen")
    assert second is not None
    assert second["mid"] == first["mid"]
    assert second["ssrc"] != first["ssrc"]
    await alice.do("stopScreen")
    await bob.until_gone(alice_id, "screen")
    await bob.do("shareScreen", _pattern(_BLUE))
    await alice.until_colour(bob_id, "screen", _BLUE)


async def test_a_speaker_in_the_section_that_another_one_left_is_heard(invite) -> None:
    alice, bob, carol = await invite("alice"), await invite("bob"), await invite("carol")
    bob_id, carol_id = await bob.session_id(), await carol.session_id()
    await bob.do("unmute", "tone:900")
    first = await alice.until_incoming(bob_id, "voice", "t.totalAudioEnergy > 0")
    assert (await alice.listen(bob_id, "voice"))["hz"] == pytest.approx(900, abs=_NEAR_HZ)
    await bob.do("leave")
    await carol.do("unmute", "tone:1400")  # the offer for this one says that the other is silent
    await alice.until_gone(bob_id, "voice")
    await alice.until_incoming(carol_id, "voice", "t.totalAudioEnergy > 0")
    bob = await invite("bob")
    bob_id = await bob.session_id()
    await bob.do("unmute", "tone:600")
    again = await alice.until_incoming(bob_id, "voice", "t.packetsReceived > 10")
    assert again["mid"] == first["mid"]
    assert again["ssrc"] != first["ssrc"]
    of_bob, of_carol = await asyncio.gather(
        alice.listen(bob_id, "voice"), alice.listen(carol_id, "voice")
    )
    assert of_bob["hz"] == pytest.approx(600, abs=_NEAR_HZ)
    assert of_carol["hz"] == pytest.approx(1400, abs=_NEAR_HZ)


async def test_a_captured_tab_with_its_sound_is_shared(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("shareScreen", "device", {"withSound": True})
    await bob.until_incoming(alice_id, "screen", "t.framesDecoded > 5")
    await bob.until_incoming(alice_id, "screen-audio", "t.packetsReceived > 10")


async def test_cameras_of_both_are_seen_and_come_back(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id, bob_id = await alice.session_id(), await bob.session_id()
    await asyncio.gather(
        alice.do("startCamera", _pattern(_GREEN)), bob.do("startCamera", _pattern(_BLUE))
    )
    await bob.until_colour(alice_id, "video", _GREEN)
    await alice.until_colour(bob_id, "video", _BLUE)
    await alice.do("stopCamera")
    await until_nothing_comes(bob, alice_id, "video", "framesReceived")
    await alice.do("startCamera", _pattern(_RED))
    await bob.until_colour(alice_id, "video", _RED)


async def test_the_devices_camera_is_seen(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    await alice.do("startCamera", "device")
    await bob.until_incoming(await alice.session_id(), "video", "t.framesDecoded > 15")


async def test_who_comes_late_sees_and_hears_what_runs(invite) -> None:
    alice = await invite("alice")
    alice_id = await alice.session_id()
    await alice.do("unmute", "tone:600")
    await alice.do("shareScreen", f"{_pattern(_RED)}+tone:1100")
    await alice.do("startCamera", _pattern(_GREEN))
    carol = await invite("carol")
    await carol.until_colour(alice_id, "screen", _RED)
    await carol.until_colour(alice_id, "video", _GREEN)
    for type_ in ("voice", "screen-audio"):
        await carol.until_incoming(alice_id, type_, "t.totalAudioEnergy > 0")


async def test_everybody_may_start_at_the_same_moment(invite) -> None:
    guests = [await invite(name) for name in ("alice", "bob", "carol")]
    ids = [await guest.session_id() for guest in guests]
    tones = (600, 900, 1400)
    await asyncio.gather(
        *(g.do("unmute", f"tone:{hz}") for g, hz in zip(guests, tones, strict=True))
    )
    pairs = [
        (guest, other, hz)
        for guest, own in zip(guests, ids, strict=True)
        for other, hz in zip(ids, tones, strict=True)
        if other != own
    ]
    for guest, other, _ in pairs:
        await guest.until_incoming(other, "voice", "t.totalAudioEnergy > 0")
    heard = await asyncio.gather(*(guest.listen(other, "voice") for guest, other, _ in pairs))
    assert [h["hz"] for h in heard] == pytest.approx([hz for *_, hz in pairs], abs=_NEAR_HZ)


async def test_a_reloaded_tab_is_another_session_and_the_old_one_goes(invite, meeting) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id, old_id = await alice.session_id(), await bob.session_id()
    await alice.do("unmute", "tone:600")
    await bob.do("unmute", "tone:900")
    await alice.until_incoming(old_id, "voice", "t.packetsReceived > 10")
    await bob.tab.reload()
    await bob.join()
    new_id = await bob.session_id()
    assert new_id != old_id
    await bob.do("unmute", "tone:1400")
    await bob.until_incoming(alice_id, "voice", "t.totalAudioEnergy > 0")
    await alice.until_incoming(new_id, "voice", "t.totalAudioEnergy > 0")
    assert (await alice.listen(new_id, "voice"))["hz"] == pytest.approx(1400, abs=_NEAR_HZ)
    gone = "(id) => !call.state().participants.some((p) => p.sessionId === id)"
    await alice.tab.until(gone, old_id)
    assert {s["session_id"] for s in (await meeting.call())["sessions"]} == {alice_id, new_id}


async def test_who_leaves_is_seen_to_leave_with_screen_and_camera(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    bob_id = await bob.session_id()
    await bob.do("shareScreen", _pattern(_RED))
    await bob.do("startCamera", _pattern(_GREEN))
    await alice.until_colour(bob_id, "screen", _RED)
    await alice.until_colour(bob_id, "video", _GREEN)
    await bob.do("leave")
    await alice.tab.until("() => call.state().participants.length === 1")
    await alice.until_gone(bob_id, "screen")
    await alice.until_gone(bob_id, "video")
    assert (await alice.state())["screenSessionId"] == ""


async def test_a_broken_websocket_comes_back_and_the_session_goes_on(invite) -> None:
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("cutSocket")
    await asyncio.sleep(2.5)
    await alice.do("unmute", "tone:600")
    await bob.until_incoming(alice_id, "voice", "t.totalAudioEnergy > 0")
    assert await alice.session_id() == alice_id
    assert len((await bob.state())["participants"]) == 2


async def test_the_data_channel_is_alive_and_the_network_is_reported(invite) -> None:
    alice = await invite("alice")
    await alice.tab.until("async () => (await call.summary()).channel.pongs >= 2")
    path = (await alice.summary())["path"]
    assert (path["protocol"], path["dtls"]) == ("udp", "connected")


async def test_the_host_is_told_why_a_recording_cannot_start(invite) -> None:
    """No job service belongs to this meeting."""
    alice = await invite("alice")
    words = await alice.tab.run("() => call.record('start').catch((error) => error.message)")
    assert words == "Job service is not initialized"
    assert ["403" in error for error in alice.tab.errors] == [True]
    alice.tab.errors.clear()

"""Packets as the original forwards them: what it leaves out, and what it passes on that is not for us."""

from __future__ import annotations

from typing import Any

from sfu.messages import RtcType

LEVEL = 1
"""The id of the audio level in what the double offers."""


async def test_a_key_frame_is_asked_for_until_one_comes_though_the_sfu_asks_for_none(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(key_frame_interval_s=0.0)
    listener = await lobby.enter(double)
    screen = double.puppet("alice").screen()
    tools.show(screen, 0, key=True)
    track = await listener.track()
    await tools.until(lambda: screen.key_frames_asked)
    tools.show(screen, 1, key=False)
    tools.show(screen, 2, key=True)
    frames = aiter(track.frames())
    while not (await anext(frames)).keyframe:
        pass
    assert listener.book.key_frame_requests == 1


async def test_loss_that_nobody_repairs_is_followed_by_a_request_for_a_key_frame(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(
        key_frame_interval_s=0.0, lost_packets=frozenset(range(1000, 1003)), nack_buffer_packets=1
    )
    listener = await lobby.enter(double)
    screen = double.puppet("alice").screen()
    tools.show(screen, 0, key=True)
    track = await listener.track()
    await tools.until(lambda: screen.key_frames_asked)
    asked = screen.key_frames_asked
    screen.sequence = 997
    tools.show(screen, 1, key=True)
    tools.show(screen, 2, key=False)
    tools.show(screen, 3, key=False)
    frames = aiter(track.frames())
    assert (await anext(frames)).keyframe
    damaged = await anext(frames)
    assert damaged.lost_before
    await tools.until(lambda: screen.key_frames_asked > asked)


async def test_lost_video_is_asked_for_again_and_comes_on_the_same_ssrc(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(lost_packets=frozenset({1001, 1002, 1004}))
    listener = await lobby.enter(double)
    screen = double.puppet("alice").screen()
    tools.show(screen, 0, key=True)
    track = await listener.track()
    await tools.until(lambda: screen.receivers)
    screen.sequence = 1000
    for number in range(1, 5):
        tools.show(screen, number, key=number == 1)
    frames = aiter(track.frames())
    numbers = [(await anext(frames)).payload[1] for _ in range(4)]
    assert numbers == [1, 2, 3, 4]
    assert sorted(set(listener.book.nacks)) == [1001, 1002, 1004]
    assert listener.book.repeated_packets >= 3


async def test_a_gap_in_the_numbers_after_a_mute_is_not_loss(lobby: Any, tools: Any) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = await lobby.enter(double, "alice")
    voice = await alice.publish("audio", "stream")
    voice.send(tools.silence, rtp_timestamp=0, marker=False)
    track = await listener.track()
    [other] = [t for s in double.books for t in [s] if s == listener.session_id]
    await tools.until(lambda: double.books[other].announced)
    voice.send(b"\x08before", rtp_timestamp=960, marker=False)
    frames = aiter(track.frames())
    while (await anext(frames)).payload != b"\x08before":
        pass
    await alice.tell(RtcType.MUTE)
    for number in range(2, 22):
        voice.send(b"\x08muted", rtp_timestamp=960 * number, marker=False)
    await tools.pause(0.35)
    await alice.tell(RtcType.UNMUTE)
    voice.send(b"\x08after", rtp_timestamp=960 * 22, marker=False)
    after = await anext(frames)
    assert after.payload == b"\x08after"
    assert after.lost_before == 0
    assert track.statistics.packets_lost == 0


async def test_header_extensions_of_the_publisher_mean_nothing_to_the_listener(
    lobby: Any, tools: Any
) -> None:
    """Their ids are the publisher's: 1 to 14 may be anything, whatever was negotiated here."""
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    voice = alice.voice()
    voice.send(tools.silence)
    track = await listener.track()
    await tools.until(lambda: voice.receivers)
    for number in range(1, 15):
        value = bytes([number]) * (1 + number % 4)
        voice.send(bytes([0x08, number]), extensions=((number, value), (15 - number, b"\x00")))
    frames = aiter(track.frames())
    seen: list[int] = []
    while len(seen) < 14:
        frame = await anext(frames)
        if frame.payload[0] == 0x08:
            seen.append(frame.payload[1])
    assert seen == list(range(1, 15))
    assert track.session_id == alice.config.session_id
    assert listener.tracks == [track]


async def test_reports_and_pings_go_out_every_second(lobby: Any, tools: Any) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    await listener.track()
    await tools.until(lambda: listener.book.receiver_reports and listener.book.pings)

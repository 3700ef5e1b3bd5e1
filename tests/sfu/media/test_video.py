"""Pictures: key frames, repetitions, simulcast in place (rtcd.md 3.7, 3.8)."""

from __future__ import annotations

import itertools

import pytest

from rtc.rtcp import KeyFrameRequest, Nack, build_nack, build_pli
from sfu.forwarding.layers import Layer
from sfu.forwarding.vp8_rewriter import read_vp8_ids
from sfu.messages import RtcType

pytestmark = pytest.mark.looptime

S = 1_000_000_000
MS = 1_000_000
NTP = 0xE9000000 << 32


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000 * S

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The monotonic clock of everything that answers receivers."""
    clock = Clock()
    monkeypatch.setattr("sfu.subscribing.time.monotonic_ns", clock)
    return clock


def key_frames_asked(member) -> int:
    return sum(isinstance(m, KeyFrameRequest) for m in member.wire.take_rtcp())


def pictures(packets) -> list[int]:
    found = [read_vp8_ids(p.payload, 0, len(p.payload)) for p in packets]
    return [ids.picture_id for ids in found if ids is not None]


def numbers(packets) -> list[int]:
    return [p.header.sequence for p in packets]


async def test_each_newcomer_gets_a_key_frame_of_its_own(venue, clock) -> None:
    alice, _ = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    assert key_frames_asked(alice) == 1
    clock.now_ns += 2 * S
    await venue.join("carol")
    assert key_frames_asked(alice) == 1


async def test_ten_receivers_together_cost_one_pli_within_two_seconds(venue, clock) -> None:
    alice = await venue.join("alice")
    others = [await venue.join(f"guest-{n}") for n in range(10)]
    screen = await alice.share()
    for tenth in range(20):
        for other in others:
            ssrc = other.tracks["screen_alice"].ssrc
            if tenth < 10:
                other.session.rtcp_received(build_pli(sender_ssrc=1, media_ssrc=ssrc))
        alice.session.tick(clock.now_ns)
        clock.now_ns += 100 * MS
    requests = [m for m in alice.wire.take_rtcp() if isinstance(m, KeyFrameRequest)]
    assert [m.media_ssrc for m in requests] == [screen.ssrc]


async def test_a_newcomer_within_the_second_is_served_later_if_no_key_frame_comes(
    venue, clock
) -> None:
    """rtcd.md trap 27."""
    alice, _ = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    clock.now_ns += 500 * MS
    await venue.join("carol")
    assert key_frames_asked(alice) == 1
    for _ in range(30):
        clock.now_ns += 100 * MS
        alice.session.tick(clock.now_ns)
    assert key_frames_asked(alice) == 1


async def test_a_key_frame_that_comes_by_itself_serves_the_newcomer(venue, clock) -> None:
    alice, _ = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    await venue.join("carol")
    screen.send_picture(2, key=True)
    key_frames_asked(alice)
    for _ in range(40):
        clock.now_ns += 100 * MS
        alice.session.tick(clock.now_ns)
    assert key_frames_asked(alice) == 0


async def test_a_pli_for_a_stream_of_somebody_else_asks_nobody(venue, clock) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    clock.now_ns += 5 * S
    key_frames_asked(alice)
    bob.session.rtcp_received(build_pli(sender_ssrc=1, media_ssrc=screen.ssrc))
    assert key_frames_asked(alice) == 0


async def test_a_nack_is_answered_with_the_same_packet_on_the_same_ssrc(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    screen.send_picture(2, key=False, packets=5)
    sent = bob.wire.take()
    wanted = [p.header.sequence for p in sent[1:4]]
    ssrc = sent[0].header.ssrc
    bob.session.rtcp_received(build_nack(sender_ssrc=1, media_ssrc=ssrc, sequences=wanted))
    again = bob.wire.take()
    assert [(p.header.ssrc, p.header.sequence, p.header.timestamp, p.payload) for p in again] == [
        (p.header.ssrc, p.header.sequence, p.header.timestamp, p.payload) for p in sent[1:4]
    ]
    transport_numbers = [int.from_bytes(p.extension(5) or b"") for p in again]
    assert transport_numbers == [5, 6, 7]  # new ones: each copy is a packet of its own


async def test_what_the_history_has_lost_stays_lost(venue) -> None:
    venue.server._history_packets = 16
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    for picture in range(20):
        screen.send_picture(picture, key=False, packets=1)
    sent = bob.wire.take()
    bob.session.rtcp_received(
        build_nack(sender_ssrc=1, media_ssrc=sent[0].header.ssrc, sequences=numbers(sent))
    )
    assert numbers(bob.wire.take()) == numbers(sent)[-16:]


async def test_a_flood_of_nacks_is_answered_a_thousand_times_a_second_at_most(venue, clock) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    screen.send_picture(2, key=False, packets=200)
    sent = bob.wire.take()
    bob.session._subscriber._repetitions._last_ns = clock.now_ns
    nack = build_nack(sender_ssrc=1, media_ssrc=sent[0].header.ssrc, sequences=numbers(sent))
    for _ in range(50):
        bob.session.rtcp_received(nack)
    assert len(bob.wire.datagrams) == 1000
    bob.wire.datagrams.clear()
    clock.now_ns += S // 2
    bob.session.rtcp_received(nack)
    bob.session.rtcp_received(nack)
    bob.session.rtcp_received(nack)
    assert len(bob.wire.datagrams) == 500


async def test_a_hole_in_video_is_asked_of_the_publisher_and_one_in_sound_is_not(venue) -> None:
    alice, _ = await venue.join("alice"), await venue.join("bob")
    voice, screen = await alice.talk(), await alice.share()
    for stream in (voice, screen):
        stream.sequence += 2
        stream.send(b"\x80\x80\x80\x00\x01", at_ns=S)
    alice.wire.take_rtcp()
    alice.session.tick(S)
    [nack] = [m for m in alice.wire.take_rtcp() if isinstance(m, Nack)]
    assert nack.media_ssrc == screen.ssrc
    assert nack.sequences == (screen.sequence - 2, screen.sequence - 1)


# simulcast


async def layered(venue):
    """A sharer with both layers, and a receiver."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, high = await alice.publish_layers("screen")
    low.send_picture(10, key=True)
    await bob.settle()
    bob.wire.take()
    [down] = bob.session._subscriber._downs.values()
    return alice, bob, low, high, down


async def test_simulcast_begins_at_a_key_frame_and_only_with_one_layer(venue) -> None:
    _, bob, low, high, _ = await layered(venue)
    low.send_picture(11, key=False)
    high.send_picture(5, key=True)
    high.send_picture(6, key=False)
    assert bob.wire.take() == []
    low.send_picture(12, key=True)
    high.send_picture(7, key=True)
    low.send_picture(13, key=False)
    assert pictures(bob.wire.take()) == [12, 12, 13, 13]


async def test_layers_are_switched_in_place_down_and_up_again(venue) -> None:
    """One SSRC; sequence numbers, time and picture ids go on as if nothing had happened."""
    _, bob, low, high, down = await layered(venue)
    packets = []
    now_ns = S
    for frame in range(30):
        if frame % 10 == 5:
            other = Layer.HIGH if down.selector.layer is Layer.LOW else Layer.LOW
            down.selector.layer = other
        layers = {
            low: {"picture": 100 + frame, "packets": 2},
            high: {"picture": 9000 + frame, "packets": 3},
        }
        wanted = low if down.selector.layer is Layer.LOW else high
        for layer in sorted(layers, key=lambda layer: layer is not wanted):
            layer.send_picture(key=frame % 10 in (0, 7), at_ns=now_ns, **layers[layer])
        now_ns += 50 * MS
        packets += bob.wire.take()
    assert len({p.header.ssrc for p in packets}) == 1
    first = packets[0].header.sequence
    assert numbers(packets) == list(range(first, first + len(packets)))
    shown = list(dict.fromkeys(pictures(packets)))
    assert shown == [(100 + frame) & 0x7FFF for frame in range(30)]
    times = list(dict.fromkeys(p.header.timestamp for p in packets))
    assert [b - a for a, b in itertools.pairwise(times)] == [4500] * 29
    sizes = [pictures(packets).count(picture) for picture in shown]
    assert sizes == [2] * 7 + [3] * 10 + [2] * 10 + [3] * 3


async def test_repetitions_reach_back_across_a_switch(venue) -> None:
    _, bob, low, high, down = await layered(venue)
    for picture in range(20, 24):
        low.send_picture(picture, key=picture == 20)
    down.selector.layer = Layer.HIGH
    for picture in range(5, 9):
        high.send_picture(picture, key=picture == 5)
    sent = bob.wire.take()
    assert len(sent) == 16
    bob.session.rtcp_received(
        build_nack(sender_ssrc=1, media_ssrc=sent[0].header.ssrc, sequences=numbers(sent))
    )
    assert [(p.header.sequence, p.header.timestamp, p.payload) for p in bob.wire.take()] == [
        (p.header.sequence, p.header.timestamp, p.payload) for p in sent
    ]


async def test_late_packets_take_their_own_place_after_a_switch(venue) -> None:
    _, bob, low, high, down = await layered(venue)
    low.send_picture(20, key=True)
    down.selector.layer = Layer.HIGH
    high.send_picture(5, key=True)
    high.sequence += 1  # overtaken
    late = high.sequence
    high.send_picture(6, key=False)
    high.send(b"\x80\x80\x80\x06late", sequence=late)
    sent = bob.wire.take()
    assert sorted(numbers(sent)) == list(range(min(numbers(sent)), max(numbers(sent)) + 1))
    assert sent[-1].payload.endswith(b"late")
    assert sent[-1].header.sequence == sent[-2].header.sequence - 2


async def test_receivers_of_a_layer_that_stops_move_to_the_other(venue, clock) -> None:
    alice, bob, low, high, down = await layered(venue)
    down.selector.layer = Layer.HIGH
    now_ns = clock.now_ns
    for frame in range(40):
        low.send_picture(frame, key=frame == 0, at_ns=now_ns)
        if frame < 10:
            high.send_picture(frame, key=frame == 0, at_ns=now_ns)
        now_ns += 100 * MS
    alice.wire.take_rtcp()
    clock.now_ns = now_ns
    bob.session.report(now_ns, NTP)
    assert down.selector.layer is Layer.LOW
    requests = [m for m in alice.wire.take_rtcp() if isinstance(m, KeyFrameRequest)]
    assert [m.media_ssrc for m in requests] == [low.ssrc]
    bob.wire.take()
    low.send_picture(50, key=True, at_ns=now_ns)
    assert len(bob.wire.take()) == 2


async def test_a_receiver_takes_what_there_is_while_its_layer_has_not_begun(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, high = await alice.publish_layers("screen")
    high.send_picture(1, key=True)
    await bob.settle()
    high.send_picture(2, key=True)
    assert pictures(bob.wire.take()) == [2, 2]
    low.send_picture(7, key=True)
    high.send_picture(3, key=False)
    assert pictures(bob.wire.take()) == [3, 3]


async def test_an_unknown_rid_is_refused_and_the_others_go_on(venue) -> None:
    """rtcd.md trap 21."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, middle, _ = await alice.publish_layers("screen", ("l", "m", "h"))
    middle.send_picture(1, key=True)
    low.send_picture(1, key=True)
    middle.send_picture(2, key=True)
    await bob.settle()
    bob.wire.take()
    middle.send_picture(3, key=True)
    low.send_picture(2, key=True)
    middle.send_picture(4, key=True)
    assert pictures(bob.wire.take()) == [2, 2]
    assert len(alice.session._publisher._encodings) == 1


async def test_layers_with_ssrcs_in_the_description_are_layers_too(venue) -> None:
    """As Firefox writes them: one SSRC for each rid, in their order."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, high = await alice.publish_layers("screen", declare_ssrcs=True)
    low.rid = high.rid = ""  # nothing of it in the packets
    low.send_picture(1, key=True)
    high.send_picture(1, key=True)
    await bob.settle()
    assert list(bob.tracks) == ["screen_alice"]
    assert {e.rid for e in alice.session._publisher._encodings.values()} == {"l", "h"}


async def test_av1_passes_between_two_who_know_it(venue) -> None:
    alice, bob = await venue.join("alice", av1=True), await venue.join("bob", av1=True)
    screen = await alice.share(codec="AV1")
    screen.send(b"obu", step=3000)
    packet = bob.wire.take()[-1]
    assert packet.header.payload_type == 45
    assert packet.payload == b"obu"


async def test_av1_layers_begin_at_once_as_key_frames_are_not_told_apart(venue) -> None:
    alice, bob = await venue.join("alice", av1=True), await venue.join("bob", av1=True)
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, _ = await alice.publish_layers("screen", codec="AV1")
    low.send(b"first")
    await bob.settle()
    low.send(b"second")
    assert [p.payload for p in bob.wire.take()] == [b"second"]

"""What a receiver gets of a packet (rtcd.md 3.4, 3.8), decrypted again."""

from __future__ import annotations

import dataclasses

import pytest

from rtc.rtp import build_rtp
from sfu.messages import RtcType

pytestmark = pytest.mark.looptime

LEVEL_ID, NUMBER_ID, FOREIGN_ID = 7, 9, 3  # of the publisher
OWN_LEVEL_ID, OWN_NUMBER_ID = 1, 5  # of a receiver that has offered nothing


async def test_ssrc_and_payload_type_are_the_receivers_and_the_rest_passes(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    sequence = voice.send(b"hello", marker=True)
    [packet] = bob.wire.take()
    assert packet.header.ssrc == bob.tracks["voice_alice"].ssrc != voice.ssrc
    assert packet.header.payload_type == 111  # literal in the SFU's offers (rtcd.md trap 28)
    assert (packet.header.sequence, packet.header.timestamp) == (sequence, voice.timestamp)
    assert packet.header.marker
    assert packet.payload == b"hello"


async def test_audio_level_and_number_go_out_under_the_receivers_ids_only(venue) -> None:
    """The publisher's ids never leak (rtcd.md trap 26)."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    voice.send(
        extensions=(
            (FOREIGN_ID, b"foreign"),
            (LEVEL_ID, bytes([0x80 | 33])),
            (NUMBER_ID, b"\x12\x34"),
        )
    )
    [packet] = bob.wire.take()
    assert packet.extension(OWN_LEVEL_ID) == bytes([0x80 | 33])
    assert packet.extension(OWN_NUMBER_ID) == b"\x00\x00"  # his first packet of all
    assert [n for n in range(1, 15) if packet.extension(n)] == [OWN_LEVEL_ID, OWN_NUMBER_ID]


async def test_a_receiver_that_named_its_ids_first_gets_them(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await bob.talk()
    voice = await alice.talk()
    voice.send(level=33)
    [packet] = bob.wire.take()
    assert packet.header.payload_type == 109
    assert [n for n in range(1, 15) if packet.extension(n)] == [LEVEL_ID, NUMBER_ID]


async def test_a_packet_without_level_goes_out_without_one(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    voice.send()
    [packet] = bob.wire.take()
    assert [n for n in range(1, 15) if packet.extension(n)] == [OWN_NUMBER_ID]


async def test_csrcs_are_removed_and_padding_is_kept(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    fixed = build_rtp(b"", payload_type=109, sequence=200, timestamp=9, ssrc=voice.ssrc)
    padded = bytes([0x80 | 0x20 | 2]) + fixed[1:] + bytes(8) + b"sound" + bytes([0, 0, 3])
    alice.session.rtp_received(padded, 0)
    [packet] = bob.wire.take()
    assert packet.packet[0] & 0x2F == 0x20
    assert packet.payload == b"sound"
    assert packet.packet.endswith(b"sound\x00\x00\x03")


async def test_extensions_of_the_two_byte_form_are_understood(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    fixed = build_rtp(b"", payload_type=109, sequence=200, timestamp=9, ssrc=voice.ssrc)
    elements = bytes([FOREIGN_ID, 0, LEVEL_ID, 1, 0x2A, 0, 0, 0])
    block = bytes([0x10, 0x00, 0, len(elements) // 4]) + elements
    alice.session.rtp_received(bytes([0x90]) + fixed[1:] + block + b"sound", 0)
    [packet] = bob.wire.take()
    assert packet.extension(OWN_LEVEL_ID) == b"\x2a"
    assert packet.payload == b"sound"


async def test_transport_wide_numbers_count_over_all_tracks_of_a_receiver(venue) -> None:
    alice, carol = await venue.join("alice"), await venue.join("carol")
    bob = await venue.join("bob")
    voice, other = await alice.talk(), await carol.talk()
    screen = await alice.share()
    bob.wire.take()
    carol.wire.take()
    for _ in range(2):
        voice.send()
        other.send()
        screen.send_picture(2, key=False, packets=1)
    numbers = [int.from_bytes(p.extension(OWN_NUMBER_ID) or b"") for p in bob.wire.take()]
    assert len(numbers) == 6
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    assert len(carol.wire.take()) == 4  # counted for her alone


async def test_a_mute_stops_the_sound_and_leaves_no_hole(venue) -> None:
    """rtcd.md trap 17: who sees a hole takes it for loss."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    for _ in range(3):
        voice.send(b"before")
    alice.tell(RtcType.MUTE)
    await alice.settle()
    for _ in range(20):
        voice.send(b"muted")
    alice.tell(RtcType.UNMUTE)
    await alice.settle()
    for _ in range(3):
        voice.send(b"after")
    packets = bob.wire.take()
    assert [p.payload for p in packets] == [b"before"] * 3 + [b"after"] * 3
    first = packets[0].header.sequence
    assert [p.header.sequence for p in packets] == list(range(first, first + 6))
    assert packets[3].header.timestamp - packets[2].header.timestamp == 21 * 960  # time did go by


async def test_what_is_muted_is_not_heard_speaking(venue) -> None:
    alice = await venue.join("alice")
    voice = await alice.talk()
    alice.tell(RtcType.MUTE)
    await alice.settle()
    for number in range(200):
        level = 20 if number // 10 % 2 else 120
        voice.send(extensions=((LEVEL_ID, bytes([level])),), at_ns=number * 20_000_000)
    assert alice.voice == [False]


async def test_a_mute_before_the_first_packet_counts(venue) -> None:
    """rtcd.md trap 18: the original lets the voice out that was muted too early."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.publish("audio", "voice-stream")
    alice.tell(RtcType.MUTE)
    await alice.settle()
    voice.send(b"muted")
    await bob.settle()
    voice.send(b"muted")
    assert list(bob.tracks) == ["voice_alice"]
    alice.tell(RtcType.UNMUTE)
    await alice.settle()
    voice.send(b"loud")
    assert [p.payload for p in bob.wire.take()] == [b"loud"]


async def test_a_mute_before_anything_is_declared_is_ignored(venue) -> None:
    """A new voice starts enabled (rtcd.md 3.6); clients that publish without an unmute rely on it."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.MUTE)
    voice = await alice.talk()
    voice.send(b"loud")
    assert [p.payload for p in bob.wire.take()] == [b"loud"]
    assert alice.voice == []


async def test_a_muted_voice_that_begins_again_in_its_section_stays_muted(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    alice.tell(RtcType.MUTE)
    await alice.settle()
    voice.section.local = dataclasses.replace(voice.section.local, ssrc=4711)
    await alice.offer()
    voice.ssrc = 4711
    for _ in range(3):
        voice.send(b"muted")
        await bob.settle()
    assert bob.wire.take() == []


async def test_a_mute_does_not_touch_the_sound_of_a_screen(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share("screen")
    sound = await alice.publish("audio", "screen")
    sound.send()
    await bob.settle()
    alice.tell(RtcType.MUTE)
    await alice.settle()
    bob.wire.take()
    sound.send(b"film")
    assert "screen-audio_alice" in bob.tracks
    assert [p.payload for p in bob.wire.take()] == [b"film"]


async def test_a_foreign_payload_type_is_not_passed_on_as_ours(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    packet = build_rtp(b"comfort", payload_type=13, sequence=102, timestamp=9, ssrc=voice.ssrc)
    alice.session.rtp_received(packet, 0)
    assert bob.wire.take() == []


@pytest.mark.parametrize("number", [0, 15, 16, 255, 300, 70_000, -1])
async def test_impossible_extension_ids_of_one_receiver_hurt_nobody(venue, number: int) -> None:
    alice, bob, mallory = [await venue.join(name) for name in ("alice", "bob", "mallory")]
    mallory.describe(
        "offer",
        _with_audio(mallory, f"a=extmap:{number} urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    )
    await mallory.settle()
    voice = await alice.talk()
    voice.send(b"hello", extensions=((LEVEL_ID, b"\x21"),))
    assert [p.payload for p in bob.wire.take()] == [b"hello"]
    assert [p.payload for p in mallory.wire.take()] == [b"hello"]


@pytest.mark.parametrize("number", [128, 300, 99999])
async def test_impossible_payload_types_of_one_receiver_hurt_nobody(venue, number: int) -> None:
    alice, bob, mallory = [await venue.join(name) for name in ("alice", "bob", "mallory")]
    text = _with_audio(mallory, "a=sendrecv").replace("109", str(number))
    mallory.describe("offer", text)
    await mallory.settle()
    voice = await alice.talk()
    voice.send(b"hello")
    assert [p.payload for p in bob.wire.take()] == [b"hello"]


async def test_a_kernel_that_takes_nothing_is_counted_and_stops_nobody_else(venue) -> None:
    alice, bob, carol = [await venue.join(name) for name in ("alice", "bob", "carol")]
    voice = await alice.talk()

    def full(_datagram: object) -> None:
        raise BlockingIOError

    bob.wire.egress.send = full
    for _ in range(3):
        voice.send(b"hello")
    assert bob.wire.egress.dropped == 3
    assert len(carol.wire.take()) == 3


def _with_audio(member, line: str) -> str:
    """The next offer of a client, with an audio section that has this line."""
    head = member.negotiation.create_offer(member.transport)
    member.negotiation.withdraw_offer()  # it knows nothing of the section
    section = [
        "m=audio 9 UDP/TLS/RTP/SAVPF 109",
        "a=mid:1",
        "a=sendrecv",
        "a=rtpmap:109 opus/48000/2",
        line,
    ]
    return head + "\r\n".join(section) + "\r\n"

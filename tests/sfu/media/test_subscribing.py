"""Who is offered what, and when (rtcd.md 3.2, 3.5). Time is virtual."""

from __future__ import annotations

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from rtc.calls_dc import DcMessage, DcType
from sfu.messages import RtcType

pytestmark = pytest.mark.looptime

LOCK, UNLOCK = DcMessage(DcType.LOCK), DcMessage(DcType.UNLOCK)


def locks(member) -> list[bool]:
    """The answers to its requests."""
    return [
        m.payload
        for m in member.channel_messages
        if isinstance(m, DcMessage) and m.type is DcType.LOCK
    ]


def audio_sections(offer: str) -> int:
    return offer.count("\nm=audio ")


async def test_nothing_is_offered_before_the_data_channel_is_open(venue) -> None:
    """rtcd.md 3.1, trap 15."""
    alice, bob = await venue.join("alice"), await venue.join("bob", ready=False)
    await alice.talk()
    bob.negotiation.add_data_section()
    await bob.offer()
    assert bob.told == ["answer"]
    bob.open_channel()
    await bob.settle()
    assert list(bob.tracks) == ["voice_alice"]


async def test_later_offers_wait_for_the_data_channel(venue) -> None:
    bob = await venue.join("bob", ready=False)
    bob.negotiation.add_data_section()
    await bob.offer()
    bob.negotiation.add_sender("audio", bob.negotiation.sections[0].local)
    await bob.offer()
    assert bob.told == ["answer"]
    bob.open_channel()
    await bob.settle()
    assert bob.told == ["answer", "answer"]


@pytest.mark.documents("a-participant-with-too-many-changes")
async def test_changes_beyond_what_may_wait_are_dropped_with_a_line(
    venue, documented, monkeypatch
) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    monkeypatch.setattr("sfu.subscribing._CHANGE_CAPACITY", 0)
    with capture_logs() as lines:
        await alice.talk()
    [dropped] = [line for line in lines if line["log_level"] == "error"]
    documented("a-participant-with-too-many-changes", dropped["event"])
    assert bob.tracks == {}


async def test_a_newcomer_to_a_big_call_gets_twenty_tracks_with_each_offer(venue) -> None:
    """All of them, more than a hundred too (rtcd.md trap 24)."""
    speakers = [await venue.join(f"speaker-{n}") for n in range(3)]
    for speaker in speakers:
        await speaker.talk()
    call = speakers[0].session._call
    template = call.tracks[0]
    for number in range(107):
        call.tracks.append(
            type(template)(
                session_id=f"far-{number}", stream_id="", type_=template.type, codec="opus"
            )
        )
    bob = await venue.join("bob")
    await bob.settle()
    await bob.settle()
    assert len(bob.tracks) == 110
    assert [audio_sections(offer) for offer in bob.offers] == [20, 40, 60, 80, 100, 110]
    assert bob.told == ["answer"] + ["map", "offer"] * 6
    del call.tracks[3:]


@pytest.mark.parametrize("dc", [False, True])
async def test_the_map_comes_right_before_its_offer_and_names_the_senders(venue, dc: bool) -> None:
    """rtcd.md 3.3, trap 10."""
    alice, bob = await venue.join("alice"), await venue.join("bob", dc=dc)
    await alice.talk()
    await alice.share()
    assert bob.told == ["answer", "map", "offer", "map", "offer"]
    by_mid = {m.mid: m.msid.track_id for m in bob.negotiation.remote_media()}
    assert {mid: entry["type"] for mid, entry in bob.media_map.items()} == {
        mid: track_id.partition("_")[0] for mid, track_id in by_mid.items()
    }
    assert {entry["sender_id"] for entry in bob.media_map.values()} == {"alice"}


@pytest.mark.parametrize("dc", [False, True])
async def test_offers_take_the_way_that_the_client_asked_for(venue, dc: bool) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob", dc=dc)
    await alice.talk()
    over_channel = [
        m for m in bob.channel_messages if isinstance(m, DcMessage) and m.type is DcType.SDP
    ]
    assert len(over_channel) == (1 if dc else 0)
    assert list(bob.tracks) == ["voice_alice"]


@pytest.mark.parametrize("over_channel", [False, True])
async def test_an_answer_returns_the_way_its_offer_came(venue, over_channel: bool) -> None:
    bob = await venue.join("bob", dc=True)
    bob.negotiation.add_sender("audio", None)
    bob.channel_messages.clear()
    await bob.offer(over_channel=over_channel)
    assert bool(bob.channel_messages) is over_channel
    assert bob.told == ["answer", "answer"]


# the lock


async def test_a_client_gets_the_lock_at_once_or_a_no(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob", answers=False)
    bob.say(LOCK)
    bob.say(UNLOCK)
    await alice.talk()  # now the SFU waits for an answer
    bob.say(LOCK)
    assert locks(bob) == [True, False]


async def test_tracks_wait_while_the_client_has_the_lock_and_none_is_lost(venue) -> None:
    """The original drops each after 5 s (rtcd.md trap 25)."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    bob.say(LOCK)
    await alice.talk()
    await alice.share()
    await asyncio.sleep(12)
    assert bob.offers == []
    bob.say(UNLOCK)
    await bob.settle()
    assert sorted(bob.tracks) == ["screen_alice", "voice_alice"]


async def test_a_lock_that_the_client_has_forgotten_is_taken_over(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    bob.say(LOCK)
    await alice.talk()
    await asyncio.sleep(29)
    assert bob.offers == []
    await asyncio.sleep(2)
    assert list(bob.tracks) == ["voice_alice"]
    bob.say(LOCK)
    assert locks(bob) == [True, True]


async def test_an_offer_that_meets_ours_is_ignored(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob", answers=False)
    await alice.talk()
    bob.negotiation.add_sender("audio", None)
    await bob.offer()
    assert bob.told == ["answer", "map", "offer"]
    bob.negotiation.withdraw_offer()
    bob.reply(bob.offers[-1])
    await bob.settle()
    await bob.offer()
    assert bob.told[-1] == "answer"
    assert list(bob.tracks) == ["voice_alice"]


# answers that do not come


async def test_an_offer_without_answer_is_made_again_with_the_same_sections(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob", answers=False)
    await alice.talk()
    await asyncio.sleep(10.5)
    assert len(bob.offers) == 2
    bob.reply(bob.offers[-1])
    await bob.settle()
    assert [audio_sections(offer) for offer in bob.offers] == [1, 1]
    assert list(bob.tracks) == ["voice_alice"]
    bob.answers = True
    await alice.share()
    assert sorted(bob.tracks) == ["screen_alice", "voice_alice"]


async def test_a_client_that_never_answers_is_asked_three_times_and_not_stuck(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob", answers=False)
    await alice.talk()
    await asyncio.sleep(60)
    assert len(bob.offers) == 3
    bob.negotiation.add_sender("audio", None)
    bob.answers = True
    await bob.offer()  # its own is answered
    assert bob.told[-1] == "answer"
    await alice.share()  # and the next of ours is an offer like any other
    assert list(bob.tracks) == ["screen_alice"]


async def test_a_removal_without_answer_is_told_again(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    bob.answers = False
    alice.tell(RtcType.SCREEN_OFF)
    await alice.settle()
    bob.answers = True
    await asyncio.sleep(10.5)
    assert bob.tracks == {}


async def test_a_late_answer_is_not_taken_for_that_of_a_later_offer(venue) -> None:
    alice, carol = await venue.join("alice"), await venue.join("carol")
    bob = await venue.join("bob", answers=False)
    await alice.talk()
    await asyncio.sleep(35)  # given up
    bob.reply(bob.offers[-1])
    await bob.settle()
    await carol.talk()
    assert audio_sections(bob.offers[-1]) == audio_sections(bob.offers[0])
    assert bob.session._peer.negotiation.offering
    bob.reply(bob.offers[-1])
    await bob.settle()
    assert not bob.session._peer.negotiation.offering
    assert list(bob.tracks) == ["voice_carol"]


async def test_an_answer_that_cannot_be_used_is_not_the_end(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    bob.change_answer = lambda _text: "v=0"
    await alice.talk()
    bob.change_answer = lambda text: text
    bob.reply(bob.offers[-1])
    await bob.settle()
    alice.wire.take()
    assert list(bob.tracks) == ["voice_alice"]
    assert bob.session._subscriber.active


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (r"m=audio 9 ", "m=audio 0 "),
        (r"a=recvonly\r\n$", "a=inactive\r\n"),
        (r" 111\r\n", " 0\r\n"),
    ],
)
async def test_what_a_client_refuses_is_not_sent_to_it(venue, pattern: str, wanted: str) -> None:
    alice, bob, carol = [await venue.join(name) for name in ("alice", "bob", "carol")]
    bob.change_answer = lambda text: re.sub(pattern, wanted, text)
    voice = await alice.talk()
    voice.send()
    assert len(carol.wire.take()) == 1
    if "inactive" in wanted or "m=audio" in wanted:
        assert bob.wire.take() == []
    bob.change_answer = lambda text: text
    await alice.share()
    assert "screen_alice" in bob.tracks


# sections


async def test_the_sections_of_speakers_who_left_are_used_again(venue) -> None:
    """Browsers must see a section end before another sender begins in it (rtcd.md trap 23)."""
    bob = await venue.join("bob")
    for number in range(12):
        alice = await venue.join(f"alice-{number}")
        await alice.talk()
        assert f"voice_alice-{number}" in bob.tracks
        await venue.server.leave(alice.id)
        await bob.settle()
    assert audio_sections(bob.offers[-1]) == 2
    assert len(bob.offers) == 12  # no offer for the end of a sound


async def test_a_section_that_changes_its_sender_was_closed_in_the_offer_before(venue) -> None:
    bob = await venue.join("bob")
    for number in range(6):
        alice = await venue.join(f"alice-{number}")
        await alice.talk()
        await venue.server.leave(alice.id)
        await bob.settle()
    owners: dict[str, str] = {}
    for offer in bob.offers:
        for section in offer.split("\nm=")[1:]:
            mid = re.search(r"a=mid:(\S+)", section)
            track = re.search(r"a=msid:\S+ (\S+)", section)
            assert mid is not None
            owner = track.group(1) if track else ""
            before = owners.get(mid.group(1), "")
            assert not owner or before in ("", owner)
            owners[mid.group(1)] = owner
            if not owner and not section.startswith("application"):
                assert "a=recvonly" in section


async def test_the_end_of_a_picture_is_told_and_its_section_used_again(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    for number in range(4):
        screen = await alice.share(f"screen-{number}")
        assert list(bob.tracks) == ["screen_alice"]
        alice.tell(RtcType.SCREEN_OFF)
        screen.section.local = None
        await alice.offer()
        assert bob.tracks == {}
    assert [offer.count("\nm=video ") for offer in bob.offers] == [1] * 8


async def test_a_sharer_who_leaves_ends_the_screen_for_all_and_frees_it(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    await venue.server.leave("alice")
    await bob.settle()
    assert bob.tracks == {}
    carol = await venue.join("carol")
    await carol.share()
    assert list(bob.tracks) == ["screen_carol"]


async def test_a_track_that_ends_while_its_offer_is_open_is_taken_back(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob", answers=False)
    await alice.share()
    alice.tell(RtcType.SCREEN_OFF)
    await alice.settle()
    bob.answers = True
    bob.reply(bob.offers[-1])
    await bob.settle()
    assert bob.tracks == {}
    assert not bob.session._subscriber.active


async def test_a_section_that_the_client_closes_later_gets_nothing_more(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    voice.send()
    assert len(bob.wire.take()) == 1
    text = bob.negotiation.create_offer(bob.transport).replace("m=audio 9 ", "m=audio 0 ")
    bob.describe("offer", text)
    await bob.settle()
    voice.send()
    assert bob.wire.take() == []


# codecs


@pytest.mark.parametrize(
    ("sender", "receiver", "codec", "wanted"),
    [
        (True, True, "AV1", "AV1"),
        (
            True,
            True,
            "VP8",
            "VP8",
        ),  # a fallback, where the original shows nothing (rtcd.md trap 20)
        (True, False, "VP8", "VP8"),
        (True, False, "AV1", None),
        (False, True, "VP8", "VP8"),
        (False, True, "AV1", None),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_av1_goes_only_between_two_who_know_it(
    venue, sender: bool, receiver: bool, codec: str, wanted: str | None, when: str
) -> None:
    alice = await venue.join("alice", av1=sender)
    bob = await venue.join("bob", av1=receiver) if when == "before" else None
    await alice.share(codec=codec)
    bob = bob or await venue.join("bob", av1=receiver)
    downs = bob.session._subscriber._downs.values()
    assert [down.up.codec for down in downs] == ([wanted] if wanted else [])


@pytest.mark.parametrize("first", ["VP8", "AV1"])
async def test_of_two_codecs_of_one_picture_each_gets_one_whichever_came_first(
    venue, first: str
) -> None:
    alice = await venue.join("alice", av1=True)
    new, old = await venue.join("new", av1=True), await venue.join("old")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    streams = {c: await alice.publish("video", "screen", codec=c) for c in ("VP8", "AV1")}
    for codec in sorted(streams, key=lambda codec: codec != first):
        streams[codec].send(b"\x90\x80\x80\x00\x00")
        await new.settle()
    for member, codec in ((new, "AV1"), (old, "VP8")):
        [down] = member.session._subscriber._downs.values()
        assert down.up.codec == codec
        assert len(member.tracks) == 1


async def test_whose_av1_ends_gets_the_vp8_that_is_left(venue) -> None:
    alice, bob = await venue.join("alice", av1=True), await venue.join("bob", av1=True)
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    streams = {c: await alice.publish("video", "screen", codec=c) for c in ("AV1", "VP8")}
    for stream in streams.values():
        stream.send(b"\x90\x80\x80\x00\x00")
        await bob.settle()
    streams["AV1"].section.local = None
    await alice.offer()
    [down] = bob.session._subscriber._downs.values()
    assert down.up.codec == "VP8"


# muting


async def test_two_who_unmute_at_once_end_with_one_receiver_each(venue) -> None:
    for dc in (False, True):
        one = await venue.join(f"one-{dc}", call=f"call-{dc}", dc=dc)
        two = await venue.join(f"two-{dc}", call=f"call-{dc}", dc=dc)
        voices = []
        for member in (one, two):
            member.tell(RtcType.UNMUTE)
            voices.append(await member.publish("audio", "voice"))
        for voice in voices:
            voice.send()
        await one.settle()
        assert list(one.tracks) == [f"voice_{two.id}"]
        assert list(two.tracks) == [f"voice_{one.id}"]


async def test_later_unmutes_negotiate_nothing(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    offers = len(bob.offers)
    for kind in (RtcType.MUTE, RtcType.UNMUTE) * 5:
        alice.tell(kind)
        await alice.settle()
        voice.send()
    assert len(bob.offers) == offers
    assert len(bob.wire.take()) == 5


async def test_tracks_come_and_go_in_one_batch_without_an_offer_for_nothing(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    bob.say(LOCK)
    await alice.share()
    alice.tell(RtcType.SCREEN_OFF)
    await alice.settle()
    bob.say(UNLOCK)
    await bob.settle()
    assert bob.offers == []


async def test_sound_and_picture_reach_a_late_joiner_and_its_voice_comes_back(
    venue,
) -> None:
    """One sender's voice and screen, and the voice of whoever comes later."""
    alice = await venue.join("alice")
    voice, screen = await alice.talk(), await alice.share()
    bob = await venue.join("bob")
    back = await bob.talk()
    for _ in range(20):
        voice.send()
        screen.send_picture(1, key=False, packets=1)
        back.send()
    by_ssrc = {media.ssrc: kind for kind, media in bob.tracks.items()}
    heard = [by_ssrc[p.header.ssrc] for p in bob.wire.take()]
    assert {kind: heard.count(kind) for kind in heard} == {"voice_alice": 20, "screen_alice": 20}
    assert len(alice.wire.take()) == 20

"""What the SFU's offers and answers say, to the letter (rtcd.md 3.9)."""

from __future__ import annotations

import re

import pytest

from sfu.messages import RtcType

pytestmark = pytest.mark.looptime

TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
FEEDBACK = ["goog-remb", "ccm fir", "nack", "nack pli", "transport-cc"]


def section(description: str, kind: str) -> list[str]:
    """The lines of the first section of this kind."""
    [text, *_] = [part for part in description.split("\r\nm=")[1:] if part.startswith(kind)]
    return ("m=" + text).strip().split("\r\n")


def numbered(lines: list[str], name: str) -> list[str]:
    return [line.removeprefix(f"a={name}:") for line in lines if line.startswith(f"a={name}:")]


async def test_an_offer_of_sound_has_the_numbers_that_clients_expect(venue) -> None:
    """Trap 28; and mid is no extension of sound (trap 29)."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.talk()
    lines = section(bob.offers[-1], "audio")
    assert lines[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 111"
    assert numbered(lines, "rtpmap") == ["111 opus/48000/2"]
    assert numbered(lines, "fmtp") == ["111 minptime=10;useinbandfec=1"]
    assert numbered(lines, "rtcp-fb") == ["111 transport-cc"]
    assert numbered(lines, "extmap") == [
        "1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        f"5 {TRANSPORT_CC}",
    ]


async def test_an_offer_of_pictures_has_the_numbers_that_clients_expect(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    lines = section(bob.offers[-1], "video")
    assert lines[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96 45"
    assert numbered(lines, "rtpmap") == ["96 VP8/90000", "45 AV1/90000"]
    assert numbered(lines, "fmtp") == []
    assert numbered(lines, "rtcp-fb") == [f"{n} {fb}" for n in (96, 45) for fb in FEEDBACK]
    assert numbered(lines, "extmap") == [
        "2 urn:ietf:params:rtp-hdrext:sdes:mid",
        "3 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "4 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        f"5 {TRANSPORT_CC}",
    ]
    assert not [line for line in lines if "rid" in line.partition(":")[0] or "simulcast" in line]


async def test_a_track_is_named_by_type_session_and_eight_characters(venue) -> None:
    """And its stream, in msid and cname, by the session (rtcd.md 3.4)."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    lines = section(bob.offers[-1], "video")
    [msid] = numbered(lines, "msid")
    assert re.fullmatch(r"alice screen_alice_[a-z0-9]{8}", msid)
    [cname, by_ssrc] = numbered(lines, "ssrc")
    assert cname.endswith(" cname:alice")
    assert by_ssrc.endswith(f" msid:{msid}")


@pytest.mark.parametrize("rids", [("l", "h"), ("h", "l"), ("l", "m", "h")])
async def test_simulcast_is_answered_in_the_order_in_which_it_was_offered(
    venue, rids: tuple[str, ...]
) -> None:
    alice = await venue.join("alice")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    await alice.publish_layers("screen", rids)
    lines = section(alice.answer, "video")
    assert numbered(lines, "rid") == [f"{rid} recv" for rid in rids]
    assert numbered(lines, "simulcast") == [f"recv {';'.join(rids)}"]
    assert lines[-1] == "a=recvonly"


async def test_an_answer_keeps_to_the_clients_numbers_and_leaves_out_what_we_have_not(
    venue,
) -> None:
    alice = await venue.join("alice")
    await alice.publish("video", "camera")
    lines = section(alice.answer, "video")
    assert lines[0] == "m=video 9 UDP/TLS/RTP/SAVPF 120 99"
    assert numbered(lines, "extmap") == [
        "4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        f"9 {TRANSPORT_CC}",
    ]


async def test_the_ids_that_a_client_gave_hold_for_all_sections_of_its_connection(venue) -> None:
    bob = await venue.join("bob")
    await bob.publish("audio", "voice")
    alice = await venue.join("alice")
    await alice.share()
    numbers = dict(
        reversed(line.split()) for line in numbered(section(bob.offers[-1], "video"), "extmap")
    )
    assert numbers[TRANSPORT_CC] == "9"
    assert len(set(numbers.values())) == len(numbers)


async def test_sections_of_port_0_stay_so_and_the_rest_goes_on(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await bob.publish("audio", "voice")
    text = bob.negotiation.create_offer(bob.transport)
    bob.describe("offer", text.replace("m=audio 9 ", "m=audio 0 "))
    await bob.settle()
    assert section(bob.answer, "audio")[0].startswith("m=audio 0 ")
    assert "a=group:BUNDLE 0\r\n" in bob.answer
    await alice.talk()
    assert "voice_alice" in bob.tracks


async def test_a_rejected_section_may_become_another_one(venue) -> None:
    """Browsers use the place of a stopped transceiver again (RFC 9429 section 5.2.2)."""
    bob = await venue.join("bob")
    await bob.publish("audio", "voice")
    text = bob.negotiation.create_offer(bob.transport)
    bob.describe("offer", text.replace("m=audio 9 ", "m=audio 0 "))
    await bob.settle()
    bob.describe("offer", text.replace("a=mid:1\r\n", "a=mid:new\r\n"))
    await bob.settle()
    lines = section(bob.answer, "audio")
    assert lines[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 109"
    assert "a=mid:new" in lines


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a=mid:1\r\n", "a=mid:other\r\n"),  # not rejected before
        ("a=mid:1\r\n", "a=mid:0\r\n"),  # twice the same
        ("m=audio 9 ", "m=video 9 "),
    ],
)
async def test_an_offer_that_does_not_fit_is_refused_as_a_whole(
    venue, before: str, after: str
) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await bob.publish("audio", "voice")
    text = bob.negotiation.create_offer(bob.transport).replace(before, after)
    bob.negotiation.withdraw_offer()
    extra = "m=audio 9 UDP/TLS/RTP/SAVPF 109\r\na=mid:9\r\na=rtpmap:109 opus/48000/2\r\n"
    told = len(bob.told)
    bob.describe("offer", text + extra)
    await bob.settle()
    assert len(bob.told) == told
    await alice.talk()  # and nothing of it is in the next offer
    assert "a=mid:9" not in bob.offers[-1]
    assert "voice_alice" in bob.tracks


async def test_an_offer_with_more_sections_than_any_call_has_is_refused(venue) -> None:
    bob = await venue.join("bob")
    text = bob.negotiation.create_offer(bob.transport)
    bob.negotiation.withdraw_offer()
    told = len(bob.told)
    many = [f"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:{n}\r\n" for n in range(1, 1100)]
    bob.describe("offer", text + "".join(many))
    await bob.settle()
    assert len(bob.told) == told


async def test_candidates_stand_in_the_first_section_that_is_open(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.talk()
    parts = bob.offers[-1].split("\r\nm=")
    assert [part.count("a=candidate:") for part in parts] == [0, 1, 0]

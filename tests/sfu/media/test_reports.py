"""Sender and receiver reports, feedback, and hostile packets (rtcd.md 3.8)."""

from __future__ import annotations

import random

import pytest

from rtc.ntp import ntp_from_unix
from rtc.rtcp import (
    ReceiverReport,
    SenderReport,
    SourceName,
    TransportFeedback,
    build_nack,
    build_pli,
    build_receiver_report,
    build_sender_report,
    build_transport_feedback,
)
from rtc.rtp import build_rtp
from rtc.transport_cc import parse_feedback
from sfu.forwarding.layers import Layer
from sfu.messages import RtcType

pytestmark = pytest.mark.looptime

S = 1_000_000_000
MS = 1_000_000
UNIX_S = 1_800_000_000


def ntp(seconds: float) -> int:
    return ntp_from_unix(UNIX_S * S) + int(seconds * 2**32)


def told(member, now_ns: int, seconds: float) -> dict[int, SenderReport]:
    """The SFU's sender reports of this moment."""
    member.wire.take_rtcp()
    member.session.report(now_ns, ntp(seconds))
    return {m.ssrc: m for m in member.wire.take_rtcp() if isinstance(m, SenderReport)}


@pytest.fixture
def publish_report(monkeypatch: pytest.MonkeyPatch):
    """Let a publisher's sender report arrive `seconds` after the beginning."""

    def send(upstream, *, their_ntp: int, rtp: int, seconds: float) -> None:
        monkeypatch.setattr("sfu.session.time.time_ns", lambda: (UNIX_S * S) + int(seconds * S))
        monkeypatch.setattr("sfu.session.time.monotonic_ns", lambda: int(seconds * S))
        upstream.member.session.rtcp_received(
            build_sender_report(
                ssrc=upstream.ssrc, ntp=their_ntp, rtp_timestamp=rtp, packets=1, octets=1
            )
        )

    return send


async def test_every_sent_ssrc_has_a_report_with_its_senders_name(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice, screen = await alice.talk(), await alice.share()
    voice.send(b"12345")
    voice.send(b"123")
    screen.send_picture(2, key=False)
    bob.session.report(S, ntp(0))
    messages = bob.wire.take_rtcp()
    names = {m.ssrc: m.cname for m in messages if isinstance(m, SourceName)}
    reports = {m.ssrc: m for m in messages if isinstance(m, SenderReport)}
    ssrcs = {media.ssrc for media in bob.tracks.values()}
    assert names == dict.fromkeys(ssrcs, "alice")
    assert set(reports) == ssrcs
    report = reports[bob.tracks["voice_alice"].ssrc]
    assert (report.packets, report.octets) == (2, 8)


async def test_sound_and_picture_of_one_sender_stay_together_on_our_clock(
    venue, publish_report
) -> None:
    """The publisher's clock is an hour off; one shift holds for all it sends."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice, screen = await alice.talk(), await alice.share()
    for stream in (voice, screen):
        stream.send(b"\x90\x80\x80\x01\x01", at_ns=S)
    hour = 3600
    publish_report(voice, their_ntp=ntp(1 + hour), rtp=1111, seconds=1.010)
    publish_report(screen, their_ntp=ntp(1.5 + hour), rtp=2222, seconds=1.530)
    reports = told(bob, 2 * S, 2)
    sound, picture = (reports[bob.tracks[f"{kind}_alice"].ssrc] for kind in ("voice", "screen"))
    assert (sound.rtp_timestamp, picture.rtp_timestamp) == (1111, 2222)
    assert picture.ntp - sound.ntp == 2**31  # half a second, as the publisher said
    assert abs(sound.ntp - ntp(1.010)) < 2**32 // 1000  # by the quickest report


async def test_two_senders_with_wrong_clocks_are_told_on_one(venue, publish_report) -> None:
    alice, carol = await venue.join("alice"), await venue.join("carol")
    bob = await venue.join("bob")
    for member, wrong in ((alice, -86400), (carol, 555)):
        voice = await member.talk()
        voice.send()
        publish_report(voice, their_ntp=ntp(5 + wrong), rtp=1, seconds=5)
    reports = told(bob, 6 * S, 6)
    assert len({report.ntp for report in reports.values()}) == 1


async def test_a_report_follows_the_shift_of_a_layer_switch(venue, publish_report) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, high = await alice.publish_layers("screen")
    high.timestamp = 900_000
    low.send_picture(1, key=True)
    await bob.settle()
    low.send_picture(2, key=True, at_ns=S)
    high.send_picture(8, key=True, at_ns=S)
    publish_report(low, their_ntp=ntp(1), rtp=low.timestamp, seconds=1)
    publish_report(high, their_ntp=ntp(1), rtp=high.timestamp, seconds=1)
    [before] = told(bob, S, 1).values()
    [down] = bob.session._subscriber._downs.values()
    down.selector.layer = Layer.HIGH
    bob.wire.take()
    high.send_picture(9, key=True, at_ns=S + 50 * MS)
    [first, _] = bob.wire.take()
    [after] = told(bob, S + 50 * MS, 1.05).values()
    assert after.ssrc == before.ssrc
    ticks = (first.header.timestamp - after.rtp_timestamp) / 90_000
    assert ticks == pytest.approx(0.05)  # the packet is 50 ms after the moment of the report
    assert after.rtp_timestamp == before.rtp_timestamp


async def test_publishers_get_receiver_reports_and_feedback(venue) -> None:
    alice = await venue.join("alice")
    voice = await alice.talk()
    number_id = voice.section.extensions[
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
    ]
    for number in (1, 2, 4):
        voice.sequence = 500 + number - 1
        voice.send(extensions=((number_id, number.to_bytes(2)),), at_ns=10 * S + number * 20 * MS)
    alice.wire.take_rtcp()
    alice.session.tick(10 * S + 100 * MS)
    alice.session.report(10 * S + 100 * MS, ntp(10))
    messages = alice.wire.take_rtcp()
    [feedback] = [m for m in messages if isinstance(m, TransportFeedback)]
    parsed = parse_feedback(feedback.body)
    assert parsed is not None
    assert (parsed.base, [offset for offset, _ in parsed.received]) == (1, [0, 1, 3])
    [block] = [b for m in messages if isinstance(m, ReceiverReport) for b in m.reports]
    assert block.ssrc == voice.ssrc
    assert block.highest_sequence & 0xFFFF == 504


async def test_video_that_is_held_back_has_arrived_all_the_same(venue) -> None:
    """Told as lost, it would make its publisher slow before anybody sees it."""
    alice = await venue.join("alice")
    voice = await alice.talk()
    video = await alice.publish("video", "unannounced")
    for number in range(1, 7):
        source = video if number in (2, 3, 5) else voice
        number_id = source.section.extensions[
            "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
        ]
        source.send(extensions=((number_id, number.to_bytes(2)),), at_ns=10 * S + number * 20 * MS)
    alice.wire.take_rtcp()
    alice.session.tick(10 * S + 200 * MS)
    told = [
        parse_feedback(m.body) for m in alice.wire.take_rtcp() if isinstance(m, TransportFeedback)
    ]
    arrived = [f.base + offset for f in told if f is not None for offset, _ in f.received]
    assert arrived == [1, 2, 3, 4, 5, 6]


# hostile packets


def _mutated(rng: random.Random, packet: bytes) -> bytes:
    data = bytearray(packet)
    for _ in range(rng.randint(1, 6)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.4:
        del data[rng.randrange(len(data) + 1) :]
    if rng.random() < 0.1:
        data += rng.randbytes(rng.randint(1, 1600))
    return bytes(data)


async def test_broken_rtp_breaks_nothing_and_leaves_nothing_behind(venue) -> None:
    rng = random.Random(4)
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    screen = await alice.share()
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "camera"})
    layers = await alice.publish_layers("camera")
    for layer in layers:
        layer.send_picture(1, key=True)
    await bob.settle()
    sent = [
        build_rtp(
            b"\x90\xf0\x80\x01\x02\x20\x00" + bytes(30),
            payload_type=stream.section.payload_type(stream.codec) or 0,
            sequence=5,
            timestamp=6,
            ssrc=stream.ssrc,
            extensions=((1, b"l"), (2, b"ab"), (4, b"2"), (10, b"h"), (7, b"\x10"), (9, b"\1\2")),
        )
        for stream in (voice, screen, *layers)
    ]
    for number in range(20_000):
        alice.session.rtp_received(_mutated(rng, rng.choice(sent)), 10 * S + number * MS)
        if number % 500 == 0:
            alice.session.tick(10 * S + number * MS)
            bob.session.report(10 * S + number * MS, ntp(number / 1000))
            bob.wire.datagrams.clear()
            await bob.settle()
    publisher = alice.session._publisher
    assert len(publisher._encodings) <= 64
    assert len(publisher._retired) <= 64
    assert len(publisher._undecided) <= 8
    assert all(e.nacks is None or e.nacks.missing <= 512 for e in publisher._encodings.values())
    assert len(alice.session._call.tracks) <= 4
    assert bob.closes == alice.closes == 0
    again = await alice.publish("audio", "fresh")
    for second in (100, 101, 103, 104):
        again.send(b"heard", at_ns=second * S)
        await bob.settle()
    assert any(p.payload == b"heard" for p in bob.wire.take())


async def test_broken_rtcp_breaks_nothing(venue) -> None:
    rng = random.Random(5)
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    screen.send_picture(2, key=False, packets=20)
    ssrc = bob.tracks["screen_alice"].ssrc
    valid = [
        build_sender_report(ssrc=screen.ssrc, ntp=ntp(1), rtp_timestamp=1, packets=1, octets=1),
        build_receiver_report(ssrc=1, blocks=[]),
        build_nack(sender_ssrc=1, media_ssrc=ssrc, sequences=range(100, 120)),
        build_pli(sender_ssrc=1, media_ssrc=ssrc),
        build_transport_feedback(sender_ssrc=1, media_ssrc=ssrc, body=bytes(30)),
    ]
    for number in range(5_000):
        compound = b"".join(rng.choices(valid, k=rng.randint(1, 3)))
        for member in (alice, bob):
            member.session.rtcp_received(_mutated(rng, compound))
        if number % 500 == 0:
            bob.session.report(S, ntp(1))
            bob.wire.datagrams.clear()
    bob.wire.take()
    screen.send_picture(3, key=True)
    assert len(bob.wire.take()) == 2

"""What one client and one session may take of the server: limits that no participant meets (docs/sfu.md)."""

from __future__ import annotations

import json
import zlib

import pytest

from rtc.calls_dc import DcMessage, DcTooLarge, DcType, unpack_sdp
from sfu.limits import Limits
from sfu.media_port import JoinError
from sfu.messages import RtcMessage, RtcType

MS = 1_000_000


def refused(venue, kind: str) -> float:
    return venue.server.metrics.value("rtcd_rtc_refused_total", "group", kind)


@pytest.mark.parametrize("limits", [Limits(client_sessions=2)])
async def test_a_client_has_so_many_sessions_and_each_that_ends_makes_room(venue) -> None:
    for name in ("alice", "bob"):
        await venue.join(name, ready=False)
    with pytest.raises(JoinError, match="2 sessions already") as caught:
        await venue.join("carol", ready=False)
    assert caught.value.reason == "sessions"
    await venue.server.leave("bob")
    await venue.join("carol", ready=False)
    assert venue.server.session_count() == 2


@pytest.mark.parametrize("limits", [Limits(client_calls=1)])
async def test_a_client_has_so_many_calls_and_who_joins_one_of_them_gets_in(venue) -> None:
    await venue.join("alice", ready=False)
    await venue.join("bob", ready=False)
    with pytest.raises(JoinError, match="1 calls already") as caught:
        await venue.join("carol", call="other", ready=False)
    assert caught.value.reason == "calls"
    assert not venue.server.sessions("group", "other")
    for name in ("alice", "bob"):
        await venue.server.leave(name)
    await venue.join("carol", call="other", ready=False)


@pytest.mark.parametrize("limits", [Limits(session_tracks=2)])
async def test_a_session_publishes_so_many_tracks_and_the_next_goes_to_nobody(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    await alice.share()
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "camera"})
    camera = await alice.publish("video", "camera")
    for _ in range(5):
        camera.send()
    await bob.settle()
    assert sorted(bob.tracks) == ["screen_alice", "voice_alice"]
    assert refused(venue, "track") == 1
    bob.wire.take()
    voice.send(b"goes on")
    assert [packet.payload for packet in bob.wire.take()] == [b"goes on"]


@pytest.mark.parametrize("limits", [Limits(audio_bps=8000)])
async def test_a_track_has_so_many_bits_a_second_five_seconds_worth_at_once(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    bob.wire.take()
    for _ in range(60):
        voice.send(bytes(100), at_ns=0)
    taken = len(bob.wire.take())
    assert 5000 // 130 < taken < 5000 // 100
    voice.send(
        bytes(100), at_ns=10 * MS
    )  # room for 10 bytes more, and for less than a packet before
    assert bob.wire.take() == []
    voice.send(bytes(100), at_ns=300 * MS)
    assert len(bob.wire.take()) == 1
    alice.session.report(0, 0)
    assert alice.session._publisher.active
    dropped = venue.server.metrics.value("rtcd_rtc_packets_dropped_total", "group", "bit_rate")
    assert dropped == 61 - taken


@pytest.mark.parametrize("limits", [Limits(video_bps=80_000)])
async def test_all_layers_of_a_picture_share_its_bits(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, high = await alice.publish_layers("screen")
    for _ in range(40):
        low.send(bytes(1000), at_ns=0)
        high.send(bytes(1000), at_ns=0)
    await bob.settle()
    alice.session.report(0, 0)
    value = venue.server.metrics.value
    received = value("rtcd_rtc_packets_received_total", "group", "screen")
    assert received == 80
    dropped = value("rtcd_rtc_packets_dropped_total", "group", "bit_rate")
    assert 80 - 50 <= dropped <= 80 - 46  # of 50,000 bytes at once


@pytest.mark.parametrize("limits", [Limits(audio_bps=0, video_bps=0, session_tracks=0)])
async def test_a_limit_of_0_is_none(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    bob.wire.take()
    for _ in range(5000):
        voice.send(bytes(1000), at_ns=0)
    assert len(bob.wire.take()) == 5000


@pytest.mark.documents("a-description-that-is-too-large")
@pytest.mark.parametrize("limits", [Limits(signal_bytes=20_000)])
async def test_a_description_is_inflated_up_to_its_limit_and_no_further(
    venue, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    inflated: list[int] = []
    make = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self._inner = make()

        def decompress(self, data: bytes, most: int) -> bytes:
            text = self._inner.decompress(data, most)
            inflated.append(len(text))
            return text

    monkeypatch.setattr("rtc.calls_dc.zlib.decompressobj", Watched)
    bob = await venue.join("bob")
    bomb = zlib.compress(bytes(50_000_000), 9)
    bob.say(DcMessage(DcType.SDP, bomb))
    assert inflated == [20_001]
    await venue.server.handle("bob", _sdp("bob", 20_001))
    assert (refused(venue, "signal_size"), refused(venue, "sdp")) == (2, 0)
    with pytest.raises(DcTooLarge) as caught:
        unpack_sdp(bomb, limit_bytes=20_000)
    documented("a-description-that-is-too-large", str(caught.value))
    await venue.server.handle("bob", _sdp("bob", 19_900))
    await bob.settle()
    assert (refused(venue, "signal_size"), refused(venue, "offer")) == (2, 1)
    assert bob.closes == 0


@pytest.mark.parametrize("limits", [Limits(signal_bytes=20_000, signal_bytes_per_s=10_000)])
async def test_descriptions_have_a_budget_and_nothing_is_inflated_beyond_it(
    venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = 10**15
    monkeypatch.setattr("sfu.session.time.monotonic_ns", lambda: now_ns)
    bob = await venue.join("bob")
    read: list[bytes] = []
    unpack = unpack_sdp

    def watched(data: bytes, *, limit_bytes: int) -> tuple[str, str]:
        read.append(data)
        return unpack(data, limit_bytes=limit_bytes)

    monkeypatch.setattr("rtc.calls_dc.unpack_sdp", watched)
    bomb = DcMessage(DcType.SDP, zlib.compress(bytes(50_000_000), 9))
    for _ in range(50):
        bob.say(bomb)
    assert len(read) == 4  # of 100,000 bytes, less its first offer
    assert (refused(venue, "signal_size"), refused(venue, "signal_rate")) == (4, 46)
    now_ns += 2_000_000_000
    for _ in range(50):  # small ones give back what they do not need
        await venue.server.handle("bob", _sdp("bob", 100))
    assert refused(venue, "signal_rate") == 46


def _sdp(session_id: str, octets: int) -> RtcMessage:
    """An offer of so many bytes as the plugin brings it."""
    frame = len(json.dumps({"type": "offer", "sdp": ""}))
    data = json.dumps({"type": "offer", "sdp": "x" * (octets - frame)}).encode()
    return RtcMessage(RtcType.SDP, session_id, data)


async def test_a_session_that_sends_nonsense_does_not_fill_the_log(
    venue, capsys: pytest.CaptureFixture[str]
) -> None:
    bob = await venue.join("bob")
    for _ in range(2000):
        bob.say(b"\xc1")
        await venue.server.handle("bob", RtcMessage(RtcType.SDP, "bob", b"nonsense"))
    assert refused(venue, "channel_message") == 2000
    assert refused(venue, "sdp") + refused(venue, "signal_rate") == 2000
    assert 30 <= capsys.readouterr().out.count("refused") < 100


async def test_checks_that_had_to_wait_are_counted_apart(venue) -> None:
    bob = await venue.join("bob")
    bob.wire.held_checks = 5
    bob.session.report(0, 0)
    bob.session.report(0, 0)
    assert venue.server.metrics.value("rtcd_rtc_checks_held_total", "group") == 5
    assert refused(venue, "check") == 0


async def test_what_a_slow_reader_over_tcp_loses_is_in_the_metrics(venue) -> None:
    [snapshot] = await venue.server.snapshots()
    entries = snapshot["values"]["rtcd_rtc_datagrams_dropped_total"]
    assert [["tcp_queue"], 7] in entries

"""A session from its join to its last message (rtcd.md 3.1, 3.3). Time is virtual."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from rtc.calls_dc import DcMessage, DcType
from sfu.messages import Close, Rtc, RtcMessage, RtcType

pytestmark = pytest.mark.looptime


async def test_a_first_offer_must_come_within_ten_seconds(venue) -> None:
    bob = await venue.join("bob", ready=False)
    await asyncio.sleep(9.9)
    assert bob.messages == []
    await asyncio.sleep(0.2)
    assert bob.messages == [Close("bob")]
    assert venue.server.sessions("group", "call") is None
    assert venue.server.metrics._values["rtcd_rtc_errors_total"] == {("group", "signaling"): 1}


@pytest.mark.parametrize("text", ["", "v=0", "m=audio x", "m=application 9 x\r\na=mid:0"])
async def test_a_first_offer_that_cannot_be_used_ends_the_session(venue, text: str) -> None:
    bob = await venue.join("bob", ready=False)
    bob.describe("offer", text)
    await bob.settle()
    assert bob.messages == [Close("bob")]


async def test_the_answer_comes_before_the_candidates_and_they_over_the_plugin(venue) -> None:
    bob = await venue.join("bob", dc=True)
    kinds = [m.message.type for m in bob.messages if isinstance(m, Rtc)]
    assert kinds == [RtcType.SDP, RtcType.ICE]


async def test_the_close_is_the_last_message_and_comes_once(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.talk()
    await alice.share()
    await asyncio.gather(*(venue.server.leave("alice") for _ in range(20)))
    alice.tell(RtcType.MUTE)
    await venue.server.leave("alice")
    await asyncio.sleep(60)
    assert alice.messages[-1] == Close("alice")
    assert alice.closes == 1
    assert alice.wire.closed
    assert bob.closes == 0


async def test_a_lost_connection_ends_in_a_close(venue) -> None:
    alice = await venue.join("alice")
    alice.session.peer_failed("ICE: the other side is silent")
    await alice.settle()
    assert alice.messages[-1] == Close("alice")
    assert venue.server.session_count() == 0


@pytest.mark.documents("something-went-wrong-in-a-session")
async def test_a_fault_in_one_session_ends_that_one_with_a_close(
    venue, monkeypatch, documented
) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")

    async def broken(self) -> str:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(type(bob.session._peer), "create_offer", broken)
    with capture_logs() as lines:
        await alice.talk()
    [failed] = [line for line in lines if line["log_level"] == "error"]
    documented("something-went-wrong-in-a-session", failed["event"])
    assert bob.messages[-1] == Close("bob")
    assert list(venue.server._running) == ["alice"]


async def test_the_last_to_leave_ends_the_call(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    await venue.server.leave("alice")
    assert [config.session_id for config in venue.server.sessions("group", "call")] == ["bob"]
    assert bob.session._call.screen_session_id == ""
    await venue.server.leave("bob")
    assert venue.server.sessions("group", "call") is None
    assert not venue.server.has_group("group")


async def test_calls_of_one_id_and_two_groups_are_two(venue) -> None:
    alice = await venue.join("alice", call="one")
    bob = await venue.join("bob", call="two")
    await alice.talk()
    assert bob.offers == []


async def test_a_hundred_sessions_of_ten_calls_come_and_go_at_once(venue) -> None:
    members = await asyncio.gather(
        *(venue.join(f"s-{n}", call=f"call-{n % 10}", ready=False) for n in range(100))
    )
    assert venue.server.session_count() == 100
    assert all(len(venue.server.sessions("group", f"call-{n}")) == 10 for n in range(10))
    await asyncio.gather(*(venue.server.leave(member.id) for member in members))
    assert venue.server.session_count() == 0
    assert [member.closes for member in members] == [1] * 100


async def test_what_is_of_no_use_is_counted_also_what_comes_last(venue) -> None:
    bob = await venue.join("bob")

    def refused(kind: str) -> float:
        return venue.server.metrics.value("rtcd_rtc_refused_total", "group", kind)

    bob.tell(RtcType.SDP, {"type": "pranswer", "sdp": "x"})
    bob.describe("offer", "v=0")
    bob.say(b"\xc1")
    await bob.settle()
    assert (refused("sdp"), refused("offer"), refused("channel_message")) == (1, 1, 1)
    bob.session._peer._datagram_received(b"\x80" + bytes(30))
    bob.session.report(0, 0)
    bob.session.report(0, 0)
    assert refused("srtp") == 1
    bob.session._peer._datagram_received(b"\x80" + bytes(30))
    bob.wire.refused_requests = 3
    await venue.server.leave("bob")
    assert (refused("srtp"), refused("ice_request")) == (2, 3)


async def test_a_ping_has_its_pong_in_both_tongues(venue) -> None:
    bob = await venue.join("bob")
    for ping in (b"\xcc\x01", b"\x01", "ping", b"ping"):
        bob.say(ping)
    pong = DcMessage(DcType.PONG)
    assert bob.channel_messages == [pong, pong, "pong", "pong"]


async def test_what_a_client_measures_is_counted_in_any_kind_of_number(venue) -> None:
    """A JavaScript client sends 0 as a whole number (rtcd.md trap 8)."""
    bob = await venue.join("bob")
    for message in (
        b"\xcc\x04\x00",
        b"\x04\xca\x3f\x00\x00\x00",  # float32 0.5
        b"\xcc\x04\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00",  # float64 0.5
        b"\xcc\x05\x01",
        b"\xcc\x06\xcc\x02",
    ):
        bob.say(message)
    totals = {
        name: (sum(d.counts), d.total)
        for name, series in venue.server.metrics._distributions.items()
        for d in series.values()
        if name.startswith("rtcd_rtc_client")
    }
    assert totals["rtcd_rtc_client_loss_rate"] == (3, 1.0)
    assert totals["rtcd_rtc_client_rtt"] == (1, 1.0)
    assert totals["rtcd_rtc_client_jitter"] == (1, 2.0)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xcc",
        b"\xcc\x63",
        b"\xcc\x03",
        b"\xcc\x03\xc4\x02xx",
        b"\xcc\x04",
        b"\xcc\x04\xc3",
        b"\xcc\x04\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # not a number
        b"\xcc\x04\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
        b"\x81\x80\x01",
        b"\x91" * 2000,
        b"\xc1",
        b"x" * 2_000_000,
        "text",
        "pi\ud83d".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
)
async def test_a_message_that_cannot_be_read_ends_nothing(venue, message: bytes | str) -> None:
    bob = await venue.join("bob")
    bob.say(message)
    bob.say(b"\xcc\x01")
    assert bob.channel_messages[-1] == DcMessage(DcType.PONG)
    assert not venue.server.metrics._distributions.get("rtcd_rtc_client_loss_rate")


@pytest.mark.parametrize("kind", list(RtcType))
@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"sdp":1}', b"[" * 100_000])
async def test_a_plugin_message_that_cannot_be_read_ends_nothing(venue, kind, data: bytes) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await venue.server.handle("bob", RtcMessage(kind, "bob", data))
    await bob.settle()
    await alice.talk()
    assert list(bob.tracks) == ["voice_alice"]


async def test_an_offer_may_ask_for_an_ice_restart(venue) -> None:
    """The answer has credentials of its own again (RFC 8445 section 9)."""
    bob = await venue.join("bob")
    first = bob.answer
    bob.transport = type(bob.transport)("other-ufrag-01234", "z" * 22, "AA:BB")
    await bob.offer()
    ufrag = next(line for line in bob.answer.splitlines() if line.startswith("a=ice-ufrag"))
    assert ufrag not in first
    assert bob.wire.remote_credentials.ufrag == "other-ufrag-01234"
    again = bob.answer
    await bob.offer()
    assert ufrag in bob.answer
    assert again != bob.answer


async def test_after_a_rebind_everything_goes_the_new_way(venue) -> None:
    bob = await venue.join("bob")
    new: list[object] = []
    venue.server.rebind("bob", new.append)
    before = len(bob.messages)
    await venue.server.leave("bob")
    assert new == [Close("bob")]
    assert len(bob.messages) == before

"""The double negotiates as pion does: who may offer, which section serves whom, what the text says."""

from __future__ import annotations

import pytest

from rtc.errors import NegotiationError, SdpError
from rtc.negotiation import Capabilities, Negotiation
from rtc.sdp import CodecDescription, Msid
from rtc.sections import LocalMedia, LocalTransport
from testbed.rtcd_double.transceivers import AUDIO_LEVEL, TRANSPORT_CC, PionNegotiation, Transceiver

CLIENT = Capabilities(
    audio_codecs=(CodecDescription(109, "opus", 48_000, 2),),
    video_codecs=(CodecDescription(120, "VP8", 90_000, feedback=("nack", "nack pli")),),
    audio_extensions=(AUDIO_LEVEL, TRANSPORT_CC),
    extension_numbers=((AUDIO_LEVEL, 7), (TRANSPORT_CC, 8)),
)
TRANSPORT = LocalTransport(
    ice_ufrag="u" * 16,
    ice_password="p" * 32,
    fingerprint=":".join(["AB"] * 32),
    candidates=("1234 1 udp 2130706431 127.0.0.1 8443 typ host",),
)
VOICE = Msid("alice", "voice_alice_12345678")
SCREEN = Msid("alice", "screen_alice_12345678")


class Pair:
    """A client and the double, after the first exchange."""

    def __init__(self, *, av1_first: bool = False) -> None:
        self.client = Negotiation(CLIENT)
        self.double = PionNegotiation(offers_av1_first=av1_first)
        self.client.add_data_section()
        self.client_offers()
        self.double.candidates_known = True
        self.offer = ""
        """The double's newest."""

    def client_offers(self) -> str:
        answer, _ = self.double.accept_offer(self.client.create_offer(TRANSPORT), TRANSPORT)
        self.client.accept_answer(answer)
        return answer

    def double_offers(self) -> None:
        self.offer = self.double.create_offer(TRANSPORT)
        answer, _ = self.client.accept_offer(self.offer, TRANSPORT)
        self.double.accept_answer(answer)

    def add(self, track: Msid, *, reuse_dead: bool = False) -> Transceiver:
        kind = "audio" if "voice" in track.track_id else "video"
        added = self.double.add_track(kind, track, 4711, reuse_dead=reuse_dead)
        self.double_offers()
        return added


def test_a_freed_video_section_is_used_again() -> None:
    pair = Pair()
    first = pair.add(SCREEN)
    pair.double.remove_track(first)
    pair.double_offers()
    assert "a=recvonly" in pair.offer
    assert pair.add(SCREEN) is first
    assert pair.offer.count("m=video") == 1


@pytest.mark.parametrize("reuse", [False, True])
def test_a_dead_voice_keeps_its_section_unless_the_script_reuses_it(reuse: bool) -> None:
    pair = Pair()
    first = pair.add(VOICE)
    pair.double.detach(first)
    second = pair.add(VOICE, reuse_dead=reuse)
    assert (second is first) == reuse
    assert pair.offer.count("m=audio") == (1 if reuse else 2)
    assert pair.offer.count("a=msid:") == 1
    assert pair.offer.count("a=sendrecv") == pair.offer.count("m=")


def test_a_track_moves_into_a_section_that_the_client_opened() -> None:
    pair = Pair()
    pair.client.add_sender("audio", LocalMedia(Msid("bob", "mic"), 1, "bob"))
    assert "a=recvonly" in pair.client_offers()
    assert pair.add(VOICE).mid == "1"
    assert pair.offer.count("m=audio") == 1
    assert [m.msid.track_id for m in pair.client.remote_media()] == [VOICE.track_id]


def test_without_an_answer_nothing_is_ever_negotiated_again() -> None:
    pair = Pair()
    pair.double.add_track("audio", VOICE, 1, reuse_dead=False)
    late, _ = pair.client.accept_offer(pair.double.create_offer(TRANSPORT), TRANSPORT)
    with pytest.raises(NegotiationError, match="stuck"):
        pair.double.create_offer(TRANSPORT)
    with pytest.raises(NegotiationError):
        pair.client_offers()
    assert late


def test_an_answer_to_another_offer_fails_and_leaves_the_offer_open() -> None:
    pair = Pair()
    pair.double.add_track("audio", VOICE, 1, reuse_dead=False)
    answer, _ = pair.client.accept_offer(pair.double.create_offer(TRANSPORT), TRANSPORT)
    pair.double.accept_answer(answer)
    pair.double.add_track("audio", VOICE, 2, reuse_dead=False)
    pair.double.create_offer(TRANSPORT)
    with pytest.raises(SdpError):
        pair.double.accept_answer(answer)
    assert pair.double.offering


def test_own_numbers_are_used_until_the_client_has_named_its_own() -> None:
    pair = Pair()
    pair.add(VOICE)
    assert "m=audio 9 UDP/TLS/RTP/SAVPF 111" in pair.offer
    assert f"a=extmap:1 {AUDIO_LEVEL}" in pair.offer
    assert f"a=extmap:5 {TRANSPORT_CC}" in pair.offer
    client_first = Pair()
    client_first.client.add_sender("audio", LocalMedia(Msid("bob", "mic"), 1, "bob"))
    client_first.client_offers()
    client_first.add(VOICE)
    client_first.add(VOICE)
    assert client_first.offer.count("m=audio 9 UDP/TLS/RTP/SAVPF 109") == 2
    assert f"a=extmap:7 {AUDIO_LEVEL}" in client_first.offer


@pytest.mark.parametrize(("av1_first", "order"), [(True, "45 96"), (False, "96 45")])
def test_both_video_codecs_are_offered_until_the_client_takes_one(
    av1_first: bool, order: str
) -> None:
    pair = Pair(av1_first=av1_first)
    screen = pair.add(SCREEN)
    assert f"m=video 9 UDP/TLS/RTP/SAVPF {order}\r\n" in pair.offer
    assert [codec.name for codec in screen.codecs] == ["VP8"]
    pair.double_offers()
    assert "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" in pair.offer


def test_a_section_reads_as_pion_writes_it() -> None:
    pair = Pair()
    pair.add(VOICE)
    section = pair.offer[pair.offer.index("m=audio") :].splitlines()
    assert section == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=setup:actpass",
        "a=mid:1",
        f"a=ice-ufrag:{TRANSPORT.ice_ufrag}",
        f"a=ice-pwd:{TRANSPORT.ice_password}",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtcp-fb:111 transport-cc",
        f"a=extmap:1 {AUDIO_LEVEL}",
        f"a=extmap:5 {TRANSPORT_CC}",
        "a=ssrc:4711 cname:alice",
        f"a=ssrc:4711 msid:alice {VOICE.track_id}",
        "a=ssrc:4711 mslabel:alice",
        f"a=ssrc:4711 label:{VOICE.track_id}",
        f"a=msid:alice {VOICE.track_id}",
        "a=sendrecv",
    ]


def test_candidates_stand_in_the_first_section_of_offers_and_not_in_the_answer() -> None:
    double = PionNegotiation(offers_av1_first=False)
    client = Negotiation(CLIENT)
    client.add_data_section()
    answer, _ = double.accept_offer(client.create_offer(TRANSPORT), TRANSPORT)
    assert "a=candidate" not in answer
    assert "a=setup:active" in answer
    double.candidates_known = True
    double.add_track("audio", VOICE, 1, reuse_dead=False)
    head, _, rest = double.create_offer(TRANSPORT).partition("m=audio")
    assert "a=candidate:1234 1 udp 2130706431 127.0.0.1 8443 typ host" in head
    assert "a=candidate:1234 2 udp 2130706431 127.0.0.1 8443 typ host" in head
    assert "a=end-of-candidates" in head
    assert "a=candidate" not in rest


def test_layers_are_taken_in_the_offered_order() -> None:
    double = PionNegotiation(offers_av1_first=False)
    client = Negotiation(CLIENT)
    client.add_data_section()
    client.add_sender("video", LocalMedia(Msid("bob", "screen"), 1, "bob"))
    offer = client.create_offer(TRANSPORT).replace(
        "a=ssrc:1 cname:bob\r\n", "a=rid:l send\r\na=rid:h send\r\na=simulcast:send l;h\r\n"
    )
    answer, _ = double.accept_offer(offer, TRANSPORT)
    assert "a=rid:l recv\r\na=rid:h recv\r\na=simulcast:recv l;h\r\n" in answer
    assert double.remote_media()[0].rids == ("l", "h")


def test_a_section_that_the_client_stops_is_dead_in_both_directions() -> None:
    pair = Pair()
    screen = pair.add(SCREEN)
    offer = pair.client.create_offer(TRANSPORT).replace("a=sendrecv", "a=inactive")
    offer = offer.replace("a=recvonly", "a=inactive")
    pair.double.accept_offer(offer, TRANSPORT)
    assert screen.sender is None
    assert not screen.may_send()


def test_the_clients_first_video_section_fixes_the_codecs_of_all_others() -> None:
    """Who offers a section with AV1 alone first has its VP8 refused for good."""
    double = PionNegotiation(offers_av1_first=False)
    av1 = CodecDescription(45, "AV1", 90_000)
    client = Negotiation(Capabilities(audio_codecs=(), video_codecs=(av1,)))
    client.add_data_section()
    client.add_sender("video", LocalMedia(Msid("bob", "av1"), 1, "bob"))
    answer, _ = double.accept_offer(client.create_offer(TRANSPORT), TRANSPORT)
    client.accept_answer(answer)
    client.add_sender("video", LocalMedia(Msid("bob", "vp8"), 2, "bob"))
    head, _, last = client.create_offer(TRANSPORT).rpartition("m=video")
    last = last.replace("45", "96").replace("AV1", "VP8")
    answer, _ = double.accept_offer(f"{head}m=video{last}", TRANSPORT)
    assert "m=video 9 UDP/TLS/RTP/SAVPF 45" in answer
    assert "m=video 0 UDP/TLS/RTP/SAVPF 0" in answer

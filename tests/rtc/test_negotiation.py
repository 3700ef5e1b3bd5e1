"""Offers and answers without any I/O."""

from __future__ import annotations

import pytest

from rtc import sdp
from rtc.errors import NegotiationError, SdpError
from rtc.negotiation import Capabilities, Negotiation
from rtc.sdp import CodecDescription, Msid
from rtc.sections import LocalMedia, LocalTransport

LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
SERVER = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48000, 2, "minptime=10;useinbandfec=1"),),
    video_codecs=(
        CodecDescription(96, "VP8", 90000, feedback=("nack", "nack pli")),
        CodecDescription(45, "AV1", 90000),
    ),
    audio_extensions=(LEVEL,),
)
CLIENT = Capabilities(
    audio_codecs=(CodecDescription(109, "opus", 48000, 2),),
    video_codecs=(CodecDescription(120, "VP8", 90000),),
    audio_extensions=(LEVEL,),
    extension_numbers=((LEVEL, 7),),
)
TRANSPORT = LocalTransport("ufrag", "password", "AA:BB", ("1 1 udp 1 127.0.0.1 8443 typ host",))


def media(track_id: str, ssrc: int) -> LocalMedia:
    return LocalMedia(Msid("stream", track_id), ssrc, "cname")


def exchange(offerer: Negotiation, answerer: Negotiation) -> tuple[str, str]:
    offer = offerer.create_offer(TRANSPORT)
    answer, _ = answerer.accept_offer(offer, TRANSPORT)
    offerer.accept_answer(answer)
    return offer, answer


def joined() -> tuple[Negotiation, Negotiation]:
    client, server = Negotiation(CLIENT), Negotiation(SERVER)
    client.add_data_section()
    exchange(client, server)
    return client, server


def test_the_first_offer_is_a_data_section_and_the_answerer_becomes_active() -> None:
    client, server = Negotiation(CLIENT), Negotiation(SERVER)
    client.add_data_section()
    offer, answer = exchange(client, server)
    assert [line for line in offer.splitlines() if line.startswith("m=")] == [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
    ]
    assert "a=setup:actpass" in offer
    assert "a=setup:active" in answer
    assert (client.setup, server.setup) == ("passive", "active")


def test_the_name_of_a_section_is_quoted_in_short() -> None:
    client, server = joined()
    offer = client.create_offer(TRANSPORT).replace("a=mid:0", "a=mid:" + "9" * 50_000)
    with pytest.raises(SdpError, match="application mid '0', the offer says application mid") as it:
        server.accept_offer(offer, TRANSPORT)
    assert len(str(it.value)) < 200


def test_the_roles_stay_when_the_other_side_offers_later() -> None:
    client, server = joined()
    server.add_sender("audio", media("voice_a_1", 1))
    _, answer = exchange(server, client)
    assert "a=setup:passive" in answer


def test_numbers_that_the_other_side_offered_first_are_kept_for_the_connection() -> None:
    client, server = joined()
    client.add_sender("audio", media("mic", 5))
    exchange(client, server)  # the client calls Opus 109 and the level 7
    server.add_sender("audio", media("voice_a_1", 6))
    server.add_sender("audio", media("voice_b_1", 8))
    offer, _ = exchange(server, client)
    assert offer.count("a=rtpmap:109 opus/48000/2") == 2
    assert f"a=extmap:7 {LEVEL}" in offer
    assert "111" not in offer


def test_a_free_section_is_reused_before_a_new_one_is_made() -> None:
    client, server = joined()
    section = server.add_sender("video", media("screen_a_1", 1))
    exchange(server, client)
    section.local = None
    offer, answer = exchange(server, client)
    assert "a=recvonly" in offer
    assert "a=inactive" in answer
    assert client.remote_media() == []
    again = server.add_sender("video", media("screen_b_2", 2))
    offer, _ = exchange(server, client)
    assert again is section
    assert offer.count("m=video") == 1
    [remote] = client.remote_media()
    assert (remote.msid.track_id, remote.ssrcs) == ("screen_b_2", (2,))


def test_a_free_section_of_another_codec_is_left_alone() -> None:
    client, server = joined()
    section = server.add_sender("video", media("screen_a_1", 1))
    exchange(server, client)
    section.local = None
    exchange(server, client)
    (known, *_) = (codec.name for codec in section.codecs)
    other = server.add_sender("video", media("screen_b_2", 2), codec="H264")
    assert other is not section
    assert server.add_sender("video", media("screen_c_3", 3), codec=known.lower()) is section


def test_a_section_can_carry_media_both_ways() -> None:
    client, server = joined()
    client.add_sender("audio", media("mic", 5))
    exchange(client, server)
    server.add_sender("audio", media("voice_a_1", 6))
    offer, answer = exchange(server, client)
    assert offer.count("m=audio") == 1
    assert answer.count("a=sendrecv") == 1
    assert [m.ssrcs for m in server.remote_media()] == [(5,)]
    assert [m.ssrcs for m in client.remote_media()] == [(6,)]


def test_an_unknown_codec_is_refused_and_the_rest_goes_on() -> None:
    client = Negotiation(
        Capabilities(audio_codecs=(CodecDescription(0, "PCMU", 8000),), video_codecs=())
    )
    server = Negotiation(SERVER)
    client.add_data_section()
    client.add_sender("audio", media("mic", 5))
    offer = client.create_offer(TRANSPORT)
    answer, _ = server.accept_offer(offer, TRANSPORT)
    assert "m=audio 0 " in answer
    assert "m=application 9 " in answer
    client.accept_answer(answer)
    assert client.sections[1].rejected


def test_a_hundred_sections_fit_into_the_limits_of_the_plugin() -> None:
    client, server = joined()
    for number in range(100):
        server.add_sender("audio", media(f"voice_{'s' * 26}_{number}", number + 1))
    _, answer = exchange(server, client)
    assert len(answer.encode()) < 65536


def test_an_answer_without_an_offer_and_an_offer_in_ours_are_refused() -> None:
    client, server = joined()
    with pytest.raises(NegotiationError, match="without an offer"):
        client.accept_answer("")
    server.create_offer(TRANSPORT)
    client_offer = client.create_offer(TRANSPORT)
    with pytest.raises(NegotiationError, match="while ours is open"):
        server.accept_offer(client_offer, TRANSPORT)


def test_a_withdrawn_offer_is_repaired_by_the_next_one() -> None:
    client, server = joined()
    server.add_sender("audio", media("voice_a_1", 1))
    server.create_offer(TRANSPORT)
    server.withdraw_offer()
    server.add_sender("audio", media("voice_b_1", 2))
    exchange(server, client)
    assert [m.ssrcs for m in client.remote_media()] == [(1,), (2,)]


def test_a_shrinking_offer_is_refused() -> None:
    client, server = joined()
    fresh = Negotiation(SERVER)
    fresh.add_data_section()
    shorter = fresh.create_offer(TRANSPORT)
    server.add_sender("audio", media("voice_a_1", 1))
    exchange(server, client)
    with pytest.raises(SdpError, match="has 1 sections, there were 2"):
        client.accept_offer(shorter, TRANSPORT)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("v=0", "no media section"),
        ("m=audio x y", "line 1 cannot be read"),
        ("m=text 9 UDP 0", "media kind 'text' should be"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0", "lacks ice-ufrag, ice-pwd, fingerprint"),
    ],
)
def test_a_description_that_cannot_be_read_says_why(text: str, problem: str) -> None:
    with pytest.raises(SdpError, match=problem):
        sdp.parse("offer", text)


def test_a_browser_like_offer_is_understood() -> None:
    text = "\r\n".join(
        [
            "v=0",
            "o=- 1 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0 1",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "a=ice-ufrag:abcd",
            "a=ice-pwd:0123456789012345678901",
            "a=fingerprint:sha-256 AA:BB",
            "a=setup:actpass",
            "a=mid:0",
            "a=sctp-port:5000",
            "m=video 0 UDP/TLS/RTP/SAVPF 96 97 45",
            "a=bundle-only",
            "a=ice-ufrag:abcd",
            "a=mid:1",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=sendonly",
            "a=msid:s t",
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
            "a=rtpmap:45 AV1/90000",
            "a=rid:l send",
            "a=rid:h send",
            "a=ssrc-group:FID 11 12",
            "a=ssrc:11 cname:c",
            "a=ssrc:12 cname:c",
        ]
    )
    video = sdp.parse("offer", text).media[1]
    assert [codec.payload_type for codec in video.codecs] == [96, 97, 45]
    assert video.codecs[0].feedback == ("nack", "nack pli")
    assert video.msid == Msid("s", "t")
    assert (video.ssrcs, video.rids, video.rejected) == ([11], ["l", "h"], False)

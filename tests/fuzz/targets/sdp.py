"""Session descriptions, candidates, lists of ICE servers: what clients and the site say before any packet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from rtc import sdp
from rtc.calls_dc import DcError, read_sdp_json
from rtc.errors import MAX_TEXT_CHARS, NegotiationError, SdpError
from rtc.ice.bounds import IceBounds
from rtc.ice.candidate import Candidate, CandidateError
from rtc.ice.intake import Intake
from rtc.negotiation import MAX_SECTIONS, Negotiation
from rtc.sdp import Msid
from rtc.sections import LocalMedia, LocalTransport
from rtc.turn.servers import read_servers, stun_urls, turn_urls
from sfu.capabilities import CAPABILITIES
from sfu.declared import DeclaredMedia
from tests.fuzz.target import Target, check_text

_TRANSPORT = LocalTransport("ufrag", "password", "00:11", ("1 1 udp 1 192.0.2.1 1 typ host",))
_MEDIA = LocalMedia(Msid("stream", "track"), 99, "cname")
_BETWEEN = "\x00"
_ANSWER_CHARS_PER_SECTION = 4000


def _describe(texts: list[str]) -> None:
    """One after the other, to one connection that has something to send itself."""
    negotiation = Negotiation(CAPABILITIES)
    for number, text in enumerate(texts):
        try:
            if negotiation.offering:
                negotiation.accept_answer(text)
            else:
                answer, _ = negotiation.accept_offer(text, _TRANSPORT)
                sections = len(negotiation.sections)
                assert sections <= MAX_SECTIONS + len(texts)
                assert len(answer) < 1000 + _ANSWER_CHARS_PER_SECTION * sections + 2 * len(text)
                assert len(sdp.parse("answer", answer).media) == sections
        except SdpError as error:
            check_text(error, MAX_TEXT_CHARS)
        except NegotiationError:
            pass
        DeclaredMedia(negotiation.remote_media()).find(
            b"\x90\x60" + bytes(10) + b"\xbe\xde\0\1\x10a\0\0"
        )
        # What is kept of numbers that are not ours must not grow with the number of offers.
        assert len(negotiation._numbering._foreign_ids) <= 14
        if number % 2:
            negotiation.withdraw_offer()
        else:
            with contextlib.suppress(NegotiationError):
                negotiation.add_sender("video", _MEDIA, codec="VP8")
                negotiation.create_offer(_TRANSPORT)


def _candidates(lines: list[str]) -> None:
    intake = Intake(IceBounds())
    for line in lines[:200]:
        with contextlib.suppress(CandidateError):
            candidate = Candidate.parse(line)
            if candidate.foundation.isalnum():  # others are not kept out, and mean nothing
                assert Candidate.parse(candidate.format()) == candidate
        found = intake.read(line)
        if found is not None:
            intake.keep(found)
    assert len(intake.take_kept("u")) <= IceBounds().candidates


def _run(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    _describe(text.split(_BETWEEN)[:6])
    _candidates(text.splitlines())
    with contextlib.suppress(DcError):
        read_sdp_json(data, limit_bytes=1 << 16)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    servers, problems = read_servers(value)
    assert len(servers) <= 16
    assert len(problems) <= 16 * 17
    turn_urls(servers)
    stun_urls(servers)


_OFFER = """v=0\r
o=- 1 2 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=fingerprint:sha-256 AA:BB\r
a=group:BUNDLE 0 1 2\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r
a=mid:0\r
a=ice-ufrag:abcd\r
a=ice-pwd:0123456789012345678901\r
a=setup:actpass\r
a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host generation 0 ufrag abcd\r
a=rtpmap:111 opus/48000/2\r
a=fmtp:111 minptime=10;useinbandfec=1\r
a=rtcp-fb:111 transport-cc\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=extmap:5/sendrecv http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=ssrc:7 cname:name\r
a=ssrc:7 msid:stream track\r
a=msid:stream track\r
a=sendrecv\r
m=video 9 UDP/TLS/RTP/SAVPF 96 45 97\r
a=mid:1\r
a=rtpmap:96 VP8/90000\r
a=rtcp-fb:* nack pli\r
a=rtpmap:45 AV1/90000\r
a=rtpmap:97 rtx/90000\r
a=extmap:14 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r
a=rid:l send\r
a=rid:h send\r
a=simulcast:send l;h\r
a=ssrc-group:FID 8 9\r
a=ssrc:8 cname:name\r
a=recvonly\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
a=mid:2\r
a=sctp-port:5000\r
"""


def _seeds() -> Iterable[bytes]:
    yield _OFFER.encode()
    audio = _OFFER[: _OFFER.index("m=video")]
    yield audio.encode()
    yield _BETWEEN.join([audio, _OFFER, _OFFER.replace("9 UDP", "0 UDP"), audio]).encode()
    yield audio.replace("actpass", "active").replace("sendrecv", "bundle-only").encode()
    negotiation = Negotiation(CAPABILITIES)
    negotiation.add_data_section()
    negotiation.add_sender("video", _MEDIA)
    yield negotiation.create_offer(_TRANSPORT).encode()
    yield (
        b"candidate:1 1 TCP 1 2001:db8::1 9 typ srflx raddr 0.0.0.0 rport 0 tcptype active\n"
        b"2 2 udp 1 name.local 1 typ relay raddr 192.0.2.9 rport 9\n3 1 udp 1 ::ffff:10.0.0.1 5 typ prflx"
    )
    yield json.dumps({"type": "offer", "sdp": "v=0"}).encode()
    yield json.dumps(
        [
            {"urls": ["stun:stun.example.org", "turns:[2001:db8::1]:443?transport=tcp"]},
            {"urls": "turn:turn.example.org:3478", "username": "u", "credential": "c"},
        ]
    ).encode()


TARGET = Target(
    parses="SDP and what is negotiated by it, ICE candidates, lists of ICE servers",
    run=_run,
    seeds=_seeds,
    tokens=tuple(
        token.encode()
        for token in (
            *(
                "\r\nm=audio 9 UDP/TLS/RTP/SAVPF ",
                "\r\nm=video 9 X ",
                "\r\na=rtpmap:",
                "\r\na=extmap:",
            ),
            *(
                "\r\na=ssrc:",
                "\r\na=rid:",
                " send",
                " recv",
                "\r\na=mid:",
                "\r\na=msid:",
                "\r\na=rtcp-fb:",
            ),
            *(
                "\r\na=candidate:",
                " typ host",
                " raddr ",
                " rport ",
                " tcptype ",
                "\r\na=setup:",
                "\x00v=0",
            ),
            *(
                "\r\na=inactive",
                "\r\na=bundle-only",
                "\r\na=sctp-port:",
                "\r\na=ssrc-group:FID ",
                "\r\na=fmtp:",
            ),
            *("turn:", "?transport=", "99999999999999999999", "-1", "²", "١"),
        )
    ),
    max_bytes=8192,
    ci_inputs=1200,
)

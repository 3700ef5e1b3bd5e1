"""Session descriptions as pion writes them (rtcd.md 3.9, calls-plugin.md 4.7). Text only, no decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rtc.sdp import CodecDescription, Direction, MediaKind, Msid, Setup

_MAX_MESSAGE_BYTES = 1_073_741_823


@dataclass(frozen=True, slots=True)
class Transport:
    """What all sections say alike."""

    ice_ufrag: str
    ice_password: str
    fingerprint: str
    """SHA-256."""
    setup: Setup
    candidates: tuple[str, ...] = ()
    """Without prefix; empty while they are being gathered."""


@dataclass(frozen=True, slots=True)
class WrittenSection:
    """One m-section."""

    kind: MediaKind
    mid: str
    direction: Direction = "sendrecv"
    codecs: Sequence[CodecDescription] = ()
    """None at all: the section is refused."""
    extensions: dict[str, int] = field(default_factory=dict)
    received_rids: Sequence[str] = ()
    msid: Msid | None = None
    ssrc: int = 0


def write(
    sections: Sequence[WrittenSection],
    transport: Transport,
    *,
    session_id: int,
    version: int,
    mixed_extensions: bool,
) -> str:
    """The whole description with CRLF line ends."""
    bundle = " ".join(s.mid for s in sections if s.kind == "application" or s.codecs)
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=msid-semantic:WMS *",
        f"a=fingerprint:sha-256 {transport.fingerprint}",
        *(["a=extmap-allow-mixed"] if mixed_extensions else []),
        f"a=group:BUNDLE {bundle}",
    ]
    for index, section in enumerate(sections):
        lines += _section(section, transport)
        if index == 0 and transport.candidates:
            lines += _candidates(transport.candidates)
    return "\r\n".join(lines) + "\r\n"


def _section(section: WrittenSection, transport: Transport) -> list[str]:
    ice = [f"a=ice-ufrag:{transport.ice_ufrag}", f"a=ice-pwd:{transport.ice_password}"]
    if section.kind == "application":
        return [
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            f"a=setup:{transport.setup}",
            f"a=mid:{section.mid}",
            "a=sendrecv",
            "a=sctp-port:5000",
            f"a=max-message-size:{_MAX_MESSAGE_BYTES}",
            *ice,
        ]
    if not section.codecs:
        # Not even a mid.
        return [f"m={section.kind} 0 UDP/TLS/RTP/SAVPF 0", "c=IN IP4 0.0.0.0"]
    numbers = " ".join(str(codec.payload_type) for codec in section.codecs)
    lines = [
        f"m={section.kind} 9 UDP/TLS/RTP/SAVPF {numbers}",
        "c=IN IP4 0.0.0.0",
        f"a=setup:{transport.setup}",
        f"a=mid:{section.mid}",
        *ice,
        "a=rtcp-mux",
        "a=rtcp-rsize",
    ]
    for codec in section.codecs:
        lines += _codec(codec)
    lines += [f"a=extmap:{number} {uri}" for uri, number in section.extensions.items()]
    if section.received_rids:
        lines += [f"a=rid:{rid} recv" for rid in section.received_rids]
        lines.append(f"a=simulcast:recv {';'.join(section.received_rids)}")
    msid = section.msid
    if msid is not None:
        stream, track = msid.stream_id, msid.track_id
        lines += [
            f"a=ssrc:{section.ssrc} cname:{stream}",
            f"a=ssrc:{section.ssrc} msid:{stream} {track}",
            f"a=ssrc:{section.ssrc} mslabel:{stream}",
            f"a=ssrc:{section.ssrc} label:{track}",
            f"a=msid:{stream} {track}",
        ]
    return [*lines, f"a={section.direction}"]


def _codec(codec: CodecDescription) -> list[str]:
    number = codec.payload_type
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate_hz}{channels}"]
    if codec.parameters:
        lines.append(f"a=fmtp:{number} {codec.parameters}")
    return lines + [f"a=rtcp-fb:{number} {feedback}" for feedback in codec.feedback]


def _candidates(candidates: Sequence[str]) -> list[str]:
    """Each one for both components, then the end: what is known when a later offer is made."""
    lines = []
    for candidate in candidates:
        foundation, _, rest = candidate.partition(" ")
        tail = rest.partition(" ")[2]
        lines += [f"a=candidate:{foundation} {component} {tail}" for component in (1, 2)]
    return [*lines, "a=end-of-candidates"]

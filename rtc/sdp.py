"""Session descriptions (RFC 8866, RFC 9429) as data: read and write, decide nothing.

Covers what calls use: BUNDLE, rtcp-mux, one transport, Opus and video codecs, one data-channel section.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from rtc.errors import SdpError

MediaKind = Literal["audio", "video", "application"]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
DescriptionType = Literal["offer", "answer"]
Setup = Literal["actpass", "active", "passive"]

_MAX_COMMON_FEEDBACK = 16
"""Each of these lines counts for every codec; there are not so many kinds."""
_KINDS: dict[str, MediaKind] = {k: k for k in ("audio", "video", "application")}
_SETUPS: dict[str, Setup] = {s: s for s in ("actpass", "active", "passive")}


@dataclass(frozen=True, slots=True)
class CodecDescription:
    """One `a=rtpmap` with its `fmtp` and `rtcp-fb` lines."""

    payload_type: int
    name: str
    clock_rate_hz: int
    channels: int = 1
    parameters: str = ""
    feedback: tuple[str, ...] = ()

    def matches(self, other: CodecDescription) -> bool:
        """The same codec, whatever its payload type (names compare without case)."""
        return (self.name.lower(), self.clock_rate_hz, self.channels) == (
            other.name.lower(),
            other.clock_rate_hz,
            other.channels,
        )


@dataclass(frozen=True, slots=True)
class Msid:
    """`a=msid:<stream> <track>` (RFC 8830)."""

    stream_id: str
    track_id: str


@dataclass(slots=True)
class MediaDescription:
    """One m-section."""

    kind: MediaKind
    mid: str
    direction: Direction = "sendrecv"
    rejected: bool = False
    """Port 0 and not bundle-only."""
    codecs: list[CodecDescription] = field(default_factory=list)
    extensions: dict[str, int] = field(default_factory=dict)
    """Header extension URI to id."""
    msid: Msid | None = None
    ssrcs: list[int] = field(default_factory=list)
    cname: str = ""
    rids: list[str] = field(default_factory=list)
    """Sent by the describing side (simulcast, RFC 8853)."""
    received_rids: list[str] = field(default_factory=list)
    """Which the describing side takes."""
    sctp_port: int | None = None
    candidates: list[str] = field(default_factory=list)
    """Without the `candidate:` prefix."""


@dataclass(slots=True)
class SessionDescription:
    """A whole description; transport attributes are those of the bundle."""

    type: DescriptionType
    media: list[MediaDescription]
    ice_ufrag: str
    ice_password: str
    fingerprint_algorithm: str
    fingerprint: str
    setup: Setup
    session_id: int = 0
    session_version: int = 0


def parse(kind: DescriptionType, text: str) -> SessionDescription:
    """Read a description.

    Raises:
        SdpError: no sections, a line that cannot be read, or transport attributes missing.
    """
    transport: dict[str, str] = {}
    media: list[MediaDescription] = []
    current: _SectionReader | None = None
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        try:
            if line.startswith("m="):
                if current is not None:
                    current.finish()
                current = _SectionReader(line)
                media.append(current.section)
            elif line.startswith("a="):
                name, _, value = line[2:].partition(":")
                if name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup"):
                    transport.setdefault(name, value)
                elif current is not None:
                    current.attribute(name, value)
        except (ValueError, IndexError) as error:
            raise SdpError(f"SDP line {number} cannot be read: {error}") from error
    if current is None:
        raise SdpError("SDP has no media section")
    current.finish()
    missing = [name for name in ("ice-ufrag", "ice-pwd", "fingerprint") if name not in transport]
    if missing:
        raise SdpError(f"SDP lacks {', '.join(missing)}")
    algorithm, _, fingerprint = transport["fingerprint"].partition(" ")
    setup = _SETUPS.get(wanted := transport.get("setup", "actpass"))
    if setup is None:
        raise SdpError(f"SDP setup {wanted!r} should be actpass, active or passive")
    return SessionDescription(
        type=kind,
        media=media,
        ice_ufrag=transport["ice-ufrag"],
        ice_password=transport["ice-pwd"],
        fingerprint_algorithm=algorithm,
        fingerprint=fingerprint,
        setup=setup,
    )


class _SectionReader:
    """Collects the attributes of one m-section."""

    def __init__(self, line: str) -> None:
        parts = line[2:].split()
        kind, port = parts[0], int(parts[1].partition("/")[0])
        if kind not in _KINDS:
            raise ValueError(f"media kind {kind!r} should be audio, video or application")
        self.section = MediaDescription(kind=_KINDS[kind], mid="", rejected=port == 0)
        self._order = list(dict.fromkeys(int(p) for p in parts[3:] if p.isdecimal()))
        # By payload type: the rtpmap, and the other lines about it.
        self._maps: dict[int, CodecDescription] = {}
        self._parameters: dict[int, str] = {}
        self._feedback: dict[int, list[str]] = {}
        self._common_feedback: list[str] = []
        self._ssrcs: dict[int, None] = {}
        self._repair_ssrcs: set[int] = set()

    def finish(self) -> None:
        """Once the section's last line was read."""
        section = self.section
        section.codecs = [
            replace(
                self._maps[number],
                parameters=self._parameters.get(number, ""),
                feedback=(*self._common_feedback, *self._feedback.get(number, ())),
            )
            for number in self._order
            if number in self._maps
        ]
        section.ssrcs = [ssrc for ssrc in self._ssrcs if ssrc not in self._repair_ssrcs]

    def attribute(self, name: str, value: str) -> None:
        section = self.section
        match name:
            case "mid":
                section.mid = value
            case "sendrecv" | "sendonly" | "recvonly" | "inactive":
                section.direction = name
            case "bundle-only":
                section.rejected = False
            case "rtpmap":
                self._rtpmap(value)
            case "fmtp" | "rtcp-fb":
                self._codec_attribute(name, value)
            case "extmap":
                number, uri = value.split()[:2]
                section.extensions[uri] = int(number.partition("/")[0])
            case "msid":
                stream, _, track = value.partition(" ")
                section.msid = Msid(stream, track)
            case "ssrc-group":
                # In FID groups the second SSRC carries retransmissions, not a track.
                semantics, *ssrcs = value.split()
                if semantics == "FID":
                    self._repair_ssrcs.update(int(s) for s in ssrcs[1:])
            case "ssrc":
                self._ssrc(value)
            case "rid":
                rid, direction = value.split()[:2]
                (section.rids if direction == "send" else section.received_rids).append(rid)
            case "sctp-port":
                section.sctp_port = int(value)
            case "candidate":
                section.candidates.append(value)

    def _rtpmap(self, value: str) -> None:
        number, encoding = value.split(maxsplit=1)
        name, clock, *channels = encoding.split("/")
        payload_type = int(number)
        if not 0 <= payload_type <= 127:
            raise ValueError(f"payload type is {payload_type}; wanted 0 to 127")
        self._maps[payload_type] = CodecDescription(
            payload_type, name, int(clock), int(channels[0]) if channels else 1
        )

    def _codec_attribute(self, name: str, value: str) -> None:
        number, _, text = value.partition(" ")
        if name == "rtcp-fb" and number == "*":  # for every codec (RFC 4585 section 4.2)
            self._common_feedback = [*self._common_feedback, text][:_MAX_COMMON_FEEDBACK]
        if not number.isdecimal():
            return
        if name == "fmtp":
            self._parameters[int(number)] = text
        else:
            self._feedback.setdefault(int(number), []).append(text)

    def _ssrc(self, value: str) -> None:
        number, _, attribute = value.partition(" ")
        self._ssrcs[int(number)] = None
        name, _, text = attribute.partition(":")
        if name == "cname":
            self.section.cname = text
        elif name == "msid" and self.section.msid is None:
            stream, _, track = text.partition(" ")
            self.section.msid = Msid(stream, track)


def write(description: SessionDescription) -> str:
    """The description as text with CRLF line ends."""
    bundle = " ".join(section.mid for section in description.media if not section.rejected)
    lines = [
        "v=0",
        f"o=- {description.session_id} {description.session_version} IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=msid-semantic:WMS *",
        f"a=fingerprint:{description.fingerprint_algorithm} {description.fingerprint}",
        "a=extmap-allow-mixed",
        f"a=group:BUNDLE {bundle}",
    ]
    for section in description.media:
        lines += _write_section(section, description)
    return "\r\n".join(lines) + "\r\n"


def _write_section(section: MediaDescription, description: SessionDescription) -> list[str]:
    port = 0 if section.rejected else 9
    if section.kind == "application":
        head = f"m=application {port} UDP/DTLS/SCTP webrtc-datachannel"
    else:
        payload_types = " ".join(str(codec.payload_type) for codec in section.codecs) or "0"
        head = f"m={section.kind} {port} UDP/TLS/RTP/SAVPF {payload_types}"
    lines = [head, "c=IN IP4 0.0.0.0", f"a=mid:{section.mid}"]
    if section.rejected:
        return [*lines, "a=inactive"]
    lines += [
        f"a=setup:{description.setup}",
        f"a=ice-ufrag:{description.ice_ufrag}",
        f"a=ice-pwd:{description.ice_password}",
    ]
    lines += [f"a=candidate:{candidate}" for candidate in section.candidates]
    if section.kind == "application":
        return [*lines, f"a=sctp-port:{section.sctp_port}", "a=max-message-size:262144"]
    lines += ["a=rtcp-mux", "a=rtcp-rsize"]
    for codec in section.codecs:
        lines += _write_codec(codec)
    lines += [f"a=extmap:{number} {uri}" for uri, number in section.extensions.items()]
    msid = section.msid
    if msid is not None:
        for ssrc in section.ssrcs:
            lines.append(f"a=ssrc:{ssrc} cname:{section.cname}")
            lines.append(f"a=ssrc:{ssrc} msid:{msid.stream_id} {msid.track_id}")
        lines.append(f"a=msid:{msid.stream_id} {msid.track_id}")
    if section.received_rids:
        lines += [f"a=rid:{rid} recv" for rid in section.received_rids]
        lines.append(f"a=simulcast:recv {';'.join(section.received_rids)}")
    return [*lines, f"a={section.direction}"]


def _write_codec(codec: CodecDescription) -> list[str]:
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate_hz}{channels}"]
    if codec.parameters:
        lines.append(f"a=fmtp:{codec.payload_type} {codec.parameters}")
    lines += [f"a=rtcp-fb:{codec.payload_type} {feedback}" for feedback in codec.feedback]
    return lines

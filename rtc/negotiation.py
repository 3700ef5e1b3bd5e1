"""Offer and answer (RFC 9429, RFC 3264) for one bundled connection. Sans-IO: text in, text out.

Both ends of a call use it: the client that offers first and publishes, the SFU that adds and removes
senders. Payload types and header-extension ids that the other side offered first are adopted for the
whole connection, because browsers refuse to have them reassigned.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rtc import sdp
from rtc.errors import NegotiationError, SdpError
from rtc.sdp import CodecDescription, Direction, MediaDescription, MediaKind, Msid

SCTP_PORT = 5000


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this side can handle, in order of preference."""

    audio_codecs: tuple[CodecDescription, ...]
    video_codecs: tuple[CodecDescription, ...]
    audio_extensions: tuple[str, ...] = ()
    video_extensions: tuple[str, ...] = ()
    first_extension_id: int = 1

    def codecs(self, kind: MediaKind) -> tuple[CodecDescription, ...]:
        return self.audio_codecs if kind == "audio" else self.video_codecs

    def extensions(self, kind: MediaKind) -> tuple[str, ...]:
        return self.audio_extensions if kind == "audio" else self.video_extensions


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """What descriptions of this side say of its transport."""

    ice_ufrag: str
    ice_password: str
    fingerprint: str
    """SHA-256."""
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What this side sends in a section."""

    msid: Msid
    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """What the other side says that it sends in a section now."""

    mid: str
    kind: MediaKind
    msid: Msid
    ssrcs: tuple[int, ...]
    rids: tuple[str, ...]
    codecs: tuple[CodecDescription, ...]
    extensions: dict[str, int]


@dataclass(slots=True)
class Section:
    """One m-section of the connection, seen from this side."""

    kind: MediaKind
    mid: str
    local: LocalMedia | None = None
    remote: RemoteMedia | None = None
    remote_receives: bool = False
    """The other side's last description was willing to receive here."""
    we_receive: bool = True
    rejected: bool = False
    codecs: list[CodecDescription] = field(default_factory=list)
    extensions: dict[str, int] = field(default_factory=dict)

    def payload_type(self, codec_name: str) -> int | None:
        """The negotiated payload type of a codec, or None."""
        for codec in self.codecs:
            if codec.name.lower() == codec_name.lower():
                return codec.payload_type
        return None


class Negotiation:
    """The sections of a connection and whose turn it is."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._codecs: dict[MediaKind, list[CodecDescription]] = {
            "audio": list(capabilities.audio_codecs),
            "video": list(capabilities.video_codecs),
        }
        self._extension_ids: dict[str, int] = {}
        self._session_id = random.getrandbits(62)
        self._version = 0
        self.sections: list[Section] = []
        self.offering = False
        """An offer of ours waits for its answer."""
        self.setup: sdp.Setup | None = None
        """Our DTLS side once decided: `active` or `passive`."""

    # what we send

    def add_data_section(self) -> None:
        """Ask for data channels; once, before the first offer."""
        self.sections.append(Section(kind="application", mid=self._next_mid()))

    def add_sender(self, kind: MediaKind, media: LocalMedia, *, receive: bool = True) -> Section:
        """Put `media` into a section that is free (RFC 9429 section 4.1.8 / addTrack), or a new one.

        Takes effect with the next offer.
        """
        for section in self.sections:
            if (
                section.kind == kind
                and section.local is None
                and section.remote_receives
                and not section.rejected
            ):
                section.local = media
                return section
        section = Section(kind=kind, mid=self._next_mid(), local=media, we_receive=receive)
        section.codecs = list(self._codecs[kind])
        section.extensions = self._offered_extensions(kind)
        self.sections.append(section)
        return section

    # our offer

    def create_offer(self, transport: LocalTransport) -> str:
        """Describe the wanted state.

        Raises:
            NegotiationError: an offer of ours is still open.
        """
        if self.offering:
            raise NegotiationError("an offer is already waiting for its answer")
        self.offering = True
        media = [
            self._describe(section, self._offer_direction(section)) for section in self.sections
        ]
        return self._write("offer", media, transport, setup="actpass")

    def accept_answer(self, text: str) -> sdp.SessionDescription:
        """Take the answer to our open offer.

        Raises:
            NegotiationError: no offer is open.
            SdpError: it cannot be read or does not fit the offer. The offer stays open.
        """
        if not self.offering:
            raise NegotiationError("an answer came without an offer")
        answer = sdp.parse("answer", text)
        if len(answer.media) != len(self.sections):
            raise SdpError(
                f"the answer has {len(answer.media)} sections, the offer {len(self.sections)}"
            )
        for section, described in zip(self.sections, answer.media, strict=True):
            self._apply_remote(section, described, adopt=False)
        self.offering = False
        if self.setup is None:
            self.setup = "passive" if answer.setup == "active" else "active"
        return answer

    def withdraw_offer(self) -> None:
        """Give the open offer up (rollback); the sections stay wanted for the next one."""
        self.offering = False

    # their offer

    def accept_offer(
        self, text: str, transport: LocalTransport
    ) -> tuple[str, sdp.SessionDescription]:
        """Take the other side's offer and answer it.

        Returns our answer and what was offered.

        Raises:
            NegotiationError: an offer of ours is open (the caller decides who is polite).
            SdpError: it cannot be read, or has fewer sections than before.
        """
        if self.offering:
            raise NegotiationError("an offer came while ours is open")
        offer = sdp.parse("offer", text)
        if len(offer.media) < len(self.sections):
            raise SdpError(
                f"the offer has {len(offer.media)} sections, there were {len(self.sections)}"
            )
        for index, described in enumerate(offer.media):
            if index == len(self.sections):
                self.sections.append(Section(kind=described.kind, mid=described.mid))
            section = self.sections[index]
            if section.kind != described.kind or section.mid != described.mid:
                raise SdpError(
                    f"section {index} was {section.kind} mid {section.mid}, "
                    f"the offer says {described.kind} mid {described.mid}"
                )
            self._apply_remote(section, described, adopt=True)
        if self.setup is None:
            # The answerer that chooses `active` saves a round trip (RFC 5763 section 5).
            self.setup = "passive" if offer.setup == "active" else "active"
        media = [
            self._describe(section, self._answer_direction(section, described.direction))
            for section, described in zip(self.sections, offer.media, strict=True)
        ]
        return self._write("answer", media, transport, setup=self.setup), offer

    def remote_media(self) -> list[RemoteMedia]:
        """What the other side sends now, by its newest description."""
        return [section.remote for section in self.sections if section.remote is not None]

    # internals

    def _apply_remote(self, section: Section, described: MediaDescription, *, adopt: bool) -> None:
        section.rejected = described.rejected
        if section.kind == "application":
            return
        if described.rejected:
            section.remote, section.remote_receives = None, False
            return
        if adopt:
            self._adopt(section, described)
        else:
            offered = {codec.payload_type for codec in described.codecs}
            section.codecs = [c for c in section.codecs if c.payload_type in offered] or (
                section.codecs
            )
            section.extensions = {
                uri: number
                for uri, number in section.extensions.items()
                if uri in described.extensions
            }
        sends = described.direction in ("sendrecv", "sendonly") and described.msid is not None
        if adopt or section.local is not None:
            # An answer to a section in which we send nothing says nothing about receiving.
            section.remote_receives = described.direction in ("sendrecv", "recvonly")
        section.remote = (
            RemoteMedia(
                mid=section.mid,
                kind=section.kind,
                msid=described.msid,
                ssrcs=tuple(described.ssrcs),
                rids=tuple(described.rids),
                codecs=tuple(section.codecs),
                extensions=dict(section.extensions),
            )
            if sends and described.msid is not None
            else None
        )

    def _adopt(self, section: Section, described: MediaDescription) -> None:
        """Take over the offerer's numbers for codecs and extensions."""
        common: list[CodecDescription] = []
        for ours in self._capabilities.codecs(section.kind):
            theirs = next((c for c in described.codecs if c.matches(ours)), None)
            if theirs is not None:
                common.append(replace(ours, payload_type=theirs.payload_type))
        section.codecs = common
        section.rejected = not common
        known = self._codecs[section.kind]
        self._codecs[section.kind] = [
            next((c for c in common if c.matches(old)), old) for old in known
        ]
        section.extensions = {
            uri: described.extensions[uri]
            for uri in self._capabilities.extensions(section.kind)
            if uri in described.extensions
        }
        self._extension_ids |= section.extensions

    def _offered_extensions(self, kind: MediaKind) -> dict[str, int]:
        for uri in self._capabilities.extensions(kind):
            if uri not in self._extension_ids:
                taken = set(self._extension_ids.values())
                number = self._capabilities.first_extension_id
                while number in taken:
                    number += 1
                self._extension_ids[uri] = number
        return {uri: self._extension_ids[uri] for uri in self._capabilities.extensions(kind)}

    def _offer_direction(self, section: Section) -> Direction:
        if section.local is None:
            # A freed audio section stays open without a track; freed video says that it is over.
            return (
                "recvonly" if section.kind == "video" or not section.remote_receives else "sendrecv"
            )
        return "sendrecv" if section.we_receive else "sendonly"

    def _answer_direction(self, section: Section, offered: Direction) -> Direction:
        send = section.local is not None and offered in ("sendrecv", "recvonly")
        receive = section.we_receive and offered in ("sendrecv", "sendonly")
        return _direction(send=send, receive=receive)

    def _describe(self, section: Section, direction: Direction) -> MediaDescription:
        described = MediaDescription(
            kind=section.kind, mid=section.mid, direction=direction, rejected=section.rejected
        )
        if section.kind == "application":
            described.sctp_port = SCTP_PORT
            return described
        described.codecs = list(section.codecs)
        described.extensions = dict(section.extensions)
        if section.local is not None and direction in ("sendrecv", "sendonly"):
            described.msid = section.local.msid
            described.ssrcs = [section.local.ssrc]
            described.cname = section.local.cname
        return described

    def _write(
        self,
        kind: sdp.DescriptionType,
        media: Sequence[MediaDescription],
        transport: LocalTransport,
        *,
        setup: sdp.Setup,
    ) -> str:
        self._version += 1
        if media:
            # In the first section only: every repetition costs 64 KiB limits dearly (trap 10).
            media[0].candidates = list(transport.candidates)
        return sdp.write(
            sdp.SessionDescription(
                type=kind,
                media=list(media),
                ice_ufrag=transport.ice_ufrag,
                ice_password=transport.ice_password,
                fingerprint_algorithm="sha-256",
                fingerprint=transport.fingerprint,
                setup=setup,
                session_id=self._session_id,
                session_version=self._version,
            )
        )

    def _next_mid(self) -> str:
        taken = {section.mid for section in self.sections}
        number = len(self.sections)
        while str(number) in taken:
            number += 1
        return str(number)


def _direction(*, send: bool, receive: bool) -> Direction:
    if send:
        return "sendrecv" if receive else "sendonly"
    return "recvonly" if receive else "inactive"

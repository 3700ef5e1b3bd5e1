"""Offer and answer (RFC 9429, RFC 3264) for one bundled connection. Sans-IO: text in, text out.

Both ends of a call use it: the client that offers first and publishes, the SFU that adds and removes
senders. Which payload types and header-extension ids hold is `rtc.numbering`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from rtc import sdp
from rtc.errors import NegotiationError, SdpError
from rtc.numbering import Capabilities as Capabilities  # part of this module's interface
from rtc.numbering import Numbering
from rtc.sdp import Direction, MediaDescription, MediaKind
from rtc.sections import LocalMedia, LocalTransport, RemoteMedia, Section

SCTP_PORT = 5000
MAX_SECTIONS = 1024
"""More are no call; each costs an answer of its own."""


class Negotiation:
    """The sections of a connection and whose turn it is."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._numbering = Numbering(capabilities)
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

    def add_sender(
        self, kind: MediaKind, media: LocalMedia, *, receive: bool = True, codec: str = ""
    ) -> Section:
        """Put `media` into a section that is free (RFC 9429 section 4.1.8 / addTrack), or a new one.

        `codec`: the one it comes in. A section that a browser has opened for another codec alone (as web
        clients do for AV1) does not do; it stays with its codecs.

        Free is what the other side knows to be silent (browsers tell their page of a track only when a
        section begins to send), or has never heard of. Takes effect with the next offer.
        """
        for section in self.sections:
            if (
                section.kind == kind
                and section.local is None
                and section.closed
                and (section.remote_receives or not section.described)
                and not section.rejected
                and (not codec or section.payload_type(codec) is not None)
            ):
                section.local = media
                return section
        section = Section(kind=kind, mid=self._next_mid(), local=media, we_receive=receive)
        section.codecs = self._numbering.codecs(kind)
        section.extensions = self._numbering.extensions(kind)
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
        for index, (section, described) in enumerate(zip(self.sections, answer.media, strict=True)):
            _check_same(index, section, described, "answer")
        for section, described in zip(self.sections, answer.media, strict=True):
            self._apply_remote(section, described, adopt=False)
            section.closed = section.local is None
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
            SdpError: it cannot be read, or does not fit what was before. Nothing of it is taken.
        """
        if self.offering:
            raise NegotiationError("an offer came while ours is open")
        offer = sdp.parse("offer", text)
        if len(offer.media) < len(self.sections):
            raise SdpError(
                f"the offer has {len(offer.media)} sections, there were {len(self.sections)}"
            )
        self._check_offer(offer)
        for index, described in enumerate(offer.media):
            if index == len(self.sections):
                self.sections.append(Section(kind=described.kind, mid=described.mid))
            elif self.sections[index].mid != described.mid:
                # A rejected section is used again for something else (RFC 9429 section 5.2.2).
                self.sections[index] = Section(kind=described.kind, mid=described.mid)
            self._apply_remote(self.sections[index], described, adopt=True)
        if self.setup is None:
            # The answerer that chooses `active` saves a round trip (RFC 5763 section 5).
            self.setup = "passive" if offer.setup == "active" else "active"
        media = [
            self._describe(section, self._answer_direction(section, described.direction))
            for section, described in zip(self.sections, offer.media, strict=True)
        ]
        for section, described in zip(self.sections, media, strict=True):
            section.closed = described.direction not in ("sendrecv", "sendonly")
        return self._write("answer", media, transport, setup=self.setup), offer

    def remote_media(self) -> list[RemoteMedia]:
        """What the other side sends now, by its newest description."""
        return [section.remote for section in self.sections if section.remote is not None]

    # internals

    def _check_offer(self, offer: sdp.SessionDescription) -> None:
        """Before anything of it is taken. Raises SdpError."""
        if len(offer.media) > MAX_SECTIONS:
            raise SdpError(
                f"the offer has {len(offer.media)} sections; wanted {MAX_SECTIONS} at most"
            )
        mids: set[str] = set()
        for index, described in enumerate(offer.media):
            if described.mid in mids:
                raise SdpError(f"section {index} has mid {described.mid!r:.50} of another one")
            mids.add(described.mid)
            if index < len(self.sections) and not self.sections[index].rejected:
                _check_same(index, self.sections[index], described, "offer")

    def _apply_remote(self, section: Section, described: MediaDescription, *, adopt: bool) -> None:
        section.rejected = described.rejected
        section.described = True
        if section.kind == "application":
            return
        if described.rejected:
            section.remote, section.remote_receives = None, False
            return
        if adopt:
            self._adopt(section, described)
            section.received_rids = list(described.rids)
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
        section.codecs = self._numbering.adopt_codecs(section.kind, described.codecs)
        section.rejected = not section.codecs
        section.extensions = self._numbering.adopt_extensions(section.kind, described.extensions)

    def _offer_direction(self, section: Section) -> Direction:
        if section.kind == "application":
            return "sendrecv"
        if section.local is None:
            return "recvonly" if section.we_receive else "inactive"
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
        if direction in ("sendrecv", "recvonly"):
            described.received_rids = list(section.received_rids)
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
        # In the first section only: every repetition costs the plugin's limit of 64 KiB dearly.
        first = next((described for described in media if not described.rejected), None)
        if first is not None:
            first.candidates = list(transport.candidates)
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


def _check_same(
    index: int, section: Section, described: MediaDescription, kind: sdp.DescriptionType
) -> None:
    if section.kind != described.kind or section.mid != described.mid:
        raise SdpError(
            f"section {index} was {section.kind} mid {section.mid!r:.50}, "
            f"the {kind} says {described.kind} mid {described.mid!r:.50}"
        )


def _direction(*, send: bool, receive: bool) -> Direction:
    if send:
        return "sendrecv" if receive else "sendonly"
    return "recvonly" if receive else "inactive"

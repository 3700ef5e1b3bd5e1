"""Offer and answer as pion does them (rtcd.md 3.2, 3.5): whose turn it is, which section serves whom.

Takes the place of `rtc.negotiation.Negotiation` in a Peer, so that nothing of ours decides here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from rtc import sdp
from rtc.errors import NegotiationError, SdpError
from rtc.negotiation import Capabilities, Negotiation
from rtc.sdp import CodecDescription, Direction, MediaDescription, MediaKind, Msid, Setup
from rtc.sections import LocalTransport, RemoteMedia
from testbed.rtcd_double import description
from testbed.rtcd_double.description import Transport, WrittenSection

AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_STREAM_ID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
_VIDEO_FEEDBACK = ("goog-remb", "ccm fir", "nack", "nack pli", "transport-cc")
_OPUS = CodecDescription(
    111, "opus", 48_000, 2, "minptime=10;useinbandfec=1", feedback=("transport-cc",)
)
_VIDEO = (
    CodecDescription(96, "VP8", 90_000, feedback=_VIDEO_FEEDBACK),
    CodecDescription(45, "AV1", 90_000, feedback=_VIDEO_FEEDBACK),
)
_EXTENSIONS: dict[MediaKind, dict[str, int]] = {
    "audio": {AUDIO_LEVEL: 1, TRANSPORT_CC: 5},
    "video": {MID: 2, STREAM_ID: 3, REPAIRED_STREAM_ID: 4, TRANSPORT_CC: 5},
}


@dataclass(slots=True)
class Sender:
    """Belongs to a section for good once it is there, even when its track is gone."""

    track: Msid | None
    ssrc: int


@dataclass(slots=True)
class Transceiver:
    """One audio or video section."""

    kind: MediaKind
    mid: str
    direction: Direction
    """What we want."""
    current: Direction | None = None
    """What was agreed on last."""
    remote_direction: Direction | None = None
    """What the client's last offer said; its answers do not count."""
    sender: Sender | None = None
    codecs: list[CodecDescription] = field(default_factory=list)
    matched: dict[str, int] | None = None
    """The extensions in the client's last description of this section."""
    rids: tuple[str, ...] = ()
    remote: RemoteMedia | None = None

    def may_send(self) -> bool:
        """AddTrack takes a section that has no sender and that the client can receive in."""
        return (
            self.sender is None
            and self.current not in ("sendrecv", "sendonly")
            and self.remote_direction not in ("sendonly", "inactive")
        )


class PionNegotiation(Negotiation):
    """`offering` stays True for good when an answer is missing: nothing ever rolls it back."""

    def __init__(self, *, offers_av1_first: bool) -> None:
        super().__init__(Capabilities(audio_codecs=(_OPUS,), video_codecs=_VIDEO))
        self.transceivers: list[Transceiver] = []
        self.candidates_known = False
        """Gathering is over: from now on descriptions repeat the candidates."""
        self._order: list[str] = []
        """All mids, the data channel's too, in the order of the description."""
        self._data_mid: str | None = None
        self._mixed_extensions = False
        self._negotiated: dict[MediaKind, tuple[list[CodecDescription], dict[str, int]]] = {}
        self._video = list(reversed(_VIDEO) if offers_av1_first else _VIDEO)
        self._origin = random.getrandbits(62)
        self._origin_version = random.getrandbits(31)

    # tracks

    def add_track(
        self, kind: MediaKind, track: Msid, ssrc: int, *, reuse_dead: bool
    ) -> Transceiver:
        """AddTrack: into a free section, else a new one; the next offer tells."""
        sender = Sender(track, ssrc)
        for transceiver in self.transceivers:
            dead = transceiver.sender is not None and transceiver.sender.track is None
            if transceiver.kind == kind and (transceiver.may_send() or (reuse_dead and dead)):
                transceiver.sender = sender
                transceiver.direction = (
                    "sendonly" if transceiver.direction in ("inactive", "sendonly") else "sendrecv"
                )
                return transceiver
        codecs, _ = self._known(kind)
        transceiver = Transceiver(
            kind, self._next_free_mid(), "sendrecv", sender=sender, codecs=codecs
        )
        self.transceivers.append(transceiver)
        self._order.append(transceiver.mid)
        return transceiver

    @staticmethod
    def remove_track(transceiver: Transceiver) -> None:
        """RemoveTrack: the section gives its sender up, and the next offer says so."""
        transceiver.sender = None
        transceiver.direction = "inactive" if transceiver.direction == "sendonly" else "recvonly"

    @staticmethod
    def detach(transceiver: Transceiver) -> None:
        """ReplaceTrack(nil): the sender stays without a track, and its section serves nobody any more."""
        if transceiver.sender is not None:
            transceiver.sender.track = None

    # what Peer calls

    def create_offer(self, transport: LocalTransport) -> str:
        if self.offering:
            raise NegotiationError("the last offer was never answered: this connection is stuck")
        self.offering = True
        return self._text(transport, setup="actpass")

    def accept_answer(self, text: str) -> sdp.SessionDescription:
        if not self.offering:
            raise NegotiationError("an answer came in stable state")
        answer = sdp.parse("answer", text)
        if [m.mid for m in answer.media] != self._order:
            raise SdpError("the answer's sections are not those of the offer")
        for transceiver, described in self._described(answer):
            self._learn(described)
            transceiver.matched = dict(described.extensions)
            transceiver.current = _reversed(described.direction)
            transceiver.remote = _remote_media(transceiver, described)
            if transceiver.sender is not None and described.codecs:
                transceiver.codecs = [
                    c for c in transceiver.codecs if any(d.matches(c) for d in described.codecs)
                ]
        self.offering = False
        return answer

    def accept_offer(
        self, text: str, transport: LocalTransport
    ) -> tuple[str, sdp.SessionDescription]:
        if self.offering:
            raise NegotiationError("an offer came while ours is open")
        offer = sdp.parse("offer", text)
        if [m.mid for m in offer.media][: len(self._order)] != self._order:
            raise SdpError("the offer's sections do not go on from those that were there")
        self._mixed_extensions = "a=extmap-allow-mixed" in text
        for described in offer.media:
            if described.mid not in self._order:
                self._order.append(described.mid)
                if described.kind == "application":
                    self._data_mid = described.mid
                else:
                    self.transceivers.append(_transceiver_for(described))
        for transceiver, described in self._described(offer):
            self._learn(described)
            self._take_offered(transceiver, described)
        self.setup = "passive" if offer.setup == "active" else "active"
        answer = self._text(transport, setup=self.setup)
        for transceiver in self.transceivers:
            sends_nothing = transceiver.direction == "sendonly" and transceiver.sender is None
            transceiver.current = "inactive" if sends_nothing else transceiver.direction
        return answer, offer

    def remote_media(self) -> list[RemoteMedia]:
        return [t.remote for t in self.transceivers if t.remote is not None]

    # internals

    def _take_offered(self, transceiver: Transceiver, described: MediaDescription) -> None:
        offered = described.direction
        transceiver.remote_direction = offered
        if offered == "inactive":
            # The whole section is stopped then, in both directions.
            transceiver.sender, transceiver.direction = None, "inactive"
        elif offered == "recvonly":
            transceiver.direction = _without_receiving(transceiver.direction)
        elif transceiver.direction == "inactive":
            transceiver.direction = "recvonly"
        elif offered == "sendrecv" and transceiver.direction == "sendonly":
            transceiver.direction = "sendrecv"
        codecs, _ = self._known(transceiver.kind)
        # In the client's order and with its numbers.
        transceiver.codecs = [
            replace(ours, payload_type=theirs.payload_type)
            for theirs in described.codecs
            for ours in codecs
            if ours.matches(theirs)
        ]
        transceiver.matched = dict(described.extensions)
        transceiver.rids = tuple(described.rids)
        transceiver.remote = _remote_media(transceiver, described)

    def _learn(self, described: MediaDescription) -> None:
        """The first section that the client describes fixes the codecs of its kind; extensions may follow."""
        kind = described.kind
        if described.rejected or not described.codecs:
            return
        offered = {u: n for u, n in described.extensions.items() if u in _EXTENSIONS[kind]}
        if kind in self._negotiated:
            self._negotiated[kind][1].update(offered)
            return
        ours = [_OPUS] if kind == "audio" else self._video
        common = [
            replace(codec, payload_type=theirs.payload_type)
            for theirs in described.codecs
            for codec in ours
            if codec.matches(theirs)
        ]
        if common:
            self._negotiated[kind] = (common, offered)

    def _known(self, kind: MediaKind) -> tuple[list[CodecDescription], dict[str, int]]:
        if kind in self._negotiated:
            codecs, extensions = self._negotiated[kind]
            return list(codecs), extensions
        taken = {uri: number for _, ids in self._negotiated.values() for uri, number in ids.items()}
        numbers = {uri: taken.get(uri, number) for uri, number in _EXTENSIONS[kind].items()}
        used: set[int] = set(taken.values())
        for uri, number in list(numbers.items()):
            if uri not in taken:
                while number in used:
                    number += 1
                numbers[uri] = number
                used.add(number)
        return [_OPUS] if kind == "audio" else list(self._video), numbers

    def _text(self, transport: LocalTransport, *, setup: Setup) -> str:
        self._origin_version += 1
        by_mid = {transceiver.mid: transceiver for transceiver in self.transceivers}
        return description.write(
            [
                WrittenSection("application", mid)
                if mid == self._data_mid
                else self._section(by_mid[mid])
                for mid in self._order
            ],
            Transport(
                transport.ice_ufrag,
                transport.ice_password,
                transport.fingerprint,
                setup,
                tuple(transport.candidates) if self.candidates_known else (),
            ),
            session_id=self._origin,
            version=self._origin_version,
            mixed_extensions=self._mixed_extensions,
        )

    def _section(self, transceiver: Transceiver) -> WrittenSection:
        _, extensions = self._known(transceiver.kind)
        if transceiver.matched is not None:
            extensions = {u: n for u, n in extensions.items() if u in transceiver.matched}
        sender = transceiver.sender
        return WrittenSection(
            kind=transceiver.kind,
            mid=transceiver.mid,
            direction=transceiver.direction,
            codecs=transceiver.codecs,
            extensions=extensions,
            received_rids=transceiver.rids,
            msid=sender.track if sender is not None else None,
            ssrc=sender.ssrc if sender is not None else 0,
        )

    def _described(
        self, remote: sdp.SessionDescription
    ) -> list[tuple[Transceiver, MediaDescription]]:
        by_mid = {transceiver.mid: transceiver for transceiver in self.transceivers}
        return [(by_mid[m.mid], m) for m in remote.media if m.mid in by_mid]

    def _next_free_mid(self) -> str:
        numbers = [int(mid) for mid in self._order if mid.isdigit()]
        return str(max(numbers, default=-1) + 1)


def _transceiver_for(described: MediaDescription) -> Transceiver:
    """A section that the client's offer brings: we receive there, until a track of ours moves in."""
    directions: dict[Direction, Direction] = {"recvonly": "sendonly", "inactive": "inactive"}
    wanted = directions.get(described.direction, "recvonly")
    return Transceiver(described.kind, described.mid, wanted)


def _remote_media(transceiver: Transceiver, described: MediaDescription) -> RemoteMedia | None:
    if described.msid is None or described.direction not in ("sendrecv", "sendonly"):
        return None
    return RemoteMedia(
        mid=transceiver.mid,
        kind=transceiver.kind,
        msid=described.msid,
        ssrcs=tuple(described.ssrcs),
        rids=tuple(described.rids),
        codecs=tuple(described.codecs),
        extensions=dict(described.extensions),
    )


def _without_receiving(direction: Direction) -> Direction:
    return {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction)  # type: ignore[return-value]  # values are directions


def _reversed(direction: Direction) -> Direction:
    directions: dict[Direction, Direction] = {"sendonly": "recvonly", "recvonly": "sendonly"}
    return directions.get(direction, direction)

"""What a publisher's newest description declares, and where a packet belongs (RFC 8843 section 9.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtc.rtp import header_extension
from rtc.sections import RemoteMedia
from sfu.capabilities import MID, RID
from sfu.forwarding.tracks import TrackType, UpTrack

RIDS = ("l", "h")
"""The simulcast encodings there may be; packets of others are refused, theirs alone (rtcd.md trap 21)."""
_MAX_UNDECLARED = 32


class DeclaredMedia:
    """The sections in which one publisher sends, by the newest description."""

    def __init__(self, medias: Sequence[RemoteMedia] = ()) -> None:
        self._by_mid = {media.mid: media for media in medias}
        self._by_ssrc = {ssrc: media for media in medias for ssrc in media.ssrcs}
        # Simulcast, and publishers that leave SSRCs out.
        self._undeclared = [media for media in medias if not media.ssrcs][:_MAX_UNDECLARED]

    def __iter__(self) -> Iterator[RemoteMedia]:
        return iter(self._by_mid.values())

    def get(self, mid: str) -> RemoteMedia | None:
        """The section with this mid, if anything is sent in it."""
        return self._by_mid.get(mid)

    def find(self, packet: bytes) -> tuple[RemoteMedia, str] | None:
        """Section and rid of a packet of an SSRC that is new; the rid is empty without simulcast."""
        ssrc = int.from_bytes(packet[8:12], "big")
        media = self._by_ssrc.get(ssrc) or self._by_extension_or_type(packet)
        if media is None or not media.rids:
            return None if media is None else (media, "")
        rid = _text(packet, media.extensions.get(RID))
        if rid is None and len(media.rids) == len(media.ssrcs):
            rid = media.rids[media.ssrcs.index(ssrc)]
        return (media, rid) if rid in media.rids and rid in RIDS else None

    def carries(self, mid: str, track: UpTrack) -> bool:
        """Is this track still what the description says of its section?"""
        media = self._by_mid.get(mid)
        if media is None:
            return False
        types = {codec.name: codec.payload_type for codec in media.codecs}
        ssrcs = {encoding.ssrc for encoding in track.encodings.values()}
        return (
            track.layered == bool(media.rids)
            and (track.kind == "audio" or track.stream_id == media.msid.stream_id)
            and all(e.payload_type == types.get(track.codec) for e in track.encodings.values())
            and (not media.ssrcs or not ssrcs.isdisjoint(media.ssrcs))
        )

    def _by_extension_or_type(self, packet: bytes) -> RemoteMedia | None:
        payload_type = packet[1] & 0x7F
        possible = []
        for media in self._undeclared:
            mid = _text(packet, media.extensions.get(MID))
            if mid == media.mid:
                return media
            if mid is None and any(c.payload_type == payload_type for c in media.codecs):
                possible.append(media)
        return possible[0] if len(possible) == 1 else None


def _text(packet: bytes, extension_id: int | None) -> str | None:
    value = None if extension_id is None else header_extension(packet, extension_id)
    return None if value is None else value.decode("ascii", "replace")


def type_of(media: RemoteMedia, *, screen: str, camera: str) -> TrackType | None:
    """What is sent in a section, by the msid streams that its session has announced as its screen and its
    camera, empty without one; None while nobody has said so."""
    stream_id = media.msid.stream_id
    is_screen = stream_id != "" and stream_id == screen
    if media.kind == "audio":
        return TrackType.SCREEN_AUDIO if is_screen else TrackType.VOICE
    if is_screen:
        return TrackType.SCREEN
    return TrackType.VIDEO if stream_id and stream_id == camera else None

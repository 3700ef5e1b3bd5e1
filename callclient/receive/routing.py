"""Whose is a packet whose SSRC no description has named? By MID and RID (RFC 8843 section 9.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rtc.rtp import RtpHeader, header_extension
from rtc.sections import RemoteMedia

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"


class Routes:
    """What the newest description says; pictures only.

    Sound is not routed so: SFUs pass on the extensions that its publisher wrote, under the publisher's
    numbers and with the names of the publisher's sections (calls-plugin.md trap 26).
    """

    def __init__(self, media: Sequence[RemoteMedia] = ()) -> None:
        self._by_mid = {one.mid: one for one in media if one.kind == "video"}
        self._mid_ids = {
            one.extensions[MID] for one in self._by_mid.values() if MID in one.extensions
        }
        self._rid_ids = {
            one.extensions[RID] for one in self._by_mid.values() if RID in one.extensions
        }

    def forget(self, media: RemoteMedia) -> None:
        """Nothing leads to this section until the next description."""
        self._by_mid.pop(media.mid, None)

    def find(self, packet: bytes, header: RtpHeader) -> RemoteMedia | None:
        """The section that a packet says it belongs to, if it can: its codec is one of the section's, and
        its RID one that was announced, or none."""
        media = self._by_mid.get(_text(packet, self._mid_ids))
        if media is None or all(c.payload_type != header.payload_type for c in media.codecs):
            return None
        rid = _text(packet, self._rid_ids)
        return media if not rid or not media.rids or rid in media.rids else None


def _text(packet: bytes, extension_ids: set[int]) -> str:
    for number in extension_ids:
        value = header_extension(packet, number)
        if value:
            return value.decode("ascii", "replace")
    return ""

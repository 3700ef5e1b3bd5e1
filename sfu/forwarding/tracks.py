"""A published track: what it is, its encodings, and who gets it (rtcd.md 3.4)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from rtc.sdp import MediaKind
from sfu.flood import TokenBucket
from sfu.metrics import Distribution, WriteType

if TYPE_CHECKING:
    from sfu.forwarding.down_track import DownTrack
    from sfu.forwarding.encoding import Encoding

CLOCK_RATES_HZ = {"opus": 48_000, "VP8": 90_000, "AV1": 90_000}
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class TrackType(Enum):
    """What a track carries; the first part of its id (rtcd.md 3.4)."""

    VOICE = "voice"
    SCREEN = "screen"
    SCREEN_AUDIO = "screen-audio"
    VIDEO = "video"

    @property
    def kind(self) -> MediaKind:
        return "audio" if self in (TrackType.VOICE, TrackType.SCREEN_AUDIO) else "video"


class UpTrack:
    """One codec of what a session publishes; has one encoding, or one for each simulcast rid."""

    __slots__ = (
        "bit_rate",
        "codec",
        "downs",
        "enabled",
        "encodings",
        "layered",
        "publisher_ntp",
        "session_id",
        "stream_id",
        "track_id",
        "type",
        "write_times",
    )

    def __init__(
        self,
        *,
        session_id: str,
        stream_id: str,
        type_: TrackType,
        codec: str,
        layered: bool = False,
        publisher_ntp: Callable[[int], int] = lambda ntp: ntp,
        write_times: Distribution | None = None,
        bit_rate: TokenBucket | None = None,
    ) -> None:
        """`publisher_ntp` turns NTP times of the publisher's clock into ours (64 bits each).

        `bit_rate`: of bytes; what comes beyond is not forwarded.
        """
        self.session_id = session_id
        self.stream_id = stream_id
        """Of the publisher's msid."""
        self.type = type_
        self.codec = codec
        self.layered = layered
        self.publisher_ntp = publisher_ntp
        self.write_times = write_times
        self.bit_rate = bit_rate
        self.track_id = f"{type_.value}_{session_id}_{_short_id()}"
        self.enabled = True
        """False while the publisher is muted: nothing is forwarded, not even silence."""
        self.encodings: dict[str, Encoding] = {}
        """By rid; the only one of a track without simulcast has an empty one."""
        self.downs: list[DownTrack] = []

    @property
    def kind(self) -> MediaKind:
        return self.type.kind

    @property
    def mime(self) -> str:
        return f"{self.kind}/{self.codec}"

    def add_down(self, down: DownTrack) -> None:
        """Begin to forward to a receiver, who gets a key frame soon."""
        self.downs.append(down)
        for encoding in self.encodings.values():
            encoding.subscribed(down)

    def remove_down(self, down: DownTrack) -> None:
        """Idempotent."""
        if down in self.downs:
            self.downs.remove(down)
            for encoding in self.encodings.values():
                encoding.unsubscribed(down)


def _short_id() -> str:
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


def write_type(type_: TrackType) -> WriteType:
    """What metrics call it: all video is `screen` (rtcd.md 1.6)."""
    if type_.kind == "video":
        return "screen"
    return "voice" if type_ is TrackType.VOICE else "screen-audio"

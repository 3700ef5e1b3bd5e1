"""The m-sections of a connection: what either side sends in them, and under which numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtc.sdp import CodecDescription, MediaKind, Msid


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
    described: bool = False
    """The other side knows of it."""
    closed: bool = True
    """By the newest finished exchange we send nothing here."""
    codecs: list[CodecDescription] = field(default_factory=list)
    extensions: dict[str, int] = field(default_factory=dict)
    received_rids: list[str] = field(default_factory=list)
    """The simulcast encodings that the other side offered."""

    def payload_type(self, codec_name: str) -> int | None:
        """The negotiated payload type of a codec, or None."""
        for codec in self.codecs:
            if codec.name.lower() == codec_name.lower():
                return codec.payload_type
        return None

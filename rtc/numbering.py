"""Payload types and header-extension ids of one bundled connection (RFC 8843 sections 9 and 10, RFC 8285).

What the other side has named first is adopted for the whole connection, because browsers refuse to have
numbers reassigned; what we name first keeps clear of all that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rtc.sdp import CodecDescription, MediaKind

_EXTENSION_IDS = range(1, 15)
"""Of the one-byte form (RFC 8285 section 4.2), in which we write them."""
_DYNAMIC_TYPES = (*range(96, 128), *range(35, 64))
"""Payload types that are nobody's (RFC 3551, RFC 5761 section 4)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this side can handle, in order of preference."""

    audio_codecs: tuple[CodecDescription, ...]
    video_codecs: tuple[CodecDescription, ...]
    audio_extensions: tuple[str, ...] = ()
    video_extensions: tuple[str, ...] = ()
    extension_numbers: tuple[tuple[str, int], ...] = ()
    """The id of an extension where we are the first to name it; others get the lowest free one."""

    def codecs(self, kind: MediaKind) -> tuple[CodecDescription, ...]:
        return self.audio_codecs if kind == "audio" else self.video_codecs

    def extensions(self, kind: MediaKind) -> tuple[str, ...]:
        return self.audio_extensions if kind == "audio" else self.video_extensions


class Numbering:
    """Which numbers our descriptions use now."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._codecs: dict[MediaKind, list[CodecDescription]] = {
            "audio": list(capabilities.audio_codecs),
            "video": list(capabilities.video_codecs),
        }
        self._extension_ids: dict[str, int] = {}
        self._foreign_ids: set[int] = set()
        """Which the other side uses for extensions that are not ours."""

    def codecs(self, kind: MediaKind) -> list[CodecDescription]:
        """For a new section of ours."""
        return list(self._codecs[kind])

    def extensions(self, kind: MediaKind) -> dict[str, int]:
        """For a new section of ours. An extension for which no id is left is left out."""
        preferred = dict(self._capabilities.extension_numbers)
        for uri in self._capabilities.extensions(kind):
            if uri in self._extension_ids:
                continue
            taken = {*self._extension_ids.values(), *self._foreign_ids}
            numbers = (preferred.get(uri, 1), *_EXTENSION_IDS)
            number = next((n for n in numbers if n not in taken), None)
            if number is not None:
                self._extension_ids[uri] = number
        return {
            uri: self._extension_ids[uri]
            for uri in self._capabilities.extensions(kind)
            if uri in self._extension_ids
        }

    def adopt_codecs(
        self, kind: MediaKind, offered: Sequence[CodecDescription]
    ) -> list[CodecDescription]:
        """What we have of an offered section's codecs, in our order and with its numbers."""
        common: list[CodecDescription] = []
        for ours in self._capabilities.codecs(kind):
            theirs = next((codec for codec in offered if codec.matches(ours)), None)
            if theirs is not None:
                # RFC 4585 section 4.2: an answer names no feedback that was not offered.
                feedback = tuple(kind for kind in ours.feedback if kind in theirs.feedback)
                number = theirs.payload_type
                common.append(replace(ours, payload_type=number, feedback=feedback))
        self._make_room(common)
        return common

    def adopt_extensions(self, kind: MediaKind, offered: Mapping[str, int]) -> dict[str, int]:
        """What we have of an offered section's extensions. Ids that we cannot write are not taken."""
        capabilities = self._capabilities
        known = {*capabilities.audio_extensions, *capabilities.video_extensions}
        for uri, number in offered.items():
            # Also those that we have for the other kind only: ids hold for the whole bundle.
            if number not in _EXTENSION_IDS:
                continue  # nothing of ours comes near, and offer after offer may name others
            if uri not in known:
                self._foreign_ids.add(number)
            else:
                self._extension_ids[uri] = number
        return {
            uri: offered[uri]
            for uri in capabilities.extensions(kind)
            if offered.get(uri) in _EXTENSION_IDS
        }

    def _make_room(self, adopted: Sequence[CodecDescription]) -> None:
        """Use these numbers from now on; a bundle has each number once, whatever the section."""
        taken = {codec.payload_type for codec in adopted}
        for known in self._codecs.values():
            for index, old in enumerate(known):
                codec = next((c for c in adopted if c.matches(old)), old)
                if codec is old and old.payload_type in taken:
                    free = next(n for n in _DYNAMIC_TYPES if n not in taken)
                    codec = replace(old, payload_type=free)
                known[index] = codec
                taken.add(codec.payload_type)

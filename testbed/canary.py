"""Searches bytes for what must not be in them: secrets, names and spoken words, however they are written.

A canary is looked for as it is and as Base64, in hexadecimal digits, percent-encoded and escaped as JSON and
Python do, in UTF-8 and UTF-16; in archives (zip, gzip) as well.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, quote_plus

_WORDS: Final = 3
"""So many words of a sentence in a row are no accident; the models know few words."""
_BETWEEN_WORDS: Final = rb"[^A-Za-z0-9]{1,12}"
"""A space, or what stands between two texts of a list."""
_SHOWN: Final = 40
_WHOLE_SEXTETS: Final = (0, 2, 3)
"""Base64 characters that hold bits of so many bytes before the text."""


@dataclass(frozen=True, slots=True)
class Canary:
    """Something that may be nowhere."""

    what: str
    """For messages: they do not show the text."""
    text: str = field(repr=False)
    sentence: bool = False
    """Any three words of it in a row count, in any case."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where one was found."""

    what: str
    form: str
    place: str
    around: str
    """What stands there, for a test's failure."""


class CanarySearch:
    """One search in many places."""

    def __init__(self, canaries: Sequence[Canary]) -> None:
        self._forms = [
            (canary.what, form, pattern)
            for canary in canaries
            for form, pattern in _patterns(canary)
        ]
        self.places: Counter[str] = Counter()
        """Bytes that were looked at, by kind of place."""
        self.found: list[Sighting] = []

    def look(self, place: str, content: bytes | str) -> None:
        """Look at `content`; `place` is `kind` or `kind: which`."""
        data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
        self.places[place.partition(":")[0]] += len(data)
        for name, part in _unpacked(place, data):
            for what, form, pattern in self._forms:
                if match := pattern.search(part):
                    start = max(0, match.start() - _SHOWN)
                    around = part[start : match.end() + _SHOWN].decode(errors="replace")
                    self.found.append(Sighting(what, form, name, around))


def is_in(canary: Canary, content: bytes) -> bool:
    """Whether one search would find it."""
    search = CanarySearch([canary])
    search.look("", content)
    return bool(search.found)


def _patterns(canary: Canary) -> Iterator[tuple[str, re.Pattern[bytes]]]:
    if not canary.sentence:
        for form, text in _forms(canary.text):
            yield form, re.compile(re.escape(text))
        return
    words = canary.text.lower().split()
    for start in range(len(words) - _WORDS + 1):
        row = words[start : start + _WORDS]
        pattern = _BETWEEN_WORDS.join(re.escape(word.encode()) for word in row)
        yield "text", re.compile(rb"\b" + pattern + rb"\b", re.IGNORECASE)
        for said in (" ".join(row), " ".join(row).capitalize()):
            for form, encoded in _forms(said):
                if form != "text":
                    yield form, re.compile(re.escape(encoded))


def _forms(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    seen = set()
    for form, encoded in (
        ("text", raw),
        ("JSON", json.dumps(text)[1:-1].encode()),
        ("JSON in JSON", json.dumps(json.dumps(text))[3:-3].encode()),
        ("escapes", repr(raw)[2:-1].encode()),
        ("escapes in JSON", json.dumps(repr(raw)[2:-1])[1:-1].encode()),
        ("URL", quote(text, safe="").encode()),
        ("form", quote_plus(text).encode()),
        ("hexadecimal", binascii.hexlify(raw)),
        ("HEXADECIMAL", binascii.hexlify(raw).upper()),
        ("UTF-16", text.encode("utf-16-le")),
        ("UTF-16 BE", text.encode("utf-16-be")),
        *_base64(raw),
    ):
        if encoded not in seen:
            seen.add(encoded)
            yield form, encoded


def _base64(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Wherever in a longer text it begins: the characters that hold nothing but bits of it."""
    for before in range(3):
        end = (before + len(raw)) * 8 // 6
        for name, encode in (
            ("Base64", base64.b64encode),
            ("Base64 of URLs", base64.urlsafe_b64encode),
        ):
            yield name, encode(bytes(before) + raw)[_WHOLE_SEXTETS[before] : end]


def _unpacked(place: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield place, data
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    yield from _unpacked(f"{place}/{name}", archive.read(name))
        except zipfile.BadZipFile:
            return
    elif data[:2] == b"\x1f\x8b":
        try:
            yield from _unpacked(f"{place}, unpacked", gzip.decompress(data))
        except (OSError, EOFError, zlib.error):
            return

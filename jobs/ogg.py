"""Ogg Opus on the level of pages: what is needed to append packets for hours and to read them back.

RFC 3533 (Ogg) and RFC 7845 (Opus in it). Every page we write ends with a packet, so each page can be
read alone; a file cut off anywhere loses only its last, incomplete page.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from rtc.opus import CLOCK_RATE_HZ

_HEADER: Final = struct.Struct("<4sBBqIIIB")
_CAPTURE_PATTERN: Final = b"OggS"
_CONTINUED, _FIRST, _LAST = 0x01, 0x02, 0x04
_MAX_SEGMENTS: Final = 255
_SEARCH_BLOCK_BYTES: Final = 65536
_REVERSED_BITS: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """One intact page."""

    offset_bytes: int
    """Where it starts in the file."""
    granule: int
    """Samples at 48 kHz up to the end of its last packet; -1 when no packet ends in it."""
    packets: tuple[bytes, ...]
    """The packets that end in it, whole."""
    last: bool


class OggOpusWriter:
    """Makes the bytes of one logical stream; writing them somewhere is the caller's business."""

    def __init__(self, *, serial: int, vendor: str = "calls-transcriber") -> None:
        """`vendor`: who wrote it, for the comment header."""
        self._vendor = vendor.encode()
        self._serial = serial & 0xFFFFFFFF
        self._sequence = 0
        self.granule = 0
        """Samples at 48 kHz written so far."""

    def headers(self) -> bytes:
        """OpusHead (mono output, no pre-skip: packets come from the middle of a stream) and OpusTags."""
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, CLOCK_RATE_HZ, 0, 0)
        vendor = struct.pack("<I", len(self._vendor)) + self._vendor
        tags = b"OpusTags" + vendor + struct.pack("<I", 0)
        return self._page([head], flags=_FIRST) + self._page([tags], flags=0)

    def pages(self, packets: Sequence[tuple[bytes, int]]) -> bytes:
        """Pages with the packets, each given with its length in samples at 48 kHz.

        Raises:
            ValueError: a packet too long for one page (65 025 bytes; Opus allows 1 275 per frame).
        """
        out = bytearray()
        batch: list[bytes] = []
        used = 0
        for payload, samples in packets:
            needed = len(payload) // 255 + 1
            if needed > _MAX_SEGMENTS:
                raise ValueError(f"packet of {len(payload)} bytes does not fit into one page")
            if used + needed > _MAX_SEGMENTS:
                out += self._page(batch, flags=0)
                batch, used = [], 0
            batch.append(payload)
            used += needed
            self.granule += samples
        if batch:
            out += self._page(batch, flags=0)
        return bytes(out)

    def _page(self, packets: Sequence[bytes], *, flags: int) -> bytes:
        lacing = bytearray()
        for packet in packets:
            lacing += b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        header = _HEADER.pack(
            _CAPTURE_PATTERN, 0, flags, self.granule, self._serial, self._sequence, 0, len(lacing)
        )
        self._sequence += 1
        page = bytearray(header + lacing + b"".join(packets))
        struct.pack_into("<I", page, 22, page_checksum(page))
        return bytes(page)


def page_checksum(page: bytes | bytearray) -> int:
    """The CRC of RFC 3533 section 6 over a page whose checksum field is zero.

    Its polynomial is zlib's, but not bit-reversed and without inversion: so zlib computes it over
    bit-reversed bytes, a hundred times faster than a loop in Python.
    """
    reversed_crc = zlib.crc32(bytes(page).translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reversed_crc.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def read_pages(file: BinaryIO, *, offset_bytes: int = 0) -> Iterator[Page]:
    """The intact pages from `offset_bytes` on, in order.

    Damaged stretches are skipped up to the next intact page; an incomplete page at the end of the file
    ends the iteration. The headers are pages like the others.
    """
    partial = b""
    position = offset_bytes
    while (found := _find_page(file, position)) is not None:
        start, header, lacing, body = found
        if start != position:
            partial = b""  # something is missing: the packet begun before it cannot be finished
        position = start + _HEADER.size + len(lacing) + len(body)
        flags, granule = header[2], header[3]
        packets, rest = _split(lacing, body)
        if flags & _CONTINUED:
            if packets and partial:
                packets[0] = partial + packets[0]
            elif packets:
                packets.pop(0)  # its beginning lies before the place where we started
            else:
                rest = partial + rest if partial else b""
        partial = rest
        yield Page(start, granule, tuple(packets), bool(flags & _LAST))


def _find_page(
    file: BinaryIO, position: int
) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int], bytes, bytes] | None:
    while True:
        file.seek(position)
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return None
        if head.startswith(_CAPTURE_PATTERN):
            header = _HEADER.unpack(head)
            lacing = file.read(header[7])
            body = file.read(sum(lacing))
            complete = len(lacing) == header[7] and len(body) == sum(lacing)
            blank = head[:22] + b"\0\0\0\0" + head[26:]
            if complete and page_checksum(blank + lacing + body) == header[6]:
                return position, header, lacing, body
        next_position = _search(file, position + 1)
        if next_position is None:
            return None
        position = next_position


def _search(file: BinaryIO, position: int) -> int | None:
    while True:
        file.seek(position)
        block = file.read(_SEARCH_BLOCK_BYTES)
        index = block.find(_CAPTURE_PATTERN)
        if index >= 0:
            return position + index
        if len(block) < _SEARCH_BLOCK_BYTES:
            return None
        position += len(block) - len(_CAPTURE_PATTERN) + 1


def _split(lacing: bytes, body: bytes) -> tuple[list[bytes], bytes]:
    """The packets that end in the page, and the beginning of one that does not."""
    packets: list[bytes] = []
    start = end = 0
    for length in lacing:
        end += length
        if length < 255:
            packets.append(body[start:end])
            start = end
    return packets, body[start:end]

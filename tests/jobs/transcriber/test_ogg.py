"""Pages are written so that other players read them, and read back even when damaged."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest

from jobs.ogg import OggOpusWriter, page_checksum, read_pages


def _stream(packets: list[bytes], *, per_call: int) -> bytes:
    writer = OggOpusWriter(serial=7)
    data = writer.headers()
    for begin in range(0, len(packets), per_call):
        data += writer.pages([(packet, 960) for packet in packets[begin : begin + per_call]])
    return data


def _audio(data: bytes) -> list[bytes]:
    return [
        packet
        for page in read_pages(io.BytesIO(data))
        for packet in page.packets
        if not packet.startswith((b"OpusHead", b"OpusTags"))
    ]


def test_what_is_written_is_read_back_whatever_the_packet_size() -> None:
    packets = [bytes([size % 251]) * size for size in (1, 254, 255, 256, 510, 1275, 3, 20_000)]
    assert _audio(_stream(packets, per_call=3)) == packets


def test_more_packets_than_a_page_takes_become_several_pages() -> None:
    packets = [b"x" * 80] * 600
    data = _stream(packets, per_call=600)
    granules = [page.granule for page in read_pages(io.BytesIO(data))]
    assert _audio(data) == packets
    assert granules == [0, 0, 255 * 960, 510 * 960, 600 * 960]


def test_a_packet_too_long_for_a_page_is_refused() -> None:
    with pytest.raises(ValueError, match="65025 bytes"):
        OggOpusWriter(serial=1).pages([(b"x" * 65_025, 960)])


def test_the_checksum_is_that_of_other_writers(clips) -> None:
    data = bytearray(clips["bob"].path.read_bytes())
    first_page = data[: 27 + data[26] + sum(data[27 : 27 + data[26]])]
    stored = int.from_bytes(first_page[22:26], "little")
    first_page[22:26] = bytes(4)
    assert page_checksum(first_page) == stored


def test_ffmpeg_reads_it_without_complaint(clips: dict, tmp_path: Path) -> None:
    payloads = list(clips["bob"].payloads)
    path = tmp_path / "capture.ogg"
    path.write_bytes(_stream(payloads, per_call=50))
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples == len(payloads) * 960


def test_a_file_cut_off_anywhere_loses_only_its_last_page() -> None:
    packets = [bytes([number]) * 100 for number in range(100)]
    data = _stream(packets, per_call=10)
    page_bytes = len(_stream(packets[:20], per_call=10)) - len(_stream(packets[:10], per_call=10))
    for lost in (1, page_bytes // 2, page_bytes - 1):
        assert _audio(data[:-lost]) == packets[:90]


def test_a_damaged_page_is_skipped_and_the_rest_is_read() -> None:
    packets = [bytes([number]) * 100 for number in range(50)]
    data = bytearray(_stream(packets, per_call=10))
    middle = len(_stream(packets[:20], per_call=10)) + 60
    data[middle] ^= 0xFF
    assert _audio(bytes(data)) == packets[:20] + packets[30:]

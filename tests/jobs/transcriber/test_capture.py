"""A capture gives back every packet at its call time, survives the death of its writer and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs.transcriber.audio import RATE_HZ, read_samples
from jobs.transcriber.capture import (
    INDEX_SUFFIX,
    CapturedTrack,
    TrackCapture,
    TrackIdentity,
    VoicePacket,
    find_captures,
)

IDENTITY = TrackIdentity(track_id="track", session_id="session", user_id="user")
SECOND_NS = 1_000_000_000
PACKET_NS = 20_000_000


def _with_pause(clip, *, after: int, pause_ns: int) -> list[VoicePacket]:
    packets = clip.packets()
    return packets[:after] + [
        VoicePacket(packet.payload, packet.call_ns + pause_ns, packet.duration_ns)
        for packet in packets[after:]
    ]


def _write(path: Path, packets: list[VoicePacket], *, flush_every: int = 50) -> TrackCapture:
    capture = TrackCapture(path, IDENTITY)
    for number, packet in enumerate(packets, start=1):
        capture.add(packet)
        if number % flush_every == 0:
            capture.flush()
    capture.flush()
    return capture


@pytest.mark.parametrize("flush_every", [1, 7, 50, 10_000])
def test_packets_come_back_at_their_call_time_across_pauses(
    clips, tmp_path: Path, flush_every: int
) -> None:
    packets = _with_pause(clips["bob"], after=123, pause_ns=7 * SECOND_NS)
    _write(tmp_path / "a.ogg", packets, flush_every=flush_every)
    captured = CapturedTrack(tmp_path / "a.ogg")
    assert captured.identity == IDENTITY
    assert list(captured.packets()) == packets


def test_a_slow_clock_drift_is_kept_and_not_added_up(clips, tmp_path: Path) -> None:
    packets = [
        VoicePacket(packet.payload, packet.call_ns + index * 20_000, packet.duration_ns)
        for index, packet in enumerate(clips["carol"].packets())
    ]
    _write(tmp_path / "a.ogg", packets)
    read = list(CapturedTrack(tmp_path / "a.ogg").packets())
    assert [packet.payload for packet in read] == [packet.payload for packet in packets]
    worst = max(abs(a.call_ns - b.call_ns) for a, b in zip(read, packets, strict=True))
    assert worst <= 1_000_000


@pytest.mark.parametrize(("start_s", "end_s"), [(0, 1), (1.21, 3.33), (4, 9.9), (9.5, 100), (5, 6)])
def test_a_stretch_of_call_time_is_found_without_reading_the_rest(
    clips, tmp_path: Path, start_s: float, end_s: float
) -> None:
    packets = _with_pause(clips["bob"], after=123, pause_ns=7 * SECOND_NS)
    _write(tmp_path / "a.ogg", packets)
    start_ns, end_ns = round(start_s * 1e9), round(end_s * 1e9)
    expected = [p for p in packets if p.end_ns > start_ns and p.call_ns < end_ns]
    captured = CapturedTrack(tmp_path / "a.ogg")
    assert list(captured.packets(start_ns=start_ns, end_ns=end_ns)) == expected


def test_samples_of_a_stretch_are_those_of_the_whole(clips, tmp_path: Path) -> None:
    packets = _with_pause(clips["bob"], after=200, pause_ns=5 * SECOND_NS)
    _write(tmp_path / "a.ogg", packets)
    captured = CapturedTrack(tmp_path / "a.ogg")
    whole = read_samples(captured, start_ns=0, end_ns=16 * SECOND_NS)
    part = read_samples(captured, start_ns=3 * SECOND_NS, end_ns=10 * SECOND_NS)
    assert len(part) == 7 * RATE_HZ
    middle = whole[3 * RATE_HZ : 10 * RATE_HZ]
    assert np.corrcoef(part, middle)[0, 1] > 0.99
    in_the_pause = part[round(1.1 * RATE_HZ) : round(5.9 * RATE_HZ)]
    assert not in_the_pause.any()


def test_packets_without_audio_are_ignored(tmp_path: Path) -> None:
    capture = TrackCapture(tmp_path / "a.ogg", IDENTITY)
    capture.add(VoicePacket(b"", 0, 0))
    capture.flush()
    assert not (tmp_path / "a.ogg").exists()


_WRITER = """
import sys, time
from pathlib import Path
from jobs.transcriber.capture import TrackCapture, TrackIdentity, VoicePacket
capture = TrackCapture(Path(sys.argv[1]), TrackIdentity("track", "session", "user"))
number = 0
while True:
    for _ in range(50):
        payload = bytes([0xF8]) + number.to_bytes(4, "big") * 20
        capture.add(VoicePacket(payload, number * 20_000_000, 20_000_000))
        number += 1
    capture.flush()
    print(number, flush=True)
"""


def test_kill_9_loses_at_most_what_was_not_flushed(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    flushed = 0
    for _ in range(20):
        flushed = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    flushed = max([flushed, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    writer.wait()
    writer.stdout.close()
    packets = list(CapturedTrack(path).packets())
    assert len(packets) >= flushed
    assert [packet.call_ns for packet in packets] == [n * PACKET_NS for n in range(len(packets))]


@pytest.mark.parametrize("lost_bytes", [1, 10, 40])
def test_an_index_cut_off_costs_no_audio(clips, tmp_path: Path, lost_bytes: int) -> None:
    packets = clips["alice"].packets()
    _write(tmp_path / "a.ogg", packets)
    index = tmp_path / f"a.ogg{INDEX_SUFFIX}"
    index.write_bytes(index.read_bytes()[:-lost_bytes])
    assert list(CapturedTrack(tmp_path / "a.ogg").packets()) == packets


def test_a_full_disk_delays_packets_and_loses_none(
    clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets = clips["alice"].packets()
    capture = TrackCapture(tmp_path / "a.ogg", IDENTITY)
    for packet in packets[:100]:
        capture.add(packet)
    capture.flush()
    for packet in packets[100:200]:
        capture.add(packet)
    real = os.pwrite

    def half_then_full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) < 1000:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: len(data) // 2], offset)

    monkeypatch.setattr(os, "pwrite", half_then_full)
    with pytest.raises(OSError, match="No space"):
        capture.flush()
    assert not capture.on_disk(packets[150].end_ns)
    monkeypatch.setattr(os, "pwrite", real)
    for packet in packets[200:]:
        capture.add(packet)
    capture.flush()
    assert capture.on_disk(packets[-1].end_ns)
    assert list(CapturedTrack(tmp_path / "a.ogg").packets()) == packets


def test_unreadable_captures_are_left_out(clips, tmp_path: Path) -> None:
    _write(tmp_path / "good.ogg", clips["alice"].packets())
    (tmp_path / f"bad.ogg{INDEX_SUFFIX}").write_text("not json\n")
    assert [captured.path.name for captured in find_captures(tmp_path)] == ["good.ogg"]

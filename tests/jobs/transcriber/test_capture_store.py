"""Hundreds of speakers for hours: bounded memory and files, whatever their browsers do."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.transcriber import capture_store
from jobs.transcriber.capture import TrackIdentity, VoicePacket, find_captures
from jobs.transcriber.capture_store import CaptureStore

SECOND_NS = 1_000_000_000
PACKET_NS = 20_000_000
PAYLOAD = bytes([0xF8]) + b"s" * 40


def _talk(capture, *, from_s: float, seconds: float) -> None:
    first = round(from_s * SECOND_NS)
    for number in range(round(seconds * 50)):
        capture.add(VoicePacket(PAYLOAD, first + number * PACKET_NS, PACKET_NS))


async def test_many_speakers_hold_no_files_open_and_no_memory(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as disk:
        store = CaptureStore(tmp_path, executor=disk)
        captures = [
            store.open(TrackIdentity(f"track{n}", f"session{n}", f"user{n}")) for n in range(256)
        ]
        open_files = len(os.listdir("/proc/self/fd"))

        async def minute(number: int) -> None:
            for capture in captures:
                _talk(capture, from_s=number * 60, seconds=0.2)
            await store.flush()

        for number in range(3):
            await minute(number)
        gc.collect()
        tracemalloc.start()
        for number in range(3, 9):
            await minute(number)
        gc.collect()
        grown_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(os.listdir("/proc/self/fd")) <= open_files + 2
        assert grown_bytes / (6 * 256) < 64, "bytes kept per speaker and flush"
    assert len(find_captures(tmp_path)) == 256


async def test_an_unmute_storm_costs_one_line_each_and_no_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as disk:
        store = CaptureStore(tmp_path, executor=disk)
        capture = store.open(TrackIdentity("track", "session", "user"))
        starts = [0.3 * n for n in range(500)]
        for number, start_s in enumerate(starts):
            _talk(capture, from_s=start_s, seconds=0.1)
            if number % 3 == 0:
                await store.flush()
        await store.flush()
    (captured,) = find_captures(tmp_path)
    packets = list(captured.packets())
    assert len(packets) == 500 * 5
    assert [p.call_ns for p in packets[::5]] == [round(s * SECOND_NS) for s in starts]


async def test_tracks_of_one_user_and_a_track_offered_again_are_files_of_their_own(
    tmp_path: Path,
) -> None:
    with ThreadPoolExecutor(1) as disk:
        store = CaptureStore(tmp_path, executor=disk)
        identities = [
            TrackIdentity("a", "session", "user"),
            TrackIdentity("b", "session", "user"),
            TrackIdentity("a", "session", "user"),
            TrackIdentity("../../etc/x", "session", ""),
        ]
        for number, identity in enumerate(identities):
            _talk(store.open(identity), from_s=number, seconds=0.1)
        await store.flush()
    assert [capture.path.name for capture in find_captures(tmp_path)] == [
        "session_.._.._etc_x.ogg",
        "user_a.ogg",
        "user_a_2.ogg",
        "user_b.ogg",
    ]
    assert {capture.identity.track_id for capture in find_captures(tmp_path)} == {
        "a",
        "b",
        "../../etc/x",
    }


@pytest.mark.looptime
async def test_everything_is_on_disk_half_a_second_after_it_came(tmp_path: Path) -> None:
    class AtOnce(ThreadPoolExecutor):
        """Virtual time must not wait for a thread."""

        def submit(self, call, /, *args):
            future = super().submit(call, *args)
            future.exception()
            return future

    with AtOnce(1) as disk:
        store = CaptureStore(tmp_path, executor=disk)
        capture = store.open(TrackIdentity("track", "session", "user"))
        running = asyncio.create_task(store.run())
        _talk(capture, from_s=0, seconds=0.5)
        await asyncio.sleep(0.501)
        assert capture.on_disk(SECOND_NS // 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.documents("a-part-of-a-job-that-fails/2")
async def test_a_full_disk_is_told_once_and_its_end_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    told: list[str] = []

    class Log:
        def error(self, event: str, **_: object) -> None:
            told.append(event)

        info = error

    monkeypatch.setattr(capture_store, "_log", Log())
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with ThreadPoolExecutor(1) as disk:
        store = CaptureStore(tmp_path, executor=disk)
        capture = store.open(TrackIdentity("track", "session", "user"))
        monkeypatch.setattr(os, "pwrite", full)
        for number in range(3):
            _talk(capture, from_s=number, seconds=1)
            await store.flush()
        assert store.write_errors == 3
        monkeypatch.setattr(os, "pwrite", real)
        await store.flush()
        await store.flush()
    assert told == ["capture.write_failed", "capture.writes_again"]
    documented("a-part-of-a-job-that-fails/2", told[0])
    (captured,) = find_captures(tmp_path)
    assert len(list(captured.packets())) == 150

"""A disk that fills up in mid-call loses nothing recorded before: that is published once there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callclient.events import CallStateReceived
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import JobContext, StartFailed
from jobs.recorder import job as job_module
from jobs.recorder.job import RecorderJob, RecordingCutShort
from jobs.status import StatusReporter
from testbed.analysis.mp4_structure import read_mp4

KIB = 1024


def _mount(directory: Path, options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)],
        check=True,
        capture_output=True,
    )


def _make_room(directory: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={4096 * KIB}", str(directory)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path, engine_missing: Callable[[str, str], None]) -> Iterator[Path]:
    """A file system of its own, with room for a few seconds."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0:
        engine_missing("tmpfs", "only root can mount a small file system")
    try:
        _mount(directory, f"size={160 * KIB}")
    except subprocess.CalledProcessError as error:
        engine_missing("tmpfs", error.stderr.decode().strip())
    yield directory
    # Lazily: FFmpeg keeps a file open whose end it could not write, until the process ends.
    subprocess.run(["umount", "-l", str(directory)], check=True)


def _context(api, settings) -> JobContext:
    return JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )


def _start(peer, api, settings, opus) -> asyncio.Task[None]:
    running = asyncio.create_task(RecorderJob(_context(api, settings), settings, peer=peer).run())
    peer.begin()
    peer.say(peer.add_voice("alice"), opus(24.0))
    peer.emit(CallStateReceived())
    return running


@pytest.mark.slow
async def test_what_fitted_is_published_though_there_is_no_room_for_a_copy(
    small_disk: Path, peer, api, settings, opus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(job_module, "RESERVE_BYTES", 0)
    settings = replace(settings, data_dir=small_disk, audio_rate_kbps=320)
    running = _start(peer, api, settings, opus)
    with pytest.raises(RecordingCutShort, match="No space left on device"):
        async with asyncio.timeout(25):
            await running
    assert peer.left
    assert api.statuses == [
        ("started", ""),
        ("failed", f"the recording ended early: its disk is full (job {settings.job_id})"),
    ]
    ((_, content),) = api.uploads
    (tmp_path / "published.mp4").write_bytes(content)
    assert read_mp4(tmp_path / "published.mp4").video_duration_s > 1.0
    assert len(api.posts) == 1
    assert not settings.directory.exists()


async def test_a_disk_that_runs_full_ends_the_recording_while_it_can_be_ended_well(
    small_disk: Path, peer, api, settings, opus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await asyncio.to_thread(_make_room, small_disk)
    monkeypatch.setattr(job_module, "RESERVE_BYTES", 3 << 20)
    settings = replace(settings, data_dir=small_disk)
    running = _start(peer, api, settings, opus)
    while (
        (settings.directory / "recording.part.mp4").stat().st_size < 20_000
        if api.statuses
        else True
    ):
        await asyncio.sleep(0.05)
    with (small_disk / "others").open("wb") as file:
        file.write(bytes(1 << 20))
    with pytest.raises(RecordingCutShort, match="the disk is full"):
        async with asyncio.timeout(25):
            await running
    told = f"the recording ended early: its disk is full (job {settings.job_id})"
    assert ("failed", told) in api.statuses
    ((_, content),) = api.uploads
    (tmp_path / "published.mp4").write_bytes(content)
    published = read_mp4(tmp_path / "published.mp4")
    assert published.index_in_front
    assert published.video_duration_s > 0.5


@pytest.mark.documents("the-jobs-disk-is-full")
async def test_a_disk_without_room_is_a_start_that_failed(
    small_disk: Path, peer, api, settings, opus, documented
) -> None:
    settings = replace(settings, data_dir=small_disk)
    with pytest.raises(StartFailed) as full:
        await RecorderJob(_context(api, settings), settings, peer=peer).run()
    documented("the-jobs-disk-is-full", str(full.value))

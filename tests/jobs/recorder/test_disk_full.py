"""A disk that fills up in mid-call loses nothing recorded before: that is published once there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callclient.events import CallStateReceived
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import JobContext
from jobs.recorder import __main__ as command
from jobs.recorder import salvage
from jobs.recorder.job import RecorderJob
from jobs.recorder.mp4 import Mp4Error
from jobs.recorder.outcome import PART_NAME
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
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for a few seconds."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    try:
        _mount(directory, f"size={96 * KIB}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no tmpfs can be mounted here: {error.stderr.decode().strip()}")
    yield directory
    # Lazily: FFmpeg keeps a file open whose end it could not write, until the process ends.
    subprocess.run(["umount", "-l", str(directory)], check=True)


async def test_what_fitted_is_kept_and_published_when_there_is_room_again(
    small_disk: Path, peer, api, settings, opus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = replace(settings, data_dir=small_disk, audio_rate_kbps=320)
    context = JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    peer.say(peer.add_voice("alice"), opus(20.0))
    peer.emit(CallStateReceived())
    with pytest.raises(Mp4Error, match="No space left on device"):
        async with asyncio.timeout(25):
            await running
    assert peer.left
    part = settings.directory / PART_NAME
    recorded_s = read_mp4(part).video_duration_s
    assert recorded_s > 1.0
    assert api.posts == []

    await asyncio.to_thread(_make_room, small_disk)
    monkeypatch.setattr(salvage, "PluginApi", lambda **_: api)
    monkeypatch.setenv("AUTH_TOKEN", settings.auth_token)
    code = await asyncio.to_thread(command.main, ["salvage", str(settings.directory)])
    assert code == 0
    assert len(api.posts) == 1
    ((_, content),) = api.uploads
    (tmp_path / "published.mp4").write_bytes(content)
    assert read_mp4(tmp_path / "published.mp4").video_duration_s == pytest.approx(recorded_s, abs=1)

"""What a cut-off file holds, by its boxes alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer, finish_mp4
from jobs.recorder.repair import cut_to_playable, playable_bytes
from testbed.analysis.mp4_structure import read_mp4


@pytest.fixture
def written(settings, tmp_path: Path) -> tuple[Path, bytes]:
    """Three seconds: while being written, and its path."""
    path = tmp_path / "part.mp4"
    writer = Mp4Writer(path, settings)
    planes = np.full((1080, 1280), 100, np.uint8)
    for number in range(30):
        writer.write_picture(planes, ticks=number * 9000, duration=9000)
        while writer.samples < (number + 1) * 4800:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    died = path.read_bytes()
    writer.close()
    return path, died


def test_an_ended_file_is_whole(written) -> None:
    path, _ = written
    assert playable_bytes(path) == path.stat().st_size


def test_wherever_it_is_cut_the_playable_part_is_within_and_plays(written, tmp_path: Path) -> None:
    path, died = written
    for size in range(100, len(died), len(died) // 23):
        path.write_bytes(died[:size])
        playable = playable_bytes(path)
        assert playable <= size
        if not playable:
            continue
        cut_to_playable(path)
        assert path.stat().st_size == playable
        finish_mp4(path, tmp_path / "finished.mp4")
        assert read_mp4(tmp_path / "finished.mp4").duration_s > 0


@pytest.mark.parametrize("content", [b"", b"x" * 7, bytes(100), b"\0\0\0\x08free" * 3])
def test_a_file_without_samples_has_nothing_to_play(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part.mp4"
    assert playable_bytes(path) == 0
    path.write_bytes(content)
    assert playable_bytes(path) == 0


def test_of_a_silent_grid_that_stands_still_all_but_the_last_moment_is_on_disk(
    settings, tmp_path: Path
) -> None:
    """Four pictures a second, nothing but silence: sound waits for the next picture and for its fragment."""
    path, copy = tmp_path / "part.mp4", tmp_path / "copy.mp4"
    writer = Mp4Writer(path, settings)
    planes = np.full((1080, 1280), 100, np.uint8)
    missing_s = []
    for block in range(150):
        now_s = (block + 1) * AUDIO_BLOCK / 48_000
        while writer.frames * 0.25 <= now_s:
            writer.write_picture(planes, ticks=writer.frames * 22_500, duration=22_500)
        writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
        if block > 25 and block % 7 == 0:
            copy.write_bytes(path.read_bytes())
            finish_mp4(copy, tmp_path / "finished.mp4")
            missing_s.append(now_s - read_mp4(tmp_path / "finished.mp4").audio_duration_s)
    writer.close()
    assert max(missing_s) < 0.25 + 0.05 + 0.05

"""The file: what was asked for, playable whenever its writer died, exact in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Error, Mp4Writer, finish_mp4
from testbed.analysis.media import read_sound
from testbed.analysis.mp4_structure import read_mp4

TICK = 90_000


def grey(luma: int) -> np.ndarray:
    planes = np.full((720 * 3 // 2, 1280), 128, np.uint8)
    planes[:720] = luma
    return planes


def write(path: Path, settings, *, seconds: int = 3, per_second: int = 5) -> None:
    writer = Mp4Writer(path, settings)
    for number in range(seconds * per_second):
        ticks = number * TICK // per_second
        writer.write_picture(grey(40 + number), ticks=ticks, duration=TICK // per_second)
    left = seconds * 48_000
    while left:
        count = min(AUDIO_BLOCK, left)
        # A click at every whole second.
        first = seconds * 48_000 - left
        block = np.zeros(count, np.float32)
        if first % 48_000 < AUDIO_BLOCK or first % 48_000 > 48_000 - AUDIO_BLOCK:
            at = (-first) % 48_000
            block[at : at + 200] = 0.8
        writer.write_sound(block)
        left -= count
    writer.close()


def test_one_h264_and_one_aac_stream_of_the_asked_size_with_the_index_in_front(
    tmp_path: Path, settings
) -> None:
    write(tmp_path / "part.mp4", settings)
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    found = read_mp4(tmp_path / "done.mp4")
    assert (found.video_codecs, found.audio_codecs) == (("h264",), ("aac",))
    assert (found.width_px, found.height_px, found.pixel_format) == (1280, 720, "yuv420p")
    assert found.index_in_front
    assert not (tmp_path / "done.mp4.tmp").exists()


def test_pictures_and_sound_keep_their_times_through_both_steps(tmp_path: Path, settings) -> None:
    write(tmp_path / "part.mp4", settings)
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    found = read_mp4(tmp_path / "done.mp4")
    assert found.frame_times_s == pytest.approx([n / 5 for n in range(15)], abs=0.001)
    assert found.video_duration_s == pytest.approx(3.0, abs=0.01)
    assert found.audio_duration_s == pytest.approx(3.0, abs=0.03)
    sound = read_sound(tmp_path / "done.mp4", rate_hz=48_000)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.4) / 48_000 + sound.start_s
    clicks = loud[np.diff(loud, prepend=-1) > 0.5]
    assert clicks[-2:] == pytest.approx([1.0, 2.0], abs=0.003), "the encoder's run-in is left out"


def test_closing_twice_is_closing_once(tmp_path: Path, settings) -> None:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    writer.write_picture(grey(100), ticks=0, duration=9000)
    writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()
    size_bytes = (tmp_path / "part.mp4").stat().st_size
    writer.close()
    assert (tmp_path / "part.mp4").stat().st_size == size_bytes


def test_a_file_that_was_given_nothing_can_be_closed(tmp_path: Path, settings) -> None:
    Mp4Writer(tmp_path / "part.mp4", settings).close()
    with pytest.raises(Mp4Error, match=r"part\.mp4"):
        finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")


def test_the_matrix_of_the_pictures_is_declared(tmp_path: Path, settings) -> None:
    write(tmp_path / "part.mp4", settings, seconds=1)
    with av.open(str(tmp_path / "part.mp4")) as container:
        context = container.streams.video[0].codec_context
        frame = next(container.decode(video=0))
    assert frame.colorspace == 5, "BT.601"
    assert frame.color_range == 1, "limited"
    assert context.color_primaries == 1


def test_a_player_can_jump_to_every_four_seconds(tmp_path: Path, settings) -> None:
    write(tmp_path / "part.mp4", settings, seconds=9, per_second=2)
    with av.open(str(tmp_path / "part.mp4")) as container:
        keys = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.is_keyframe]
    assert keys == pytest.approx([0, 4, 8])


def test_the_asked_bit_rate_is_a_maximum(tmp_path: Path, settings) -> None:
    settings = replace(settings, video_rate_kbps=500, frame_rate=10)
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    noise = np.random.default_rng(1)
    for number in range(50):
        planes = noise.integers(16, 235, (1080, 1280), dtype=np.uint8)
        writer.write_picture(planes, ticks=number * 9000, duration=9000)
    writer.close()
    # Five seconds of noise, and a buffer of two seconds that was full at the start.
    size_bytes = (tmp_path / "part.mp4").stat().st_size
    assert size_bytes * 8 <= 1.1 * 500_000 * (5 + 2)


_WRITE_FOREVER = """
import sys, time
from pathlib import Path
import numpy as np
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer
from jobs.recorder.settings import RecorderSettings
settings = RecorderSettings("", "", "", "", "", width_px=1280, height_px=720, frame_rate=10,
                            video_preset="ultrafast")
writer = Mp4Writer(Path(sys.argv[1]), settings)
for number in range(60):
    planes = np.full((1080, 1280), 100 + number, np.uint8)
    writer.write_picture(planes, ticks=number * 9000, duration=9000)
    while writer.samples < (number + 1) * 4800:
        writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
print("six seconds", flush=True)
time.sleep(60)
"""


def test_kill_9_loses_less_than_two_seconds(tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOREVER, str(part)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    finish_mp4(part, tmp_path / "done.mp4")
    found = read_mp4(tmp_path / "done.mp4")
    assert found.video_duration_s > 4.0
    assert found.audio_duration_s > 4.0
    assert found.index_in_front


@pytest.mark.parametrize("content", [None, b"", b"not an mp4"])
def test_nothing_playable_is_an_error_that_names_the_file(
    tmp_path: Path, content: bytes | None
) -> None:
    part = tmp_path / "part.mp4"
    if content is not None:
        part.write_bytes(content)
    with pytest.raises(Mp4Error, match=r"part\.mp4"):
        finish_mp4(part, tmp_path / "done.mp4")
    assert not (tmp_path / "done.mp4").exists()


def test_a_place_that_cannot_be_written_is_known_at_once(tmp_path: Path, settings) -> None:
    with pytest.raises(Mp4Error, match=r"missing/part\.mp4"):
        Mp4Writer(tmp_path / "missing" / "part.mp4", settings)

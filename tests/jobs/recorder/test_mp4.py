"""The file: what was asked for, playable whenever its writer died, exact in time."""

from __future__ import annotations

import errno
import os
import random
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


@pytest.mark.parametrize("duration_ms", [50, 500])
@pytest.mark.parametrize("sound_ahead_ms", [0, 500])
def test_pictures_that_come_irregularly_keep_their_times_wherever_fragments_end(
    tmp_path: Path, settings, duration_ms, sound_ahead_ms
) -> None:
    choice = random.Random(1)
    times_ms = [0]
    while times_ms[-1] < 15_000:
        times_ms.append(times_ms[-1] + choice.choice([50, 66, 100, 133, 200, 300, 450, 500]))
    writer = Mp4Writer(tmp_path / "part.mp4", replace(settings, video_preset="ultrafast"))
    for ms in times_ms:
        while writer.samples < (ms + sound_ahead_ms) * 48:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
        writer.write_picture(grey(40 + ms % 100), ticks=ms * 90, duration=duration_ms * 90)
    writer.close()
    found = read_mp4(tmp_path / "part.mp4")
    assert found.frame_times_s == pytest.approx([ms / 1000 for ms in times_ms], abs=0.001)


def test_no_index_of_the_call_is_gathered_for_its_end(tmp_path: Path, settings) -> None:
    """It would stay in memory until then: 23 MB an hour."""
    write(tmp_path / "part.mp4", settings)
    first, index, *fragments = read_mp4(tmp_path / "part.mp4").boxes
    assert (first, index) == ("ftyp", "moov")
    assert set(fragments) == {"moof", "mdat"}


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


def test_kill_9_costs_what_the_writer_holds_half_a_second_at_most(tmp_path: Path) -> None:
    """A kill may cost 1.5 s in all, and the recording stays one behind the call."""
    part = tmp_path / "part.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOREVER, str(part)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    finish_mp4(part, tmp_path / "done.mp4")
    found = read_mp4(tmp_path / "done.mp4")
    assert 5.5 < found.video_duration_s <= 6.0
    assert 5.5 < found.audio_duration_s <= 6.0
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


def test_an_eased_encoder_goes_on_in_the_same_file_and_comes_back(tmp_path, settings) -> None:
    """The pictures' size changes in mid-file: every one of them is still decoded, at its time."""
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    for number in range(20):
        if number % 5 == 0:
            writer.ease(lighter=number in (5, 10), smaller=number == 10)
        writer.write_picture(grey(40 + 10 * number), ticks=number * TICK // 10, duration=TICK // 10)
        writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    with av.open(str(tmp_path / "done.mp4")) as container:
        seen = [
            (frame.time, frame.width, float(frame.to_ndarray()[100:200, 100:200].mean()))
            for frame in container.decode(video=0)
        ]
    assert [time for time, _, _ in seen] == pytest.approx([n / 10 for n in range(20)], abs=0.001)
    assert [width for _, width, _ in seen] == [1280] * 10 + [640] * 5 + [1280] * 5
    assert [luma for _, _, luma in seen] == pytest.approx([40 + 10 * n for n in range(20)], abs=3)


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_pictures_that_come_as_they_like_keep_their_times_beside_the_sound(
    tmp_path, settings, killed: bool
) -> None:
    """Fragments end with sound as well as with pictures; neither may move the picture that comes next."""
    random = np.random.default_rng(3)
    times = np.concatenate([[0], np.cumsum(random.choice([0.05, 0.07, 0.1, 0.5], 100))])
    part, done = tmp_path / "part.mp4", tmp_path / "done.mp4"
    writer = Mp4Writer(part, settings)
    for at_s in times:
        while (writer.samples + AUDIO_BLOCK) / 48_000 <= at_s:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
        writer.write_picture(grey(60), ticks=round(at_s * TICK), duration=TICK // 2)
    if killed:
        finish_mp4(part, done)
    writer.close()
    if not killed:
        finish_mp4(part, done)
    with av.open(str(done)) as container:
        seen = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.pts is not None]
    assert len(seen) >= len(times) - 10 * killed
    assert seen == pytest.approx(list(times[: len(seen)]), abs=0.001)


def test_the_last_picture_ends_with_the_sound_though_it_was_said_to_last_longer(
    tmp_path: Path, settings
) -> None:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    for number in range(8):
        writer.write_picture(grey(100), ticks=number * 22_500, duration=45_000)
    while writer.samples < 2 * 48_000:
        writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    found = read_mp4(tmp_path / "done.mp4")
    assert found.frame_times_s[-1] == pytest.approx(1.75, abs=0.001)
    assert found.video_duration_s == pytest.approx(found.audio_duration_s, abs=0.03)


def test_the_finished_file_is_on_the_disk_before_it_takes_its_name(
    tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written during the call goes then: a host that loses its power must not lose both."""
    part, done = tmp_path / "part.mp4", tmp_path / "done.mp4"
    writer = Mp4Writer(part, settings)
    writer.write_picture(grey(100), ticks=0, duration=9000)
    writer.close()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("jobs.recorder.mp4.os.fsync", refuse)
    with pytest.raises(Mp4Error, match="Input/output error"):
        finish_mp4(part, done)
    assert {path.name for path in tmp_path.iterdir()} == {"part.mp4"}

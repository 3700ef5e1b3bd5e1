from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from testbed.analysis.media import MediaError, read_sound
from testbed.analysis.mp4_structure import most_in_a_second, read_mp4


def _write(path: Path, *, index_in_front: bool = True, audio_start_s: float = 0.0) -> None:
    options = {"movflags": "faststart"} if index_in_front else {}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((72, 64), np.uint8), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for number in range(94):
            block = av.AudioFrame.from_ndarray(
                np.full((1, 1024), 0.5, np.float32), format="fltp", layout="mono"
            )
            block.sample_rate = 48000
            block.pts = round(audio_start_s * 48000) + number * 1024
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def test_streams_size_and_length_are_read_without_decoding(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4")
    found = read_mp4(tmp_path / "a.mp4")
    assert (found.video_codecs, found.audio_codecs) == (("h264",), ("aac",))
    assert (found.width_px, found.height_px, found.pixel_format) == (64, 48, "yuv420p")
    assert found.video_duration_s == pytest.approx(2.0, abs=0.01)
    assert found.audio_duration_s == pytest.approx(2.0, abs=0.05)
    assert found.most_frames_in_a_second == 10
    assert found.index_in_front


def test_an_index_at_the_end_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", index_in_front=False)
    assert not read_mp4(tmp_path / "a.mp4").index_in_front


def test_sound_that_begins_later_is_read_at_its_time(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", audio_start_s=0.5)
    sound = read_sound(tmp_path / "a.mp4")
    loud = sound.between(0.0, 10.0)
    first_s = loud.start_s + np.argmax(np.abs(loud.samples) > 0.25) / sound.rate_hz
    assert first_s == pytest.approx(0.5, abs=0.03)


def test_what_is_no_recording_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no media at all")
    with pytest.raises(MediaError, match=r"a\.mp4"):
        read_mp4(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=r"b\.mp4"):
        read_sound(tmp_path / "b.mp4")


def test_a_burst_counts_although_the_average_is_low() -> None:
    times_s = [0.0, 1.0, 2.0, *(3.0 + i / 40 for i in range(30)), 9.0]
    assert most_in_a_second(times_s) == 30


def test_an_even_rate_is_not_counted_one_too_many() -> None:
    assert most_in_a_second([i / 20 for i in range(100)]) == 20

"""Encoders: quality within the rate, hardware that has to prove itself, x264 whenever it fails."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from jobs.recorder import encoder_choice
from jobs.recorder.encoder_choice import HARDWARE, X264, choose_encoder
from jobs.recorder.encoders import VIDEO_CLOCK_HZ, preset, prove, set_up
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer, finish_mp4
from testbed.analysis.mp4_structure import read_mp4

PER_SECOND = 10


def grey(number: int) -> np.ndarray:
    planes = np.full((1080, 1280), 128, np.uint8)
    planes[:720] = 40 + 4 * number
    return planes


def noise(number: int) -> np.ndarray:
    """A picture that is worth some bits."""
    coarse = np.random.default_rng(number).integers(90, 140, (90, 160), dtype=np.uint8)
    planes = np.full((1080, 1280), 128, np.uint8)
    planes[:720] = np.kron(coarse, np.ones((8, 8), np.uint8))
    return planes


def write(writer: Mp4Writer, first: int, count: int, picture=grey) -> None:
    step = VIDEO_CLOCK_HZ // PER_SECOND
    for number in range(first, first + count):
        writer.write_picture(picture(number), ticks=number * step, duration=step)
        while writer.samples < (number + 1) * 48_000 // PER_SECOND:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))


def shown(path: Path) -> list[tuple[float, float]]:
    """Time and brightness of every picture."""
    with av.open(str(path)) as container:
        return [
            (float(frame.time), float(frame.to_ndarray()[:720].mean()))
            for frame in container.decode(video=0)
        ]


class Failing:
    """A hardware encoder whose device goes away after so many frames; behind it is x264."""

    name = "h264_nvenc"

    def __init__(self, real, *, after: int, how: str = "error") -> None:
        self._real, self._left, self._how = real, after, how
        self.pix_fmt, self.width, self.height = real.pix_fmt, real.width, real.height

    def encode(self, frame):
        if self._left:
            self._left -= 1
            return self._real.encode(frame)
        if self._how == "keeps back":
            return []
        raise av.error.ExternalError(1, "the device was lost")


@pytest.mark.parametrize("after", [0, 1, 13])
@pytest.mark.parametrize("how", ["error", "keeps back"])
def test_hardware_that_fails_in_mid_call_is_followed_by_x264_and_no_picture_is_lost(
    tmp_path: Path, settings, after: int, how: str
) -> None:
    writer = Mp4Writer(tmp_path / "part.mp4", replace(settings, video_preset="medium"))
    writer._video._context = Failing(writer._video._context, after=after, how=how)
    write(writer, 0, 30)
    writer.close()
    assert (writer.encoder, writer.fell_back) == (X264, True)
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    found = shown(tmp_path / "done.mp4")
    assert [at_s for at_s, _ in found] == pytest.approx([n / 10 for n in range(30)], abs=0.001)
    assert [luma for _, luma in found] == pytest.approx([40 + 4 * n for n in range(30)], abs=2)


@pytest.mark.parametrize("smaller", [False, True])
def test_a_player_may_go_back_to_before_a_change_of_the_encoder(
    tmp_path: Path, settings, *, smaller: bool
) -> None:
    """Browsers keep one decoder: what it learned at the end must not spoil the beginning."""
    path = tmp_path / "changed.mp4"
    writer = Mp4Writer(path, replace(settings, video_preset="veryfast"))
    write(writer, 0, 10)
    writer.ease(lighter=True, smaller=smaller)
    write(writer, 10, 10)
    writer.ease(lighter=True, smaller=False)
    write(writer, 20, 10)
    writer.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = stream.codec_context.extradata
        decoder.options = {"err_detect": "explode"}
    for first in (20, 0, 10, 0):
        seen = [f for p in packets[first : first + 10] for f in decoder.decode(p)]
        seen += decoder.decode(None)
        decoder.flush_buffers()
        width = 640 if smaller and first == 10 else 1280
        assert {f.width for f in seen} == {width}
        brightness = [float(f.to_ndarray()[: f.height].mean()) for f in seen]
        assert brightness == pytest.approx([40 + 4 * (first + n) for n in range(10)], abs=2)


def test_what_was_eased_while_hardware_encoded_holds_for_its_successor(
    tmp_path: Path, settings
) -> None:
    """It would be eased no further, and x264 needs it more."""
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    writer._video._context = Failing(writer._video._context, after=3)
    write(writer, 0, 2)
    writer.ease(lighter=True, smaller=True)
    write(writer, 2, 4)
    writer.close()
    with av.open(str(tmp_path / "part.mp4")) as container:
        widths = [frame.width for frame in container.decode(video=0)]
    assert widths == [1280, 1280, 1280, 640, 640, 640]


def test_hardware_that_fails_at_the_very_end_does_not_cost_the_file(
    tmp_path: Path, settings
) -> None:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    writer._video._context = Failing(writer._video._context, after=20)
    write(writer, 0, 20)
    writer.close()
    assert len(shown(tmp_path / "part.mp4")) == 20


def test_an_encoder_that_cannot_be_opened_is_x264_from_the_beginning(
    tmp_path: Path, settings
) -> None:
    # Every build has it; it needs a device node that no test machine has.
    writer = Mp4Writer(tmp_path / "part.mp4", settings, encoder="h264_v4l2m2m")
    write(writer, 0, 10)
    writer.close()
    assert (writer.encoder, writer.fell_back) == (X264, False)
    assert len(shown(tmp_path / "part.mp4")) == 10


def test_better_quality_takes_more_of_the_rate_and_never_more_than_all(
    tmp_path: Path, settings
) -> None:
    sizes, settings = [], replace(settings, video_preset="faster")
    for quality in ("low", "medium", "high", "best"):
        wished = replace(settings, quality=quality, video_rate_kbps=10_000)
        writer = Mp4Writer(tmp_path / f"{quality}.mp4", wished)
        write(writer, 0, 20, noise)
        writer.close()
        sizes.append((tmp_path / f"{quality}.mp4").stat().st_size)
    assert sizes == sorted(set(sizes)), "each step makes a difference"
    wished = replace(settings, quality="best", video_rate_kbps=500)
    writer = Mp4Writer(tmp_path / "bounded.mp4", wished)
    write(writer, 0, 40, noise)
    writer.close()
    # Four seconds, and a buffer of two that was full at the start.
    assert (tmp_path / "bounded.mp4").stat().st_size * 8 <= 1.1 * 500_000 * (4 + 2)


@pytest.mark.parametrize(
    ("asked", "quality", "used"),
    [
        ("ultrafast", "medium", "ultrafast"),
        ("veryfast", "low", "veryfast"),
        ("ultrafast", "high", "veryfast"),
        ("fast", "high", "fast"),
        ("veryfast", "best", "faster"),
    ],
)
def test_quality_makes_the_encoder_work_harder_where_the_profile_asks_for_little(
    settings, asked: str, quality: str, used: str
) -> None:
    assert preset(replace(settings, video_preset=asked, quality=quality)) == used


@pytest.mark.parametrize("name", [X264, *HARDWARE.values()])
def test_no_encoder_holds_pictures_back_and_all_have_the_rate_as_a_ceiling(
    settings, name: str
) -> None:
    context = av.CodecContext.create(name, "w")
    set_up(context, settings)
    assert (context.width, context.height, context.max_b_frames) == (1280, 720, 0)
    assert context.options["maxrate"] == "1500k"
    no_delay = {
        X264: {"tune": "zerolatency"},
        "h264_nvenc": {"delay": "0", "zerolatency": "1"},
        "h264_qsv": {"async_depth": "1", "look_ahead": "0"},
    }[name]
    assert no_delay.items() <= context.options.items()


async def test_software_needs_no_proof(settings, monkeypatch) -> None:
    async def refuse(*_: object) -> str:
        raise AssertionError("nothing is to be tried")

    monkeypatch.setattr(encoder_choice, "_probe", refuse)
    assert await choose_encoder(settings) == X264


@pytest.mark.parametrize(
    ("wish", "working", "chosen"),
    [
        ("auto", {"h264_nvenc", "h264_qsv"}, "h264_nvenc"),
        ("auto", {"h264_qsv"}, "h264_qsv"),
        ("auto", set(), X264),
        ("qsv", {"h264_nvenc", "h264_qsv"}, "h264_qsv"),
        ("nvenc", {"h264_qsv"}, X264),
    ],
)
async def test_hardware_is_taken_when_it_is_wished_and_proves_itself(
    settings, monkeypatch, wish: str, working: set[str], chosen: str
) -> None:
    async def probe(name: str, _: object) -> str:
        return "" if name in working else "no device"

    monkeypatch.setattr(encoder_choice, "_probe", probe)
    assert await choose_encoder(replace(settings, encoder=wish)) == chosen


async def test_what_works_proves_itself_in_a_process_of_its_own(settings, monkeypatch) -> None:
    monkeypatch.setitem(HARDWARE, "nvenc", X264)  # stands for hardware that works
    assert await encoder_choice._probe(X264, settings) == ""


async def test_missing_hardware_says_why(settings) -> None:
    reason = await encoder_choice._probe("h264_v4l2m2m", settings)
    assert "h264" in reason or "device" in reason


@pytest.fixture
def program(tmp_path: Path, monkeypatch):
    """A shell script in Python's place."""

    def put(script: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(encoder_choice.sys, "executable", str(path))
        return path

    return put


async def test_a_driver_that_hangs_is_left_behind(settings, monkeypatch, program) -> None:
    program("exec sleep 60")
    monkeypatch.setattr(encoder_choice, "_PROBE_TIMEOUT_S", 0.2)
    async with asyncio.timeout(25):
        assert await choose_encoder(replace(settings, encoder="nvenc")) == X264


async def test_a_driver_that_crashes_takes_nothing_along(settings, program) -> None:
    program("kill -SEGV $$")
    assert "-11" in await encoder_choice._probe("h264_nvenc", settings)


async def test_the_proof_gets_no_secret(settings, monkeypatch, program, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTH_TOKEN", settings.auth_token)
    program(f"env > {tmp_path}/environment")
    await encoder_choice._probe("h264_nvenc", settings)
    found = (tmp_path / "environment").read_text()
    assert "PATH=" in found
    assert settings.auth_token not in found


@pytest.mark.parametrize("wish", ["nvenc", "qsv"])
async def test_real_hardware_encodes_a_recording(tmp_path: Path, settings, wish: str) -> None:
    settings = replace(settings, encoder=wish)
    name = await choose_encoder(settings)
    if name == X264:
        # Hardware that few machines have: `all` does not mean it.
        if wish in os.environ.get("REQUIRE", "").replace(",", " ").split():
            pytest.fail(f"{wish} is required: see the log for why it is unusable")
        pytest.skip(f"no {wish}: it has no device here")
    prove(name, settings, frames=30)
    writer = Mp4Writer(tmp_path / "part.mp4", settings, encoder=name)
    write(writer, 0, 50)
    assert (writer.encoder, writer.fell_back) == (name, False)
    writer.close()
    found = shown(tmp_path / "part.mp4")
    assert [at_s for at_s, _ in found] == pytest.approx([n / 10 for n in range(50)], abs=0.001)
    assert [luma for _, luma in found] == pytest.approx([40 + 4 * n for n in range(50)], abs=3)
    with av.open(str(tmp_path / "part.mp4")) as container:
        keys = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.is_keyframe]
    assert keys == pytest.approx([0, 4])
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    assert read_mp4(tmp_path / "done.mp4").pixel_format == "yuv420p"

"""Pictures as YUV: the right matrix, the right place, the right mixture."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from jobs.recorder.layout import Box
from jobs.recorder.planes import Converter, Mask, blend, frame_of, part, put, split

COLOUR = (30, 200, 60)
AS_601 = (130, 92, 63)
"""Y, U, V of it by ITU-R BT.601, limited range."""


def mean(planes: np.ndarray) -> list[float]:
    return [float(plane.mean()) for plane in split(planes)]


def test_rgb_becomes_bt_601_with_limited_range() -> None:
    planes = Converter().planes(Image.new("RGB", (32, 16), COLOUR))
    assert mean(planes) == pytest.approx(AS_601, abs=1)
    assert mean(Converter().planes(Image.new("RGB", (8, 8), (255, 255, 255))))[0] == 235
    assert mean(Converter().planes(Image.new("RGB", (8, 8))))[0] == 16


@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize("values", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_whatever_matrix_a_decoder_tells_the_colour_is_kept(
    matrix: Colorspace, values: ColorRange, pixel_format: str
) -> None:
    rgb = av.VideoFrame.from_ndarray(np.full((64, 64, 3), COLOUR, np.uint8), format="rgb24")
    frame = rgb.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=values)
    frame.colorspace, frame.color_range = matrix, values
    assert mean(Converter().scaled(frame, 32, 48)) == pytest.approx(AS_601, abs=2)


def test_a_picture_is_put_at_its_place_in_all_three_planes() -> None:
    planes = np.zeros((24, 16), np.uint8)
    put(planes, np.full((6, 4), 9, np.uint8), Box(6, 8, 4, 4))
    luma, u, v = split(planes)
    assert np.argwhere(luma == 9).min(axis=0).tolist() == [8, 6]
    assert (luma == 9).sum() == 16
    assert [(plane == 9).sum() for plane in (u, v)] == [4, 4]
    assert [values.shape for values in part(planes, Box(6, 8, 4, 4))] == [(4, 4), (2, 2), (2, 2)]


@pytest.mark.parametrize(("opacity", "seen"), [(0, 40), (255, 200), (128, 120)])
def test_blending_is_exact_at_both_ends(opacity: int, seen: int) -> None:
    planes = np.full((12, 8), 40, np.uint8)
    mask = Mask.of(Image.new("L", (8, 8), opacity))
    blend(planes, np.full((12, 8), 200, np.uint8), mask, Box(0, 0, 8, 8))
    assert np.abs(planes.astype(int) - seen).max() <= 1
    if opacity != 128:
        assert (planes == seen).all()


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (16, 4000), (64, 64)])
def test_a_picture_that_covers_is_cut_at_its_middle(size: tuple[int, int]) -> None:
    width, height = size
    luma = np.zeros((height, width), np.uint8)
    luma[height // 2 - height // 8 : height // 2 + height // 8] = 100
    luma[:, width // 2 - width // 8 : width // 2 + width // 8] += 100
    planes = np.concatenate([luma, np.full((height // 2, width), 128, np.uint8)])
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    out = Converter().covering(frame, 64, 64)
    assert out.shape == (96, 64)
    assert out[32, 32] > 180
    assert np.abs(out[:64].astype(int) - out[:64][::-1, ::-1]).mean() < 12, "even on both sides"


@pytest.mark.parametrize("size", [(1280, 720), (1366, 768), (642, 362), (1278, 722), (2, 2)])
def test_a_frame_of_whatever_size_shows_the_planes(size: tuple[int, int]) -> None:
    width, height = size
    shape = height * 3 // 2, width
    planes = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    frame = frame_of(planes)
    assert (frame.width, frame.height) == size
    assert np.array_equal(frame.to_ndarray(), planes)


def test_a_frame_of_a_usual_size_is_no_copy() -> None:
    planes = np.zeros((1080, 1280), np.uint8)
    frame = frame_of(planes)
    planes[5, 7] = 200
    assert frame.to_ndarray()[5, 7] == 200

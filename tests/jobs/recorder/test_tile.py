"""Whatever somebody is called and does, nothing of it is cut off at the edge of their tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from jobs.recorder.drawing.colours import CONTAINER
from jobs.recorder.drawing.shapes import rounded
from jobs.recorder.drawing.tile import TileLook, camera_box, camera_mask, draw_tile
from jobs.recorder.happenings import Emoji
from jobs.recorder.layout import grid
from jobs.recorder.scene import Person

NAMES = (
    "Wolfeschlegelsteinhausenbergerdorff " * 3,
    "王小明" * 20,
    "محمد " * 30,
    "ภาษาไทย" * 12,
    "தமிழ் செல்வன் " * 6,
    "🎉" * 40,
    "WWWWWWWWWWWWW WWWWWWWWWWWWWW",
    "j" * 90,
)


def look(count: int, name: str, size: tuple[int, int] = (1280, 720), **changes: bool) -> TileLook:
    values = {
        "muted": False,
        "speaking": False,
        "host": False,
        "hand_raised": True,
        "camera": False,
    }
    tile_size = grid(count, width=size[0], height=size[1]).size
    return TileLook(Person("u", name), tile_size, emoji=Emoji("x"), **(values | changes))


def edges(tile: TileLook) -> np.ndarray:
    rgb = np.asarray(draw_tile(tile)).astype(int)
    below = rgb[tile.size.camera_height :]
    return np.concatenate([below[:, 0], below[:, -1], rgb[-1]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 9, 12, 30, 60, 120, 200])
def test_no_name_is_cut_off(name: str, count: int) -> None:
    for host in (False, True):
        assert np.abs(edges(look(count, name, host=host)) - CONTAINER).max() <= 24


@given(
    st.text(max_size=50),
    st.integers(1, 200),
    st.integers(640, 1920).map(lambda half: 2 * half),
    st.integers(360, 1080).map(lambda half: 2 * half),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_tile_can_be_drawn(
    name: str, count: int, width: int, height: int, speaking: bool, camera: bool
) -> None:
    tile = look(count, name, (width, height), speaking=speaking, camera=camera, host=True)
    image = draw_tile(tile)
    assert image.size == (tile.size.width, tile.size.height)
    box, mask = camera_box(tile.size), camera_mask(tile)
    assert mask.size == (box.width, box.height)
    assert box.right <= tile.size.width
    assert min(box.width, box.height) > 0
    assert (box.left, box.top, box.width, box.height) == tuple(
        2 * (value // 2) for value in (box.left, box.top, box.width, box.height)
    )


@pytest.mark.parametrize(
    "shape", [(1280, 680, 8), (100, 52, 25), (100, 53, 25), (300, 200, 0), (91, 44, 12), (7, 7, 3)]
)
def test_round_corners_are_those_of_the_whole_drawn_large(shape: tuple[int, int, int]) -> None:
    width, height, radius = shape
    large = Image.new("L", (4 * width, 4 * height))
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, 4 * width - 1, 4 * height - 1), 4 * radius, fill=255
    )
    whole = large.resize((width, height), Image.Resampling.BOX)
    assert ImageChops.difference(rounded(width, height, radius), whole).getbbox() is None

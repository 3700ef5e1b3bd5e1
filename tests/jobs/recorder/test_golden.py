"""Every state of the picture looks as it did when it was last looked at.

After a change that is meant: `python -m testbed.recording_pictures`, look, and commit what changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from testbed.recording_pictures import GOLDEN, SHEET, State, golden_size, rgb, states

TOLERANCE = 11.0
"""Largest mean difference (0…255) in a square of 8 px. JPEG at quality 85 makes 10, the smallest ring 13."""
pytestmark = pytest.mark.usefixtures("text_shaping")
STATES = {state.name: state for state in states()}


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    values = [np.asarray(image.convert("RGB"), np.float32) for image in (one, other)]
    gap = np.abs(values[0] - values[1]).max(axis=2)
    height, width = (side // 8 * 8 for side in gap.shape)
    squares = gap[:height, :width].reshape(height // 8, 8, width // 8, 8)
    return float(squares.mean(axis=(1, 3)).max())


def golden(name: str) -> Image.Image:
    return Image.open(GOLDEN / f"{name}.png")


def now(state: State) -> Image.Image:
    return golden_size(rgb(state))


@pytest.mark.parametrize("name", STATES)
def test_it_looks_as_it_did(name: str, request: pytest.FixtureRequest) -> None:
    if STATES[name].needs_emoji:
        request.getfixturevalue("emoji_font")
    assert difference(golden(name), now(STATES[name])) <= TOLERANCE


def test_a_lost_ring_is_found() -> None:
    state = STATES["grid-200"]
    dull = replace(state, view=replace(state.view, speaking=frozenset()))
    assert difference(golden("grid-200"), now(dull)) > TOLERANCE


def test_a_changed_letter_is_found() -> None:
    state = STATES["grid-S"]
    first, second, *rest = state.view.scene.tiles
    second = replace(second, person=replace(second.person, name="Grace Hoppes"))
    scene = replace(state.view.scene, tiles=(first, second, *rest))
    assert difference(
        golden("grid-S"), now(replace(state, view=replace(state.view, scene=scene)))
    ) > (TOLERANCE)


def test_nothing_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.png")} == set(STATES)
    assert SHEET.is_file()

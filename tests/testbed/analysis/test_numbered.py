"""Pictures with numbers, drawn as the page draws them, are read for what they are, and for nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.analysis.numbered import (
    Shown,
    Stretch,
    as_everybody_sees,
    decode_squares,
    frozen,
    patch_colour,
    read_squares,
)

AREA = (0.0, 0.0, 1280.0, 720.0)


def _bits(number: int, share: int) -> list[int]:
    bits = [int(bit) for bit in f"{number:012b}{share:03b}"]
    return [*bits, sum(bits) % 2]


def _plane(bits: list[int]) -> np.ndarray:
    plane = np.full((720, 1280), 68, np.uint8)
    for index, bit in enumerate(bits):
        left = 320 + 40 * index
        plane[556:596, left : left + 40] = 235 if bit else 16
    return plane


@pytest.mark.parametrize(("number", "share"), [(0, 1), (1, 7), (2730, 5), (4095, 3)])
def test_share_and_number_are_read(number: int, share: int) -> None:
    assert read_squares(_plane(_bits(number, share)), AREA) == (share, number)


def test_a_picture_that_is_half_of_the_next_one_is_nobodys() -> None:
    plane = (_plane(_bits(5, 1)) // 2 + _plane(_bits(6, 1)) // 2).astype(np.uint8)
    assert read_squares(plane, AREA) is None


def test_one_wrong_square_is_noticed() -> None:
    bits = _bits(77, 2)
    bits[3] ^= 1
    assert read_squares(_plane(bits), AREA) is None


def test_a_picture_without_squares_has_no_number() -> None:
    assert read_squares(np.full((720, 1280), 47, np.uint8), AREA) is None
    assert read_squares(np.full((720, 1280), 16, np.uint8), AREA) is None
    assert decode_squares([0.0] * 15) is None


def test_the_patch_tells_the_share_by_its_colour() -> None:
    picture = np.zeros((720, 1280, 3), np.uint8)
    picture[240:440, 1000:1220] = (40, 160, 60)
    assert patch_colour(picture, AREA) == (40, 160, 60)


def test_a_colour_arrives_as_a_chromium_viewer_was_measured_to_see_it() -> None:
    assert as_everybody_sees((40, 60, 200)) == pytest.approx((31, 44, 200), abs=4)
    assert as_everybody_sees((40, 160, 60)) == pytest.approx((38, 190, 55), abs=4)
    assert as_everybody_sees((60, 60, 60)) == pytest.approx((53, 50, 53), abs=4)


def _shown(*pictures: tuple[float, int]) -> list[Shown]:
    return [Shown(at_s, 1, number, (0, 0, 0), 60.0, flashes=False) for at_s, number in pictures]


def test_a_picture_that_stays_is_a_stretch_however_often_it_is_repeated() -> None:
    pictures = _shown((0.0, 1), (0.1, 2), (0.5, 2), (1.0, 2), (1.4, 3), (1.5, 4))
    assert frozen(pictures, longer_than_s=1.0) == [Stretch(0.1, 1.4)]
    assert frozen(pictures, longer_than_s=1.4) == []


def test_a_picture_that_stays_to_the_end_is_a_stretch_too() -> None:
    pictures = _shown((0.0, 1), (0.1, 2), (0.6, 2), (1.3, 2))
    assert frozen(pictures, longer_than_s=1.0) == [Stretch(0.1, 1.3)]

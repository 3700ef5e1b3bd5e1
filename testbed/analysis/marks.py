"""Finds the bots' marks in a recording: 1 kHz beeps in its sound, bright flashes in its picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.media import Sound
from testbed.bots.picture import FLASH_BOX
from testbed.bots.picture import HEIGHT_PX as SOURCE_HEIGHT_PX
from testbed.bots.picture import WIDTH_PX as SOURCE_WIDTH_PX
from testbed.bots.voice import BEEP_AMPLITUDE, BEEP_HZ, BEEP_S

_WINDOW_S: Final = 0.02
_HOP_S: Final = 0.002
_NEIGHBOURS_HZ: Final = (650, 800, 1250, 1500)
"""A voice has energy there too; a beep has not."""
_TONALITY: Final = 2.5
"""How much louder than its neighbours the tone must be."""
_MIN_AMPLITUDE: Final = BEEP_AMPLITUDE / 5
"""A recorder may turn the level down, but not away."""
_DURATION_S: Final = (0.6 * BEEP_S, 1.6 * BEEP_S)

_FLASH_STEP: Final = 60
"""Luma steps between the flash (235) and the grey behind it (68): 167; half of that is blur."""
_SAMPLED_SHARE: Final = 0.6
"""Only the middle of the flash box is looked at: scaling blurs its edges."""


def find_beeps(sound: Sound) -> list[float]:
    """Recording times at which beeps begin, s; good to about 3 ms."""
    return [start_s for start_s, _ in find_beep_spans(sound)]


def find_beep_spans(sound: Sound, *, hole_s: float = 0.0) -> list[tuple[float, float]]:
    """Recording times at which beeps begin and end, s. Where packets were lost an edge may be anywhere.

    `hole_s`: a beep may be interrupted for so long; what stands for a lost packet need not be a tone.
    """
    tone = _envelope(sound, BEEP_HZ)
    others = np.mean([_envelope(sound, hz) for hz in _NEIGHBOURS_HZ], axis=0)
    present = (tone > _MIN_AMPLITUDE) & (tone > _TONALITY * others)
    beeps: list[tuple[float, float]] = []
    for first, last in _joined(_runs(present), round(hole_s / _HOP_S)):
        if not _DURATION_S[0] <= (last - first) * _HOP_S <= _DURATION_S[1]:
            continue
        half = float(tone[first:last].max()) / 2
        # Where a window that slides into the tone is half filled, its middle is at the onset.
        crossing = max(first - 10, 0) + int(np.argmax(tone[max(first - 10, 0) : last] >= half))
        after = min(last + 10, len(tone)) - 1
        ending = after - int(np.argmax(tone[first : after + 1][::-1] >= half))
        middle_s = sound.start_s + _WINDOW_S / 2
        beeps.append((middle_s + crossing * _HOP_S, middle_s + (ending + 1) * _HOP_S))
    return beeps


def flash_onsets(brightness: Iterable[tuple[float, float]]) -> list[float]:
    """Times at which the brightness steps up, from (time, brightness 0–255) of every picture.

    Between two onsets the brightness must have come down again.
    """
    onsets: list[float] = []
    floor: float | None = None
    bright = False
    for at_s, value in brightness:
        if floor is None:
            floor = value
        elif not bright and value > floor + _FLASH_STEP:
            onsets.append(at_s)
            bright = True
        elif bright and value < floor + _FLASH_STEP / 2:
            bright = False
        if not bright:
            floor = value
    return onsets


def screen_brightness(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> float:
    """Luma, 0–255, where the flash of a shared screen would be.

    `box` is where the shared screen is, as left, top, right, bottom in pixels of `picture`.
    """
    left, top, right, bottom = box
    scale_x = (right - left) / SOURCE_WIDTH_PX
    scale_y = (bottom - top) / SOURCE_HEIGHT_PX
    flash_left, flash_top, flash_right, flash_bottom = FLASH_BOX
    margin_x = (flash_right - flash_left) * (1 - _SAMPLED_SHARE) / 2
    margin_y = (flash_bottom - flash_top) * (1 - _SAMPLED_SHARE) / 2
    columns = slice(
        round(left + (flash_left + margin_x) * scale_x),
        round(left + (flash_right - margin_x) * scale_x),
    )
    rows = slice(
        round(top + (flash_top + margin_y) * scale_y),
        round(top + (flash_bottom - margin_y) * scale_y),
    )
    # The darkest tenth: a bright name or line that happens to be there is no flash.
    return float(np.percentile(picture[rows, columns], 10))


def _envelope(sound: Sound, hz: float) -> NDArray[np.float64]:
    """Amplitude of one frequency in windows of 20 ms, one value each 2 ms."""
    window, hop = round(_WINDOW_S * sound.rate_hz), round(_HOP_S * sound.rate_hz)
    times_s = np.arange(len(sound.samples)) / sound.rate_hz
    shifted = sound.samples * np.exp(-2j * np.pi * hz * times_s)
    total = np.concatenate([[0], np.cumsum(shifted)])
    starts = np.arange(0, max(len(sound.samples) - window, 0), hop)
    amplitude: NDArray[np.float64] = 2 * np.abs(total[starts + window] - total[starts]) / window
    return amplitude


def _runs(present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], present.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _joined(runs: list[tuple[int, int]], hole: int) -> list[tuple[int, int]]:
    """Runs with at most `hole` between them are one."""
    joined: list[tuple[int, int]] = []
    for first, last in runs:
        if joined and first - joined[-1][1] <= hole:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined

"""Lines of text in any script, that fit.

A line is cut into clusters (what is read as one character), clusters with one font and direction form a
run, runs are put in visual order, and each run is shaped and drawn by Pillow.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from PIL import Image, ImageDraw, ImageFont

from jobs.recorder.drawing import fonts
from jobs.recorder.drawing.bidi import levels, visual_order
from jobs.recorder.drawing.shapes import Rgb

ELLIPSIS: Final = "…"
_JOINER: Final = "\N{ZERO WIDTH JOINER}"
_KEPT_FORMATS: Final = frozenset(
    (_JOINER, "\N{ZERO WIDTH NON-JOINER}", *map(chr, range(0xE0020, 0xE0080)))
)
"""Of the invisible characters those that shape what is seen; tags make flags of regions."""
_MAX_MARKS: Final = 4
"""Above and below one letter; languages need three."""
_EMOJI_SCALE: Final = 1.18
"""An emoji's height in the size of its text."""
_EMOJI_BELOW: Final = 0.22
"""How far it reaches under the baseline."""


@dataclass(frozen=True, slots=True)
class Style:
    """How text is set."""

    size: int
    bold: bool = True

    @property
    def file(self) -> Path:
        return fonts.SEMIBOLD if self.bold else fonts.REGULAR

    @property
    def baseline(self) -> float:
        """px below the middle of a line."""
        ascent, descent = fonts.load(self.file, self.size).getmetrics()
        return (ascent - descent) / 2


@dataclass(frozen=True, slots=True)
class _Run:
    text: str
    file: Path | None
    """None: the style's own."""
    emoji: bool
    leftwards: bool


def clusters(text: str) -> tuple[str, ...]:
    """What is read as one character each; without control and direction marks, white space as one space."""
    return _clusters(text)


def width(text: str, style: Style) -> float:
    """px."""
    return sum(_run_width(run, style) for run in _runs(text))


def fit(text: str, style: Style, room: float) -> str:
    """`text` itself if it fits into `room` px, else as much of it as does, with an ellipsis."""
    if width(text, style) <= room:
        return "".join(clusters(text))
    parts = clusters(text)
    low, high = 0, len(parts)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        if width("".join(parts[:middle]).rstrip() + ELLIPSIS, style) <= room:
            low = middle
        else:
            high = middle - 1
    return "".join(parts[:low]).rstrip() + ELLIPSIS


def wrap(text: str, style: Style, room: float, *, lines: int) -> list[str]:
    """At most `lines` lines, broken between words where possible, the last one shortened to fit."""
    rest = "".join(clusters(text)).strip()
    found: list[str] = []
    while rest and len(found) < lines - 1 and width(rest, style) > room:
        line = _first_line(rest, style, room)
        found.append(line)
        rest = rest[len(line) :].lstrip()
    if rest:
        found.append(fit(rest, style, room))
    return found


def draw(
    image: Image.Image,
    at: tuple[float, float],
    text: str,
    style: Style,
    fill: Rgb,
    *,
    align: Literal["left", "centre", "right"] = "left",
) -> float:
    """Draw a line whose middle is at height `at[1]`; returns its width, px."""
    total = width(text, style)
    left = at[0] - {"left": 0.0, "centre": total / 2, "right": total}[align]
    baseline = at[1] + style.baseline
    pen = ImageDraw.Draw(image)
    for run in _runs(text):
        if run.emoji:
            for cluster in clusters(run.text):
                left = _draw_emoji(image, cluster, left, baseline, style)
            continue
        font = _font(run, style)
        pen.text(
            (left, baseline), run.text, fill=fill, font=font, anchor="ls", direction=_direction(run)
        )
        left += _run_width(run, style)
    return total


@lru_cache(maxsize=128)
def emoji_image(cluster: str, height: int) -> Image.Image | None:
    """RGBA of that height; None where the colour font is missing or does not have it."""
    path = fonts.emoji_file()
    if path is None or not cluster or not fonts.is_emoji(cluster):
        return None
    font = fonts.load(path, fonts.EMOJI_PX)
    box = font.getbbox(cluster)
    size = (max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1])))
    image = Image.new("RGBA", size)
    ImageDraw.Draw(image).text((-box[0], -box[1]), cluster, font=font, embedded_color=True)
    width_px = max(1, round(size[0] * height / size[1]))
    return image.resize((width_px, height), Image.Resampling.LANCZOS)


def _draw_emoji(
    image: Image.Image, cluster: str, left: float, baseline: float, style: Style
) -> float:
    picture = emoji_image(cluster, round(style.size * _EMOJI_SCALE))
    if picture is None:
        return left
    top = round(baseline + style.size * _EMOJI_BELOW) - picture.height
    image.paste(picture, (round(left), top), picture)
    return left + picture.width + 1


@lru_cache(maxsize=2048)
def _clusters(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(character)
        if character.isspace():
            if found and found[-1] != " ":
                found.append(" ")
            continue
        if kind in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") or (
            kind == "Cf" and character not in _KEPT_FORMATS
        ):
            continue
        if found and _extends(character, kind, found[-1]):
            if _marks(found[-1]) < _MAX_MARKS or not kind.startswith("M"):
                found[-1] += character
            continue
        found.append(character)
    return tuple(_drawable(cluster) for cluster in found)


def _drawable(cluster: str) -> str:
    """As a font can draw it: ornamental letters (𝒜, Ⓐ) as plain ones, without marks that the font lacks."""
    if fonts.is_emoji(cluster):
        return cluster
    file = fonts.file_for(cluster)
    known = fonts.coverage(file or fonts.SEMIBOLD)
    if ord(cluster[0]) not in known:
        plain = unicodedata.normalize("NFKC", cluster)
        return plain if plain and ord(plain[0]) in known else cluster[0]
    return cluster[0] + "".join(
        c for c in cluster[1:] if ord(c) in known or unicodedata.category(c) == "Cf"
    )


def _extends(character: str, kind: str, before: str) -> bool:
    if before == " ":
        return False
    if kind.startswith("M") or kind == "Cf" or before[-1] == _JOINER:
        return True
    point = ord(character)
    if 0x1F3FB <= point <= 0x1F3FF:  # tones of skin
        return ord(before[0]) >= 0x2190
    flag = 0x1F1E6 <= point <= 0x1F1FF
    return flag and len(before) == 1 and 0x1F1E6 <= ord(before) <= 0x1F1FF


def _marks(cluster: str) -> int:
    return sum(unicodedata.category(c).startswith("M") for c in cluster)


@lru_cache(maxsize=2048)
def _runs(text: str) -> tuple[_Run, ...]:
    """In visual order, from left to right."""
    parts = clusters(text)
    if not parts:
        return ()
    runs, run_levels = [], []
    looks = _looks(parts)
    for (file, emoji, level), group in groupby(
        zip(looks, parts, strict=True), key=lambda item: item[0]
    ):
        content = "".join(cluster for _, cluster in group)
        if emoji and level % 2:
            content = "".join(reversed(clusters(content)))
        runs.append(_Run(content, file, emoji, bool(level % 2)))
        run_levels.append(level)
    return tuple(visual_order(runs, run_levels))


def _looks(parts: Sequence[str]) -> list[tuple[Path | None, bool, int]]:
    """Font, emoji or not, and level of each cluster; spaces go with what is before them."""
    looks: list[tuple[Path | None, bool, int]] = []
    for cluster, level in zip(parts, levels(parts), strict=True):
        if fonts.is_emoji(cluster):
            looks.append((None, True, level))
        elif cluster == " " and looks and not looks[-1][1] and looks[-1][2] == level:
            looks.append((looks[-1][0], False, level))
        else:
            looks.append((fonts.file_for(cluster), False, level))
    return looks


def _first_line(text: str, style: Style, room: float) -> str:
    """As many whole words as fit, else as much of the first as does: never nothing."""
    parts = clusters(text)
    count = 1
    while count < len(parts) and width("".join(parts[: count + 1]).rstrip(), style) <= room:
        count += 1
    if count < len(parts) and parts[count] != " ":
        spaces = [index for index, part in enumerate(parts[:count]) if part == " "]
        if spaces:
            count = spaces[-1]
    return "".join(parts[:count]).rstrip()


@lru_cache(maxsize=4096)
def _run_width(run: _Run, style: Style) -> float:
    if run.emoji:
        images = (emoji_image(c, round(style.size * _EMOJI_SCALE)) for c in clusters(run.text))
        return float(sum(image.width + 1 for image in images if image is not None))
    return float(_font(run, style).getlength(run.text, direction=_direction(run)))


def _font(run: _Run, style: Style) -> ImageFont.FreeTypeFont:
    return fonts.load(run.file or style.file, style.size)


def _direction(run: _Run) -> Literal["ltr", "rtl"] | None:
    """Without its engine for complex scripts Pillow knows no directions."""
    if not fonts.shapes():
        return None
    return "rtl" if run.leftwards else "ltr"

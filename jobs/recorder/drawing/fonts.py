"""Which font draws which character: the bundled ones, and a colour font for emoji if the system has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from PIL import ImageFont, features

from foundation.logs import get_logger
from jobs.recorder.drawing.coverage import FontFileError, read_coverage

Font = ImageFont.FreeTypeFont
FONTS: Final = Path(__file__).parent.parent / "fonts"
REGULAR: Final = FONTS / "OpenSans-Regular.ttf"
SEMIBOLD: Final = FONTS / "OpenSans-Semibold.ttf"
_OTHER_SCRIPTS: Final = (
    *(
        FONTS / f"NotoSans{script}-Bold.ttf"
        for script in (
            *("ArabicUI", "Hebrew", "DevanagariUI", "BengaliUI", "TamilUI", "TeluguUI", "ThaiUI"),
            *("KannadaUI", "MalayalamUI", "GujaratiUI", "GurmukhiUI", "OriyaUI", "SinhalaUI"),
            *("LaoUI", "KhmerUI", "MyanmarUI", "Georgian", "Armenian", "Ethiopic"),
        )
    ),
    FONTS / "DroidSansFallback.ttf",  # Chinese, Japanese, Korean
)
_EMOJI_PLACES: Final = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf"),
)
EMOJI_PX: Final = 109
"""The only size of Noto Color Emoji's bitmaps."""
_log = get_logger(component="fonts")


@dataclass(frozen=True, slots=True)
class MissingPart:
    """Something that the system lacks for the full picture."""

    package: str
    """Its name in Debian."""
    effect: str


def missing_parts() -> Iterator[MissingPart]:
    """What to install, and what the picture lacks without it."""
    if not shapes():
        # Pillow brings everything but this one library.
        yield MissingPart("libfribidi0", "names in Arabic and Indic scripts are not shaped")
    if emoji_file() is None:
        yield MissingPart("fonts-noto-color-emoji", "emoji are shown by their names")


def warn_of_missing_parts() -> None:
    """Once at the start of a recording."""
    for part in missing_parts():
        _log.warning("picture.incomplete", package=part.package, effect=part.effect)


@cache
def shapes() -> bool:
    """Can Pillow shape complex scripts here?"""
    return bool(features.check("raqm"))


@cache
def emoji_file() -> Path | None:
    """The colour font, or None."""
    return next((path for path in _EMOJI_PLACES if path.is_file()), None)


@lru_cache(maxsize=128)
def load(path: Path, size_px: int) -> Font:
    """A font at a size."""
    return ImageFont.truetype(path, size_px)


@cache
def coverage(path: Path) -> frozenset[int]:
    """Its code points; none for a file that cannot be read."""
    try:
        return read_coverage(path)
    except (FontFileError, OSError) as error:
        _log.warning("font.unusable", file=path.name, reason=type(error).__name__)
        return frozenset()


@lru_cache(maxsize=4096)
def file_for(cluster: str) -> Path | None:
    """The font for what is read as one character, None for the text's own; see `is_emoji` first."""
    point = ord(cluster[0])
    if point in coverage(SEMIBOLD):
        return None
    return next((path for path in _OTHER_SCRIPTS if point in coverage(path)), None)


@lru_cache(maxsize=4096)
def is_emoji(cluster: str) -> bool:
    """Is it to be drawn by the colour font?"""
    path = emoji_file()
    if path is None or ord(cluster[0]) not in coverage(path):
        return False
    if "\N{VARIATION SELECTOR-16}" in cluster or "\N{COMBINING ENCLOSING KEYCAP}" in cluster:
        return True
    if ord(cluster[0]) >= 0x1F000:
        return True
    return ord(cluster[0]) not in coverage(SEMIBOLD) and file_for(cluster) is None

"""Every state of the picture that is worth looking at; the golden images and the contact sheet show these.

python -m testbed.recording_pictures            write the golden images and the contact sheet anew
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from jobs.recorder import speaker_layout
from jobs.recorder.compositor import Compositor, View
from jobs.recorder.drawing import text
from jobs.recorder.happenings import Emoji, Notice, Reaction
from jobs.recorder.picture_line import PictureSource
from jobs.recorder.scene import Person, Scene, Tile, sort_tiles
from jobs.recorder.screen import ScreenPicture
from jobs.recorder.still import StillPicture

_ROOT: Final = Path(__file__).parents[1]
GOLDEN: Final = _ROOT / "tests" / "jobs" / "recorder" / "golden"
SHEET: Final = _ROOT / "docs" / "recording-layouts.png"
GOLDEN_WIDTH_PX: Final = 640
MINUTE: Final = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
_NAMES: Final = (
    ("Ada", "Lovelace"),
    ("Grace", "Hopper"),
    ("王", "小明"),
    ("محمد", "عبد الله"),
    ("Zoë", "Nguyễn"),
    ("अमित", "शर्मा"),
    ("Wolfgang Amadeus", "Hohenzollern-Sigmaringen"),
    ("김", "민수"),
    ("דוד", "כהן"),
    ("ธนพล", "ศรีสุข"),
    ("Жанна", "Ларина"),
    ("Σοφία", "Παππά"),
)
_TADA: Final = Emoji("tada", "1f389")
_HEART: Final = Emoji("heart", "2764-fe0f")
_THUMB: Final = Emoji("+1", "1f44d-1f3fd")
_CUSTOM: Final = Emoji("shipit")


@dataclass(frozen=True)
class State:
    """One picture."""

    name: str
    title: str
    view: View
    size: tuple[int, int] = (1280, 720)
    needs_emoji: bool = False
    source: Callable[[int, int], PictureSource] = Compositor
    """Draws it, in this size."""


def person(number: int, *, picture: bool = True) -> Person:
    first, last = _NAMES[number % len(_NAMES)]
    data = _portrait(number) if picture and number % 3 != 1 else b""
    return Person(f"u{number}", f"{first} {last}", data, f"{first} {last[0]}.")


def tiles(count: int) -> tuple[Tile, ...]:
    return tuple(Tile(f"s{n}", person(n), n % 3 == 2, None, n == 0, 0) for n in range(count))


def scene(count: int, **changes: Any) -> Scene:
    return replace(Scene(tiles(count), count), **changes)


def states() -> Iterator[State]:
    """In the order of the sheet."""
    yield State("waiting", "nobody there yet", _view(Scene()))
    for count, label in ((3, "XL"), (8, "L"), (12, "M"), (24, "S")):
        view = _view(scene(count), speaking={"s0", "s1"})
        yield State(f"grid-{label}", f"{count} participants, tiles {label}", view)
    yield State("grid-60", "60 participants: the tiles shrink", _view(scene(60), speaking={"s4"}))
    yield State("grid-200", "200 participants", _view(scene(200), speaking={"s9", "s30"}))
    hands = _with(tiles(5), s1={"hand_raised_at_ms": 1}, s3={"hand_raised_at_ms": 2})
    reacting = tuple(
        Reaction(f"s{n}", emoji, n, person(n).name)
        for n, emoji in enumerate((_TADA, _CUSTOM, _HEART, _THUMB))
    )
    lively = Scene(
        sort_tiles(_with(hands, s0={"reaction": _TADA}, s4={"reaction": _HEART}), ""),
        5,
        reactions=reacting,
        notices=(Notice("s1", "is now the host", 0, person(1).name),),
    )
    yield State(
        "reactions", "reactions, raised hands, a notice", _view(lively, {"s0"}), needs_emoji=True
    )
    many = tuple(Reaction(f"s{n}", _TADA, n, person(n).name) for n in range(30))
    yield State(
        "reactions-many",
        "the column fades towards its top",
        _view(scene(4, reactions=many)),
        needs_emoji=True,
    )
    cameras = tuple((f"s{n}", _camera(n)) for n in (0, 2, 3))
    yield State(
        "cameras",
        "cameras of three out of five",
        replace(_view(replace(scene(5), tiles=hands), {"s0", "s1"}), cameras=cameras),
    )
    yield State(
        "cameras-many",
        "cameras in small tiles",
        replace(
            _view(scene(20), {"s0", "s1"}), cameras=tuple((f"s{n}", _camera(n)) for n in range(9))
        ),
    )
    sharing = replace(scene(5), screen_session_id="s0")
    yield State(
        "screen", "a shared screen", replace(_view(sharing, {"s1"}), screen=_slide(1280, 720))
    )
    upright = replace(
        _view(replace(sharing, screen_session_id="s3"), {"s3"}), screen=_slide(720, 1280)
    )
    yield State("screen-upright", "an upright screen, not cropped", upright)
    busy = replace(lively, screen_session_id="s2", tiles=sort_tiles(lively.tiles, "s2"))
    yield State(
        "screen-reactions",
        "a shared screen with reactions",
        replace(_view(busy, {"s2"}), screen=_slide(1920, 1080)),
        needs_emoji=True,
    )
    yield State(
        "speaker",
        "layout speaker: who speaks is large, of 9 others as many as fit",
        _view(scene(10), {"s0"}),
        source=_speaker,
    )
    cameras = tuple((f"s{n}", _camera(n)) for n in (0, 2))
    yield State(
        "speaker-camera",
        "the same with cameras",
        replace(_view(scene(4), {"s0"}), cameras=cameras),
        source=_speaker,
    )
    yield State("audio-only", "sound alone", _view(scene(3)), source=StillPicture)
    yield State("lost", "the connection is lost", replace(_view(scene(3)), lost_s=7))
    yield State("grid-1080p", "1920×1080", _view(scene(9), {"s0", "s7"}), size=(1920, 1080))
    yield State(
        "grid-2160p",
        "3840×2160 shows what 1920×1080 shows",
        _view(scene(9), {"s0", "s7"}),
        size=(3840, 2160),
    )
    yield State("grid-tall", "1280×2160", _view(scene(16), {"s0"}), size=(1280, 2160))


def rgb(state: State) -> Image.Image:
    """As a player shows it."""
    planes = state.source(*state.size).compose(state.view)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p")
    return Image.fromarray(frame.to_ndarray(format="rgb24"))


def golden_size(picture: Image.Image) -> Image.Image:
    """Small enough to keep, large enough to see what is wrong."""
    height = round(picture.height * GOLDEN_WIDTH_PX / picture.width)
    return picture.resize((GOLDEN_WIDTH_PX, height), Image.Resampling.BOX)


def _speaker(width: int, height: int) -> Compositor:
    return Compositor(width, height, speaker_layout.arrange)


def _view(shown: Scene, speaking: Iterable[str] = ()) -> View:
    return View(shown, frozenset(speaking), MINUTE)


def _with(some: tuple[Tile, ...], **changes: dict[str, Any]) -> tuple[Tile, ...]:
    return tuple(replace(tile, **changes.get(tile.session_id, {})) for tile in some)


def _portrait(number: int) -> bytes:
    """A face of a kind."""
    hue = number * 67 % 360
    image = Image.new("RGB", (128, 128), f"hsl({hue}, 35%, 72%)")
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 84, 108, 190), fill=f"hsl({(hue + 140) % 360}, 40%, 38%)")
    draw.ellipse((38, 26, 90, 92), fill=f"hsl(24, 45%, {80 - number * 13 % 40}%)")
    draw.pieslice((34, 18, 94, 78), 180, 360, fill=f"hsl(20, 40%, {12 + number * 17 % 50}%)")
    return image.tobytes()


def _camera(number: int) -> ScreenPicture:
    """A person in a room, 640×360."""
    hue = number * 53 % 360
    image = Image.new("RGB", (640, 360), f"hsl({hue}, 18%, 58%)")
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 40, 190, 180), fill=f"hsl({hue}, 30%, 82%)")
    draw.rectangle((470, 60, 600, 360), fill=f"hsl({hue}, 25%, 40%)")
    image = image.filter(ImageFilter.GaussianBlur(6))
    draw = ImageDraw.Draw(image)
    draw.ellipse((190, 240, 450, 600), fill=f"hsl({(hue + 200) % 360}, 35%, 35%)")
    draw.ellipse((250, 80, 390, 260), fill=f"hsl(24, 42%, {78 - number * 11 % 35}%)")
    draw.pieslice((244, 66, 396, 230), 180, 360, fill="hsl(22, 35%, 20%)")
    return ScreenPicture(0, _yuv(image))


def _yuv(image: Image.Image) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24").reformat(format="yuv420p")


def _slide(width: int, height: int) -> ScreenPicture:
    """A slide with lines at its very edges."""
    image = Image.new("RGB", (width, height), (250, 250, 248))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(210, 40, 40), width=6)
    draw.rectangle((width // 10, height // 8, width // 2, height // 8 + 40), fill=(40, 60, 120))
    for row in range(6):
        top = height // 3 + row * height // 11
        right = width * (9 - row % 3) // 10
        draw.rectangle((width // 10, top, right, top + height // 40), fill=(180, 184, 190))
    return ScreenPicture(0, _yuv(image))


def contact_sheet(pictures: list[tuple[State, Image.Image]]) -> Image.Image:
    """Three in a row, each with its title."""
    width, height, title, gap, across = 560, 315, 28, 14, 3
    rows = -(-len(pictures) // across)
    sheet = Image.new(
        "RGB",
        (across * (width + gap) + gap, rows * (height + title + gap) + gap),
        (244, 244, 246),
    )
    for number, (state, picture) in enumerate(pictures):
        left = gap + number % across * (width + gap)
        top = gap + number // across * (height + title + gap)
        text.draw(sheet, (left, top + title / 2), state.title, text.Style(15), (40, 40, 40))
        small = picture.copy()
        small.thumbnail((width, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + (width - small.width) // 2, top + title))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="testbed.recording_pictures", description=draw.__doc__)
    parser.add_argument("directory", type=Path, nargs="?", default=GOLDEN, help="%(default)s")
    parser.add_argument("sheet", type=Path, nargs="?", default=SHEET, help="%(default)s")
    arguments = parser.parse_args()
    draw(arguments.directory, arguments.sheet)


def draw(directory: Path, sheet: Path) -> None:
    """Write the golden images and the contact sheet."""
    directory.mkdir(exist_ok=True)
    pictures = [(state, rgb(state)) for state in states()]
    for state, picture in pictures:
        small = golden_size(picture)
        small.save(directory / f"{state.name}.png", optimize=True)
    contact_sheet(pictures).quantize(256, dither=Image.Dither.NONE).save(sheet, optimize=True)


if __name__ == "__main__":
    main()

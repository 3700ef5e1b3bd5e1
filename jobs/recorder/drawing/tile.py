"""One participant's tile (calls-plugin.md 7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops

from jobs.recorder.drawing import text
from jobs.recorder.drawing.avatar import avatar
from jobs.recorder.drawing.colours import (
    BLACK,
    CONTAINER,
    HAND,
    HOST,
    MUTED,
    RING,
    UNMUTED,
    WHITE,
)
from jobs.recorder.drawing.shapes import Rgb, disc, fill, hand, microphone, rounded
from jobs.recorder.drawing.text import Style
from jobs.recorder.happenings import Emoji
from jobs.recorder.layout import Box, TileSize, even
from jobs.recorder.scene import Person, Tile

_HOST_PADDING_PX: Final = 4


@dataclass(frozen=True, slots=True)
class TileLook:
    """Everything that a tile's picture depends on, but for the moving picture of its camera."""

    person: Person
    size: TileSize
    muted: bool
    speaking: bool
    host: bool
    hand_raised: bool
    emoji: Emoji | None
    camera: bool

    @classmethod
    def of(cls, tile: Tile, size: TileSize, *, speaking: bool, camera: bool) -> TileLook:
        raised = tile.hand_raised_at_ms > 0
        emoji = None if raised else tile.reaction
        return cls(tile.person, size, tile.muted, speaking, tile.host, raised, emoji, camera)


def draw_tile(look: TileLook) -> Image.Image:
    """RGB image of the tile's size; where a camera's picture goes it is black."""
    size = look.size
    image = Image.new("RGB", (size.width, size.height), CONTAINER)
    if look.camera:
        _draw_camera_frame(image, look)
    else:
        _draw_avatar(image, look)
    microphone_at, other_at = _badges(look)
    colour = MUTED if look.muted else UNMUTED
    _draw_badge(image, look, microphone_at, colour)
    icon = microphone(size.icon, muted=look.muted)
    fill(image, icon, *_inside(microphone_at, size), WHITE)
    if look.hand_raised:
        _draw_badge(image, look, other_at, WHITE)
        fill(image, hand(size.icon), *_inside(other_at, size), HAND)
    elif look.emoji is not None:
        _draw_emoji(image, look, look.emoji, other_at)
    _draw_name(image, look)
    return image


def camera_box(size: TileSize) -> Box:
    """Where in the tile the camera's picture is; the ring fits around it."""
    ring = even(size.ring + 0.5)
    return Box(ring, ring, size.width - 2 * ring, size.camera_height - 2 * ring)


def camera_mask(look: TileLook) -> Image.Image:
    """How much of the camera's picture shows in its box, 0…255: round corners, not under the badges."""
    size = look.size
    box = camera_box(size)
    mask = rounded(box.width, box.height, size.camera_radius).copy()
    badges = Image.new("L", (size.width, size.height))
    microphone_at, other_at = _badges(look)
    badges.paste(255, (*microphone_at, *_far(microphone_at, size)), disc(size.badge))
    if look.hand_raised or look.emoji is not None:
        badges.paste(255, (*other_at, *_far(other_at, size)), disc(size.badge))
    part = badges.crop((box.left, box.top, box.right, box.bottom))
    return ImageChops.subtract(mask, part)


def _draw_avatar(image: Image.Image, look: TileLook) -> None:
    size, ring = look.size, look.size.ring
    left = (size.width - size.avatar) // 2
    if look.speaking:
        fill(image, disc(size.avatar + 2 * ring), left - ring, size.padding - ring, RING)
    face = avatar(look.person, size.avatar, RING if look.speaking else CONTAINER)
    image.paste(face, (left, size.padding), disc(size.avatar))


def _draw_camera_frame(image: Image.Image, look: TileLook) -> None:
    box, radius = camera_box(look.size), look.size.camera_radius
    if look.speaking:
        ring = box.left
        fill(image, rounded(box.width + 2 * ring, box.height + 2 * ring, radius + ring), 0, 0, RING)
    fill(image, rounded(box.width, box.height, radius), box.left, box.top, BLACK)


def _badges(look: TileLook) -> tuple[tuple[int, int], tuple[int, int]]:
    """Left upper corners: the microphone's at the right, the other one's at the left."""
    size = look.size
    if look.camera:
        box = camera_box(size)
        edge = size.ring
        top = box.bottom - size.badge - edge
        return (box.right - size.badge - edge, top), (box.left + edge, top)
    left, top = (size.width - size.avatar) // 2, size.padding + size.avatar - size.badge
    return (left + size.avatar - size.badge, top), (left, top)


def _far(at: tuple[int, int], size: TileSize) -> tuple[int, int]:
    return at[0] + size.badge, at[1] + size.badge


def _inside(at: tuple[int, int], size: TileSize) -> tuple[int, int]:
    return at[0] + size.icon_padding, at[1] + size.icon_padding


def _draw_badge(image: Image.Image, look: TileLook, at: tuple[int, int], colour: Rgb) -> None:
    diameter = look.size.badge
    if look.camera:
        # Up to the corners: the mask makes it round, and what is under its edge must not be black.
        image.paste(colour, (*at, *_far(at, look.size)))
    else:
        fill(image, disc(diameter), *at, colour)


def _draw_emoji(image: Image.Image, look: TileLook, emoji: Emoji, at: tuple[int, int]) -> None:
    size = look.size
    picture = text.emoji_image(emoji.text, size.icon)
    if picture is None:
        return  # its name, in the column of reactions, has to do
    _draw_badge(image, look, at, WHITE)
    left = at[0] + (size.badge - picture.width) // 2
    image.paste(picture, (left, at[1] + size.icon_padding), picture)


def _draw_name(image: Image.Image, look: TileLook) -> None:
    size, style = look.size, Style(look.size.name)
    room = size.width - 2 * (size.width // 24)
    top = size.padding + size.avatar + size.gap
    for line in text.wrap(look.person.name, style, room, lines=size.name_lines):
        text.draw(
            image, (size.width / 2, top + size.name_line / 2), line, style, WHITE, align="centre"
        )
        top += size.name_line
    if look.host:
        _draw_host(image, size, top if size.host_below else 0)


def _draw_host(image: Image.Image, size: TileSize, top: int) -> None:
    style = Style(size.host)
    padding = round(_HOST_PADDING_PX * size.host / 10)
    width = round(text.width("HOST", style)) + 2 * padding
    left = (size.width - width) // 2
    fill(image, rounded(width, size.host_line, padding), left, top, HOST)
    middle = (size.width / 2, top + size.host_line / 2)
    text.draw(image, middle, "HOST", style, WHITE, align="centre")

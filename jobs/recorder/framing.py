"""What of a call's scene the recording shows, by the wished layout (docs/recording.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from jobs.recorder.scene import Scene, Tile
from jobs.recorder.settings import RecorderSettings

if TYPE_CHECKING:
    from jobs.recorder.mishaps import Mishaps
    from jobs.recorder.picture_line import PictureSource

AUDIO_ONLY: Final = "audio only"
"""Not a layout to be wished: nothing of the scene is shown."""
_SILENCE_NS: Final = 1_000_000_000
"""So long the one in front has to be silent before another one who speaks takes the place."""
_NOTHING: Final = Scene()


class Framing:
    """For one recording; times are those of the pictures. Owned by one thread."""

    def __init__(self, layout: str = "auto") -> None:
        """`layout`: one of jobs.recorder.options.LAYOUTS, or AUDIO_ONLY."""
        self._layout = layout
        self.takes_screens = layout not in ("grid", AUDIO_ONLY)
        """Are shared screens shown, so that they have to be decoded?"""
        self.takes_cameras = layout not in ("screen", AUDIO_ONLY)
        self._front = ""
        self._heard_ns = 0
        """When the one in front was last heard."""

    @classmethod
    def of(cls, settings: RecorderSettings) -> Framing:
        """The wished one."""
        return cls(AUDIO_ONLY if settings.audio_only else settings.layout)

    def scene(self, scene: Scene) -> Scene:
        """What is left of the scene; the same for the same."""
        match self._layout:
            case "grid":
                return replace(scene, screen_session_id="") if scene.screen_session_id else scene
            case "screen":
                return _undisturbed(scene)
            case "audio only":
                return _NOTHING
            case _:
                return scene

    def ordered(self, scene: Scene, speaking: frozenset[str], at_ns: int) -> Scene:
        """With the one who speaks in front, where the layout has a front. `at_ns` never goes back."""
        if self._layout != "speaker" or not scene.tiles:
            return scene
        self._choose(scene.tiles, speaking, at_ns)
        front = [tile for tile in scene.tiles if tile.session_id == self._front]
        others = [tile for tile in scene.tiles if tile.session_id != self._front]
        tiles = (*front, *others)
        return scene if tiles == scene.tiles else replace(scene, tiles=tiles)

    def _choose(self, tiles: tuple[Tile, ...], speaking: frozenset[str], at_ns: int) -> None:
        there = [tile.session_id for tile in tiles]
        heard = [session_id for session_id in there if session_id in speaking]
        if self._front in heard:
            self._heard_ns = at_ns
        elif self._front not in there:
            self._front, self._heard_ns = (heard or there)[0], at_ns
        elif heard and at_ns - self._heard_ns >= _SILENCE_NS:
            self._front, self._heard_ns = heard[0], at_ns


def _undisturbed(scene: Scene) -> Scene:
    """Nothing lies over a shared screen; there are no cameras."""
    shared = bool(scene.screen_session_id)
    tiles = tuple(
        replace(tile, camera=False, hand_raised_at_ms=0 if shared else tile.hand_raised_at_ms)
        if tile.camera or shared
        else tile
        for tile in scene.tiles
    )
    if shared:
        return replace(scene, tiles=tiles, reactions=(), notices=())
    return replace(scene, tiles=tiles)


def picture_source(settings: RecorderSettings, mishaps: Mishaps | None = None) -> PictureSource:
    """What draws the frames. Blocks: fonts are loaded."""
    width, height = settings.width_px, settings.height_px
    if settings.audio_only:
        from jobs.recorder.still import StillPicture

        return StillPicture(width, height)
    from jobs.recorder import layout, speaker_layout
    from jobs.recorder.compositor import Compositor

    arrange = speaker_layout.arrange if settings.layout == "speaker" else layout.grid
    return Compositor(width, height, arrange, mishaps=mishaps)

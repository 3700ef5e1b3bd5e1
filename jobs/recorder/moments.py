"""What a recording's chapters and its poster are made of: when whose screen was shared, who became the host,
how many were there. Kept in the job's directory as it happens, so that `salvage` knows it too.

One JSON object per line: `at_s` since the start of the recording, `kind`, and with it `name` or `count`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from jobs.recorder.scene import Scene, Tile

MOMENTS_NAME: Final = "moments.jsonl"
_MOST: Final = 2_000
"""So many of a recording; a call that has more has no use for chapters."""
_NAME_CHARACTERS: Final = 128
_log = get_logger(component="moments")


class Kind(StrEnum):
    """What happened."""

    SCREEN = "screen"
    """Somebody shares, `name`."""
    SCREEN_OVER = "screen_over"
    HOST = "host"
    """Somebody else became the host, `name`."""
    PEOPLE = "people"
    """More are shown than ever before, `count`."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One of them."""

    at_s: float
    kind: Kind
    name: str = ""
    """As in the picture; empty: not known."""
    count: int = 0


class MomentLog:
    """Blocking; owned by one thread. Never raises: a recording is worth more than its chapters."""

    def __init__(self, path: Path, *, zero_ns: int, names: bool = True) -> None:
        """`zero_ns`: the start of the recording on the scenes' clock; without `names` nobody is named."""
        self._names = names
        self._path, self._zero_ns = path, zero_ns
        self._last_s = 0.0
        self._screen = ""
        self._host = ""
        self._most = 0
        self._left = _MOST

    def note(self, scene: Scene, at_ns: int) -> None:
        """The scene is so from `at_ns` on; what was so before the start counts as from the start."""
        self._last_s = at_s = max(self._last_s, (at_ns - self._zero_ns) / 1e9)
        if scene.screen_session_id != self._screen:
            self._screen = scene.screen_session_id
            sharer = next((t for t in scene.tiles if t.session_id == self._screen), None)
            if self._screen:
                self._write(Moment(at_s, Kind.SCREEN, self._name(sharer)))
            else:
                self._write(Moment(at_s, Kind.SCREEN_OVER))
        host = next((tile for tile in scene.tiles if tile.host), None)
        if host is not None and host.person.user_id != self._host:
            if self._host:
                self._write(Moment(at_s, Kind.HOST, self._name(host)))
            self._host = host.person.user_id
        if len(scene.tiles) > self._most:
            self._most = len(scene.tiles)
            self._write(Moment(at_s, Kind.PEOPLE, count=self._most))

    def _write(self, moment: Moment) -> None:
        if not self._left:
            return
        self._left -= 1
        document = {"at_s": round(moment.at_s, 3), "kind": moment.kind.value}
        if moment.name:
            document["name"] = moment.name
        if moment.count:
            document["count"] = moment.count
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(document) + "\n")
        except OSError as error:
            self._left = 0
            _log.warning("moments.not_kept", reason=error.strerror or type(error).__name__)

    def _name(self, tile: Tile | None) -> str:
        return tile.person.name[:_NAME_CHARACTERS] if tile is not None and self._names else ""


def read_moments(directory: Path) -> list[Moment]:
    """Those of the job in `directory`, in order; damaged lines are left out. Blocks; never raises."""
    try:
        lines = (
            (directory / MOMENTS_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
        )
    except OSError:
        return []
    moments = []
    for line in lines[:_MOST]:
        try:
            found = json.loads(line)
            moment = Moment(
                float(found["at_s"]),
                Kind(found["kind"]),
                str(found.get("name", "")),
                int(found.get("count", 0)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        if moment.at_s >= 0:  # neither before the start nor NaN
            moments.append(moment)
    return sorted(moments, key=lambda moment: moment.at_s)

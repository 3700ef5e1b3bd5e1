"""What is to be seen at one moment, as immutable data: made on the event loop, drawn in the media thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from callclient.state import CallState
from jobs.recorder.happenings import Emoji, Notice, Reaction

_SECOND_NS: Final = 1_000_000_000
_LOST_FROM_S: Final = 2
"""A connection that is back at once needs no mark."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user as the picture shows them."""

    user_id: str
    name: str
    picture: bytes = b""
    """A square in RGB, row after row (`decoding.decoder.Decoder.face`); empty when there is none."""
    short_name: str = ""
    """For where there is little room; empty: the name."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One session in the grid."""

    session_id: str
    person: Person
    muted: bool
    speaking: bool | None
    """None: the server never told; our own ear decides (trap 30)."""
    host: bool
    hand_raised_at_ms: int
    """0: not raised."""
    reaction: Emoji | None = None
    """The newest that is still to be seen."""
    reacted_at_ns: int = 0
    camera: bool = False
    """Is their camera on?"""


@dataclass(frozen=True, slots=True)
class Scene:
    """The whole picture but for moving pictures and the time of day."""

    tiles: tuple[Tile, ...] = ()
    """In the contract's order; sessions whose profile is not there yet are left out."""
    participants: int = 0
    """All sessions, also those without a tile yet."""
    screen_session_id: str = ""
    """Who shares, or empty."""
    reactions: tuple[Reaction, ...] = ()
    """The newest last; they pass, see `at`."""
    notices: tuple[Notice, ...] = ()
    """The newest last; they pass, see `at`."""
    lost_since_ns: int | None = None
    """The connection to the call was lost then and is not back."""

    def at(self, now_ns: int) -> Scene:
        """Without what has passed by then."""
        reactions = tuple(r for r in self.reactions if r.shown_at(now_ns))
        notices = tuple(n for n in self.notices if n.shown_at(now_ns))
        if (reactions, notices) == (self.reactions, self.notices) and not reactions:
            return self
        newest = {r.session_id: r for r in reactions}
        tiles = sort_tiles(
            (_reacting(tile, newest.get(tile.session_id)) for tile in self.tiles),
            self.screen_session_id,
        )
        return replace(self, tiles=tiles, reactions=reactions, notices=notices)

    def lost_s(self, now_ns: int) -> int | None:
        """How long there has been no connection, None while there is one or it may be back at once."""
        if self.lost_since_ns is None:
            return None
        lost_s = (now_ns - self.lost_since_ns) // _SECOND_NS
        return lost_s if lost_s >= _LOST_FROM_S else None

    def next_change_ns(self, after_ns: int) -> int | None:
        """When something passes, or the lost seconds count on; None if nothing will."""
        times = [r.until_ns for r in self.reactions] + [n.until_ns for n in self.notices]
        if self.lost_since_ns is not None:
            seconds = max(0, after_ns - self.lost_since_ns) // _SECOND_NS + 1
            times.append(self.lost_since_ns + seconds * _SECOND_NS)
        return min((time_ns for time_ns in times if time_ns > after_ns), default=None)


def build_scene(
    state: CallState,
    *,
    person_of: Callable[[str], Person | None],
    heard_by_server: Callable[[str], bool],
    reactions: Sequence[Reaction] = (),
    notices: Sequence[Notice] = (),
    lost_since_ns: int | None = None,
) -> Scene:
    """The scene of `state`.

    `person_of(session_id)` is None while a profile is being looked up; `heard_by_server(session_id)`
    tells whether the server ever reported that session's voice activity.
    """
    tiles = []
    for participant in state.participants.values():
        person = person_of(participant.session_id)
        if person is None:
            continue
        heard = heard_by_server(participant.session_id)
        tiles.append(
            Tile(
                participant.session_id,
                person,
                participant.muted,
                participant.speaking if heard else None,
                host=bool(state.host_user_id) and participant.user_id == state.host_user_id,
                hand_raised_at_ms=participant.raised_hand_at_ms,
                camera=participant.camera_on,
            )
        )
    named = {r.session_id for r in reactions} | {n.session_id for n in notices}
    people = {session_id: person_of(session_id) for session_id in named}
    names = {session_id: person.name for session_id, person in people.items() if person is not None}
    return Scene(
        sort_tiles(tiles, state.screen_session_id),
        len(state.participants),
        state.screen_session_id,
        tuple(replace(r, name=names[r.session_id]) for r in reactions if r.session_id in names),
        tuple(replace(n, name=names[n.session_id]) for n in notices if n.session_id in names),
        lost_since_ns,
    )


def sort_tiles(tiles: Iterable[Tile], screen_session_id: str) -> tuple[Tile, ...]:
    """Presenter, raised hands by time, unmuted before muted, reacting by time, then by name (7.5)."""

    def key(tile: Tile) -> tuple[bool, bool, int, bool, bool, int, str, str]:
        return (
            tile.session_id != screen_session_id,
            tile.hand_raised_at_ms == 0,
            tile.hand_raised_at_ms,
            tile.muted,
            tile.reaction is None,
            tile.reacted_at_ns,
            tile.person.name.casefold(),
            tile.session_id,
        )

    return tuple(sorted(tiles, key=key))


def display_name(first_name: str, last_name: str, username: str) -> str:
    """Both names, or the username (calls-plugin.md 7.5; the transcriber's rule is another, trap 51)."""
    return f"{first_name} {last_name}" if first_name and last_name else username


def short_name(first_name: str, last_name: str, username: str) -> str:
    """`First L.`, or the username."""
    return f"{first_name} {last_name[0]}." if first_name and last_name else username


def _reacting(tile: Tile, reaction: Reaction | None) -> Tile:
    if reaction is None:
        return tile if tile.reaction is None else replace(tile, reaction=None, reacted_at_ns=0)
    return replace(tile, reaction=reaction.emoji, reacted_at_ns=reaction.at_ns)

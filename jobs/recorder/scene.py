"""What is to be seen at one moment, as immutable data: made on the event loop, drawn in the media thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from callclient.state import CallState, Participant


@dataclass(frozen=True, slots=True)
class Person:
    """A user as the picture shows them."""

    user_id: str
    name: str
    picture: bytes = b""
    """As the server sent it, whatever format; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One session in the grid."""

    session_id: str
    person: Person
    muted: bool
    speaking: bool | None
    """None: the server never told; our own ear decides (trap 30)."""
    host: bool
    hand_raised: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """The whole picture but for the shared screen's own frames and the time of day."""

    tiles: tuple[Tile, ...] = ()
    """In the contract's order; sessions whose profile is not there yet are left out."""
    participants: int = 0
    """All sessions, also those without a tile yet."""
    screen_session_id: str = ""
    """Who shares, or empty."""


def build_scene(
    state: CallState,
    *,
    person_of: Callable[[str], Person | None],
    heard_by_server: Callable[[str], bool],
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
                hand_raised=participant.raised_hand_at_ms > 0,
            )
        )
    tiles.sort(
        key=lambda tile: _order(state.participants[tile.session_id], state.screen_session_id, tile)
    )
    return Scene(tuple(tiles), len(state.participants), state.screen_session_id)


def display_name(first_name: str, last_name: str, username: str) -> str:
    """Both names, or the username (calls-plugin.md 7.5; the transcriber's rule is another, trap 51)."""
    return f"{first_name} {last_name}" if first_name and last_name else username


def _order(
    participant: Participant, screen_session_id: str, tile: Tile
) -> tuple[bool, bool, int, bool, str]:
    """Presenter first, raised hands by time, unmuted before muted, then by name (7.5)."""
    return (
        participant.session_id != screen_session_id,
        participant.raised_hand_at_ms == 0,
        participant.raised_hand_at_ms,
        participant.muted,
        tile.person.name,
    )

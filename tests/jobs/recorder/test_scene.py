"""Order, names and marks of the tiles are the contract's (calls-plugin.md 7.2, 7.5)."""

from __future__ import annotations

from collections.abc import Set

from callclient.state import CallState
from jobs.recorder.scene import Person, Scene, build_scene, display_name


def state_of(**users: str) -> CallState:
    state = CallState()
    for session_id, user_id in users.items():
        state.join(session_id, user_id)
    return state


def scene_of(
    state: CallState, *, heard: Set[str] = frozenset(), known: Set[str] | None = None
) -> Scene:
    def person(session_id: str) -> Person | None:
        user_id = state.participants[session_id].user_id
        return None if known is not None and session_id not in known else Person(user_id, user_id)

    return build_scene(state, person_of=person, heard_by_server=heard.__contains__)


def order(scene: Scene) -> list[str]:
    return [tile.session_id for tile in scene.tiles]


def test_sorted_by_name_then_presenter_hands_by_time_and_unmuted_before_muted() -> None:
    state = state_of(s1="zoe", s2="adam", s3="bea", s4="carl", s5="dora")
    assert order(scene_of(state)) == ["s2", "s3", "s4", "s5", "s1"]
    state.update("s5", muted=False)
    assert order(scene_of(state))[0] == "s5"
    state.update("s4", raised_hand_at_ms=20)
    state.update("s1", raised_hand_at_ms=10)
    assert order(scene_of(state))[:3] == ["s1", "s4", "s5"]
    state.screen_session_id = "s3"
    assert order(scene_of(state)) == ["s3", "s1", "s4", "s5", "s2"]


def test_the_host_is_a_user_so_both_sessions_carry_the_badge() -> None:
    state = state_of(s1="ann", s2="ben", s3="ann")
    state.host_user_id = "ann"
    assert {tile.session_id for tile in scene_of(state).tiles if tile.host} == {"s1", "s3"}


def test_nobody_is_host_while_the_host_is_unknown() -> None:
    state = state_of(s1="")
    assert not scene_of(state).tiles[0].host


def test_a_session_without_profile_has_no_tile_but_counts() -> None:
    scene = scene_of(state_of(s1="ann", s2="ben"), known={"s1"})
    assert order(scene) == ["s1"]
    assert scene.participants == 2


def test_speaking_is_unknown_until_the_server_told_of_that_session() -> None:
    state = state_of(s1="ann", s2="ben")
    state.update("s1", speaking=True)
    tiles = {tile.session_id: tile.speaking for tile in scene_of(state, heard={"s1"}).tiles}
    assert tiles == {"s1": True, "s2": None}


def test_equal_states_make_equal_scenes() -> None:
    assert scene_of(state_of(s1="ann")) == scene_of(state_of(s1="ann"))


def test_names_are_both_names_or_the_username() -> None:
    assert display_name("Ann", "Ash", "ann") == "Ann Ash"
    assert display_name("Ann", "", "ann") == "ann"
    assert display_name("", "Ash", "ann") == "ann"

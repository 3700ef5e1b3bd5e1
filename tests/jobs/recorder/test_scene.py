"""Order, names and marks of the tiles are the contract's (calls-plugin.md 7.2, 7.5)."""

from __future__ import annotations

from collections.abc import Set

import pytest

from callclient.state import CallState
from jobs.recorder.happenings import Emoji, Notice, Reaction
from jobs.recorder.scene import Person, Scene, build_scene, display_name, short_name


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


def test_who_reacts_comes_before_who_does_not_among_the_muted_and_the_unmuted() -> None:
    state = state_of(s1="ann", s2="ben", s3="cid", s4="dan")
    state.update("s4", muted=False)
    reactions = (Reaction("s3", Emoji("x"), 10), Reaction("s2", Emoji("x"), 20))
    scene = build_scene(
        state,
        person_of=lambda s: Person(s, state.participants[s].user_id),
        heard_by_server=lambda _: False,
        reactions=reactions,
    )
    assert order(scene.at(20)) == ["s4", "s3", "s2", "s1"]
    assert order(scene.at(10 * 1_000_000_000 + 10)) == ["s4", "s2", "s1", "s3"]
    assert order(scene.at(11 * 1_000_000_000)) == ["s4", "s1", "s2", "s3"]


def test_a_name_that_is_not_known_yet_hides_what_its_owner_does() -> None:
    state = state_of(s1="ann")
    scene = build_scene(
        state,
        person_of=lambda _: None,
        heard_by_server=lambda _: False,
        reactions=(Reaction("s1", Emoji("x"), 1),),
        notices=(Notice("s1", "is now the host", 1),),
    )
    assert (scene.reactions, scene.notices) == ((), ())


@pytest.mark.parametrize(
    ("unified", "literal", "text"),
    [
        ("1f389", "", "🎉"),
        ("1f468-200d-1f680", "x", "👨\u200d🚀"),
        ("", "🎉", "🎉"),
        ("zz", "", ""),
        ("110000", "", ""),
        ("1f389-" * 40 + "1f389", "", "🎉" * 16),
    ],
)
def test_emoji_are_told_by_code_points(unified: str, literal: str, text: str) -> None:
    assert Emoji("x", unified, literal).text == text


def test_short_names_hide_the_last_name() -> None:
    assert short_name("Ann", "Ash", "ann") == "Ann A."
    assert short_name("Ann", "", "ann") == "ann"

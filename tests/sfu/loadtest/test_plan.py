"""What is simulated, and which process has whom."""

from __future__ import annotations

from typing import Any

import pytest

from sfu.loadtest.cli import read_cpus
from sfu.loadtest.plan import LoadPlan, PlanError
from sfu.loadtest.presets import PRESETS, apply_preset, find_preset
from sfu.loadtest.stamp import KINDS, kind_of, participant_of


def plan(**changes: Any) -> LoadPlan:
    return LoadPlan(
        url="http://sfu:8045",
        client_id="c",
        auth_key="k" * 32,
        call_prefix="call",
        session_prefix="s",
        **changes,
    )


def test_everybody_lives_in_exactly_one_process() -> None:
    whole = plan(calls=3, users_per_call=5)
    shares = [list(whole.share(process, 4)) for process in range(4)]
    assert sorted(n for share in shares for n in share) == list(range(15))
    assert {len(share) for share in shares} == {3, 4}


def test_the_first_users_of_each_call_publish() -> None:
    whole = plan(calls=2, users_per_call=3, unmuted=2, screen_sharing=1)
    people = [whole.participant(number) for number in range(6)]
    assert [(p.call, p.user) for p in people] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert [p.unmuted for p in people] == [True, True, True, True, False, False]
    assert [p.number for p in people if p.shares_screen] == [0]
    tracks = {(participant_of(t), KINDS[kind_of(t)]) for t in whole.tracks_of_call(0)}
    assert tracks == {(0, "voice"), (2, "voice"), (0, "screen")}
    assert {participant_of(t) for t in whole.tracks_of_call(1)} == {1, 3}


def test_a_second_run_brings_only_its_own_users_and_knows_the_others_tracks() -> None:
    first = plan(calls=2, users_per_call=3, unmuted=2)
    second = plan(calls=2, users_per_call=5, first_user=3, unmuted=2)
    assert second.participants == 4
    assert sorted(n for p in range(3) for n in second.share(p, 3)) == [6, 7, 8, 9]
    assert {second.participant(n).user for n in second.share(0, 1)} == {3, 4}
    assert second.tracks_of_call(1) == first.tracks_of_call(1)
    assert second.packets_in_per_s() == 0


def test_the_rates_follow_from_the_plan() -> None:
    whole = plan(calls=10, users_per_call=50, unmuted=2, screen_sharing=4)
    assert whole.packets_in_per_s() == pytest.approx(10 * 2 * 50 + 4 * 1_600_000 / 8 / 1200)
    assert whole.packets_out_per_s() == pytest.approx(49 * whole.packets_in_per_s())


def test_another_process_gets_the_same_plan() -> None:
    whole = plan(calls=2, loss_percent=3.5)
    assert LoadPlan.from_json(whole.to_json()) == whole


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"calls": 0}, "--calls 0: should be at least 1"),
        ({"users_per_call": 2, "unmuted": 3}, "--unmuted 3: should be between 0 and 2"),
        ({"first_user": 2}, "--first-user 2: should be between 0 and 1"),
        ({"screen_sharing": 2}, "--screen-sharing 2: should be between 0 and 1"),
        ({"loss_percent": 101}, "--loss 101: should be between 0 and 100"),
        ({"join_rate": 0}, "--join-rate 0: should be more than 0"),
        ({"duration_s": -1}, "--duration -1: should be more than 0"),
        ({"audio_bytes": 5}, "--audio-bytes 5: should be between 40 and 1200"),
    ],
)
def test_what_cannot_be_done_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(PlanError) as error:
        plan(**changes)
    assert named in str(error.value)


@pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/6")
def test_a_direction_that_is_none_is_named(documented: Any) -> None:
    with pytest.raises(PlanError) as error:
        plan(loss_direction="left")
    documented("an-option-of-the-load-test-that-cannot-be/6", str(error.value))


def test_a_preset_is_a_row_of_the_table() -> None:
    whole = apply_preset(plan(), find_preset("5x200-screen"), scale=1)
    assert (whole.calls, whole.users_per_call, whole.unmuted, whole.screen_sharing) == (
        5,
        200,
        2,
        5,
    )


def test_a_scaled_row_has_fewer_calls_and_below_one_call_fewer_people() -> None:
    tenth = apply_preset(plan(), find_preset("100x8"), scale=0.1)
    assert (tenth.calls, tenth.users_per_call) == (10, 8)
    small = apply_preset(plan(), find_preset("5x200"), scale=0.1)
    assert (small.calls, small.users_per_call) == (1, 100)
    least = apply_preset(plan(), find_preset("1x1000"), scale=0.0001)
    assert (least.calls, least.users_per_call, least.unmuted) == (1, 2, 2)


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_is_found_by_its_name_and_can_be_run(name: str) -> None:
    assert apply_preset(plan(), find_preset(name), scale=0.05).participants >= 2


def test_an_unknown_row_or_scale_is_refused_with_the_choice() -> None:
    with pytest.raises(PlanError, match=r"'7x7'.*100x8-u2"):
        find_preset("7x7")
    with pytest.raises(PlanError, match="--scale 2: should be above 0 and at most 1"):
        apply_preset(plan(), find_preset("100x8"), scale=2)


def test_cores_are_read_as_taskset_writes_them() -> None:
    assert read_cpus("2,4-6") == (2, 4, 5, 6)
    assert read_cpus("") == ()
    with pytest.raises(PlanError, match="--cpus 'two'"):
        read_cpus("two")

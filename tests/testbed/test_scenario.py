from __future__ import annotations

from itertools import pairwise

import pytest

from testbed.scenario import (
    PLANS,
    SLOT_S,
    Event,
    Join,
    Leave,
    Mute,
    Plan,
    PlanError,
    Say,
    ShareScreen,
    StopScreen,
    Unmute,
    validated,
)


def _times(plan: Plan, kind: type[Event], bot: str | None = None) -> list[float]:
    return [e.at_s for e in plan.events if isinstance(e, kind) and bot in (None, e.bot)]


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.name)
def test_every_plan_has_all_that_the_checks_look_at(plan: Plan) -> None:
    says = _times(plan, Say)
    assert any(later - earlier < 2 for earlier, later in pairwise(says)), "one overlap"
    pauses = [
        unmuted - muted
        for bot in plan.bots
        for muted in _times(plan, Mute, bot)
        for unmuted in _times(plan, Unmute, bot)
        if unmuted > muted
    ]
    assert max(pauses) >= 5
    assert any(at_s > 0 for at_s in _times(plan, Join)), "one comes late"
    assert min(_times(plan, Leave)) < plan.end_s - 4, "one leaves early"
    assert _times(plan, StopScreen)[0] - _times(plan, ShareScreen)[0] >= 7
    assert len(plan.bots) == 3


def test_in_the_full_plan_one_bot_mutes_twice_for_more_than_five_seconds() -> None:
    full = PLANS["full"]
    for muted in _times(full, Mute, "bob"):
        assert min(t for t in _times(full, Unmute, "bob") if t > muted) - muted >= 5


def test_a_long_clip_moves_what_comes_after_it() -> None:
    plan = Plan(
        "p",
        (
            Join(0, "a"),
            Unmute(0, "a"),
            Say(2, "a", 0),
            Mute(5, "a"),
            Unmute(9, "a"),
            Say(11, "a", 1),
        ),
        end_s=15,
    )
    fitted = plan.fitted(lambda say: 6.6 if say.clip == 0 else 2.0)
    assert [event.at_s for event in fitted.events] == pytest.approx([0, 0, 2, 9, 13, 15])
    assert fitted.end_s == pytest.approx(19)
    assert validated(fitted) is fitted


def test_clips_within_their_slot_move_nothing() -> None:
    plan = PLANS["full"]
    assert plan.fitted(lambda _: SLOT_S) == plan


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((Join(0, "a"), Say(1, "a")), "not unmuted"),
        ((Join(0, "a"), Unmute(0, "a"), Say(0.5, "a")), "not unmuted for 1 s"),
        ((Join(0, "a"), Unmute(0, "a"), Say(2, "a"), Say(3, "a")), "still talking"),
        ((Join(0, "a"), Unmute(0, "a"), Say(2, "a"), Mute(3, "a")), "still talking"),
        ((Unmute(0, "a"), Join(0, "a")), "should join once"),
        ((Join(0, "a"), Unmute(0, "b")), "b: never joins"),
        ((Join(3, "a"), Join(1, "b")), "comes after"),
        ((Join(0, "a"), Unmute(11, "a")), "comes after the end"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(events: tuple[Event, ...], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        validated(Plan("p", events, end_s=10))

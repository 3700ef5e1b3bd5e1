"""What must be seen when: required, forbidden, or left open."""

from __future__ import annotations

import pytest

from testbed.analysis.call import Call
from testbed.analysis.synthetic import ZERO_NS, synthetic_user
from testbed.speech.clips import Word
from testbed.truth import Mark, MarkKind, Truth, Utterance


def _call(*marks: tuple[MarkKind, str, float]) -> Call:
    """Bob speaks from 10 to 13 s; alice and bob are there and unmuted from the start."""
    early: list[tuple[MarkKind, str, float]] = [
        (kind, bot, -5.0) for bot in ("alice", "bob") for kind in ("join", "unmute")
    ]
    every = [Mark(k, bot, ZERO_NS + round(s * 1e9)) for k, bot, s in (*early, *marks)]
    word = Word("hello", 0.0, 3.0)
    utterance = Utterance("bob", "c", "hello", (word,), ZERO_NS + 10_000_000_000)
    truth = Truth(0, (utterance,), tuple(sorted(every, key=lambda m: m.at_ns)))
    users = {bot: synthetic_user(bot) for bot in ("alice", "bob", "carol")}
    return Call(truth, users, ZERO_NS, ZERO_NS + 40_000_000_000)


@pytest.mark.parametrize(
    ("at_s", "expected"),
    [
        (5.0, "forbidden"),
        (10.2, "open"),
        (11.0, "required"),
        (12.6, "required"),
        (12.9, "open"),
        (14.5, "open"),
        (15.5, "forbidden"),
    ],
)
def test_a_ring_is_required_while_its_owner_speaks_and_forbidden_in_silence(
    at_s: float, expected: str
) -> None:
    ring = _call().moment(at_s).ring
    assert ring == {"alice": "forbidden", "bob": expected}


def test_the_unmuted_sit_before_the_muted_and_then_by_name() -> None:
    assert _call().moment(20).tiles == ("alice", "bob")
    assert _call(("mute", "alice", 18)).moment(20).tiles == ("bob", "alice")
    assert _call(("join", "carol", 18)).moment(20).tiles == ("alice", "bob", "carol")


def test_tiles_are_not_judged_while_they_may_still_move() -> None:
    call = _call(("leave", "alice", 20))
    assert call.moment(19.5).tiles == ("alice", "bob")
    assert call.moment(20.5).tiles == ()
    assert call.moment(21.5).tiles == ("bob",)


@pytest.mark.parametrize(
    ("at_s", "expected"),
    [(19.0, "forbidden"), (21.0, "open"), (23.0, "required"), (30.5, "open"), (31.5, "forbidden")],
)
def test_the_screen_is_required_during_a_share_and_forbidden_after(
    at_s: float, expected: str
) -> None:
    call = _call(("screen_start", "bob", 20), ("screen_stop", "bob", 30))
    assert call.moment(at_s).screen == expected


def test_no_tiles_are_judged_during_a_share() -> None:
    call = _call(("screen_start", "bob", 20), ("screen_stop", "bob", 30))
    assert call.moment(25).tiles == ()


def test_beeps_count_only_when_their_flash_must_be_seen() -> None:
    beeps: list[tuple[MarkKind, str, float]] = [
        ("beep", "bob", at_s) for at_s in (20.5, 23, 24, 29.9)
    ]
    call = _call(("screen_start", "bob", 20), ("screen_stop", "bob", 30), *beeps)
    assert call.beeps_with_picture_s() == pytest.approx([23, 24])


def test_a_sentence_that_was_cut_off_by_the_stop_is_not_judged() -> None:
    call = _call()
    early = Call(call.truth, call.users, call.zero_ns, ZERO_NS + 12_000_000_000)
    assert len(call.spoken()) == 1
    assert early.spoken() == []

"""Sessions of the admin's page end: when idle, after half a day, by logout, by one too many."""

from __future__ import annotations

import pytest

from foundation.clock import ManualClock
from offloader.api.page_sessions import IDLE_S, LONGEST_S, MOST, PageSessions


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(clock: ManualClock) -> PageSessions:
    return PageSessions(clock=clock)


def test_half_an_hour_in_which_nobody_does_anything_ends_it(sessions, clock) -> None:
    token = sessions.open()
    clock.advance(seconds=IDLE_S - 1)
    assert sessions.get(token, touch=True)
    clock.advance(seconds=IDLE_S - 1)
    assert sessions.get(token, touch=False), "the touch counted"
    clock.advance(seconds=1)
    assert sessions.get(token, touch=True) is None, "a page that only looks does not"
    assert len(sessions) == 0


def test_twelve_hours_end_it_whatever_is_done(sessions, clock) -> None:
    token = sessions.open()
    for _ in range(int(LONGEST_S / 600) - 1):
        clock.advance(seconds=600)
        assert sessions.get(token, touch=True)
    clock.advance(seconds=600)
    assert sessions.get(token, touch=True) is None


def test_a_logout_ends_it_and_tells_whoever_still_reads(sessions) -> None:
    token = sessions.open()
    session = sessions.get(token, touch=True)
    sessions.end(token)
    assert session.ended.is_set()
    assert sessions.left_s(session) == 0
    assert sessions.get(token, touch=True) is None
    sessions.end("never heard of")


def test_one_more_than_there_may_be_ends_the_one_that_was_idle_longest(sessions, clock) -> None:
    tokens = []
    for _ in range(MOST):
        tokens.append(sessions.open())
        clock.advance(seconds=1)
    sessions.get(tokens[0], touch=True)
    sessions.open()
    assert len(sessions) == MOST
    assert sessions.get(tokens[0], touch=False)
    assert sessions.get(tokens[1], touch=False) is None


def test_what_is_kept_does_not_tell_the_token(sessions) -> None:
    token = sessions.open()
    assert token not in repr(vars(sessions))
    assert len(token) >= 43
    assert sessions.get("\ud800 surely nobody's", touch=True) is None

"""A job is granted once: to the first worker that asks in time, as often as that one asks."""

from __future__ import annotations

import asyncio

import pytest

from offloader.backends.celery.board import Claim, LaunchBoard
from offloader.models import Workload

pytestmark = pytest.mark.looptime

LOCAL = Workload("process", {"directory": "/d"})


async def test_the_first_claim_is_granted_and_nobody_elses() -> None:
    board = LaunchBoard()
    with board.open("j1") as launch:
        assert board.claim("j1", worker="w1", url="http://w1") is Claim.GRANTED
        assert board.claim("j1", worker="w2", url="http://w2") is Claim.TAKEN
        assert board.claim("j1", worker="w1", url="http://w1") is Claim.GRANTED
        assert await launch.claimed(within_s=1)
        assert (launch.worker, launch.url) == ("w1", "http://w1")


async def test_two_workers_of_one_name_are_two() -> None:
    board = LaunchBoard()
    with board.open("j1"):
        board.claim("j1", worker="host", url="http://10.0.0.1")
        assert board.claim("j1", worker="host", url="http://10.0.0.2") is Claim.TAKEN


async def test_a_job_that_nobody_launches_here_is_gone() -> None:
    board = LaunchBoard()
    assert board.claim("j1", worker="w1", url="http://w1") is Claim.GONE
    assert not board.settle("j1", LOCAL)


async def test_a_claim_that_comes_too_late_is_refused() -> None:
    board = LaunchBoard()
    with board.open("j1") as launch:
        assert not await launch.claimed(within_s=10)
    assert board.claim("j1", worker="w1", url="http://w1") is Claim.GONE


async def test_after_the_launch_nobody_is_granted_the_job_again_not_even_its_worker() -> None:
    board = LaunchBoard()
    with board.open("j1"):
        board.claim("j1", worker="w1", url="http://w1")
    assert board.claim("j1", worker="w1", url="http://w1") is Claim.GONE
    assert board.claim("j1", worker="w2", url="http://w2") is Claim.TAKEN


async def test_a_waiting_launch_is_woken_by_claim_and_outcome() -> None:
    board = LaunchBoard()
    loop = asyncio.get_running_loop()
    with board.open("j1") as launch:
        loop.call_later(2, lambda: board.claim("j1", worker="w1", url="http://w1"))
        loop.call_later(3, lambda: board.settle("j1", LOCAL))
        assert await launch.claimed(within_s=10)
        assert await launch.settled(within_s=10)
    assert loop.time() == pytest.approx(3)
    assert launch.outcome == LOCAL


async def test_an_outcome_that_comes_late_is_kept_and_the_first_word_counts() -> None:
    board = LaunchBoard()
    with board.open("j1"):
        board.claim("j1", worker="w1", url="http://w1")
    assert board.outcome("j1") is None
    assert board.settle("j1", "no such image")
    assert board.settle("j1", LOCAL)
    assert board.outcome("j1") == "no such image"


async def test_an_outcome_before_any_claim_is_nobodys() -> None:
    board = LaunchBoard()
    with board.open("j1") as launch:
        assert not board.settle("j1", LOCAL)
        assert launch.outcome is None


async def test_what_is_long_ago_is_forgotten_and_what_is_open_never() -> None:
    board = LaunchBoard()
    with board.open("open"):
        for number in range(3):
            with board.open(f"j{number}"):
                board.claim(f"j{number}", worker="w1", url="http://w1")
        await asyncio.sleep(601)
        with board.open("later"):
            assert board.claim("j0", worker="w1", url="http://w1") is Claim.GONE
            assert board.claim("open", worker="w1", url="http://w1") is Claim.GRANTED

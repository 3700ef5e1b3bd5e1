"""Tasks that end together; the one error behind a group alone, whatever Python's version makes of groups."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from foundation.groups import until_one_ends, unwrapped


async def _fail(error: Exception) -> None:
    raise error


async def test_the_error_comes_out_of_nested_groups_alone() -> None:
    error = KeyError("x")

    async def nested() -> None:
        async with asyncio.TaskGroup() as outer:
            async with asyncio.TaskGroup():
                outer.create_task(_fail(error))
                await asyncio.Event().wait()

    with pytest.raises(KeyError) as raised, unwrapped(KeyError):
        await nested()
    assert raised.value is error
    assert raised.value.__cause__ is None


def test_the_wanted_kind_wins_over_others() -> None:
    with pytest.raises(KeyError), unwrapped(KeyError):
        raise ExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError()])])


def test_subclasses_count() -> None:
    with pytest.raises(FileNotFoundError), unwrapped(ValueError, OSError):
        raise ExceptionGroup("", [FileNotFoundError()])


def test_other_groups_and_plain_errors_pass_unchanged() -> None:
    with pytest.raises(ExceptionGroup), unwrapped(KeyError):
        raise ExceptionGroup("", [ValueError()])
    with pytest.raises(ValueError), unwrapped(KeyError):
        raise ValueError


async def test_the_first_end_ends_the_others() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    await until_one_ends(first=asyncio.sleep(0), second=waits())
    assert ended == ["waits"]


async def test_the_error_of_the_one_that_ended_first_is_raised() -> None:
    async def fails_when_it_should_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("its consequence")

    with pytest.raises(KeyError):
        await until_one_ends(late=fails_when_it_should_end(), first=_fail(KeyError("first")))


async def test_a_cancelled_caller_stays_cancelled_though_a_task_answers_that_with_an_error() -> (
    None
):
    begun, went_on = asyncio.Event(), False

    async def fails_when_it_should_end() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("the connection is gone, too")

    async def goes_on_after_a_loss() -> None:
        nonlocal went_on
        with contextlib.suppress(ValueError):
            await until_one_ends(only=fails_when_it_should_end())
        went_on = True

    task = asyncio.create_task(goes_on_after_a_loss())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


async def test_a_caller_cancelled_in_the_moment_of_a_loss_is_cancelled() -> None:
    async def lost(now: asyncio.Event) -> None:
        await now.wait()
        raise ValueError

    now = asyncio.Event()
    task = asyncio.create_task(until_one_ends(only=lost(now)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    now.set()
    await asyncio.sleep(0)  # the child has failed, its caller has not heard of it yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

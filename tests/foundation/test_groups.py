"""The one error behind a group comes out alone, whatever Python's version makes of groups."""

from __future__ import annotations

import asyncio

import pytest

from foundation.groups import unwrapped


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

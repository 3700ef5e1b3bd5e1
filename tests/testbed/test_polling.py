"""Looking again and again, within a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from testbed.polling import until

pytestmark = pytest.mark.looptime


def looks(*answers: object) -> Callable[[], Awaitable[object]]:
    """What is seen, one after the other; an exception is raised. The last one stays."""
    waiting = list(answers)

    async def look() -> object:
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


class Late(Exception):
    """Of a caller."""


async def test_the_first_thing_that_is_there_is_returned_after_as_many_looks() -> None:
    loop = asyncio.get_running_loop()
    assert await until(looks(None, False, "", "here"), "it", limit_s=5, every_s=0.5) == "here"
    assert loop.time() == pytest.approx(1.5)


async def test_what_does_not_come_is_named_in_the_callers_own_error() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(Late, match=r"^the post: not within 3 s$"):
        await until(looks(None), "the post", limit_s=3, failure=Late)
    assert loop.time() == pytest.approx(3)


async def test_an_error_of_the_look_ends_it_also_when_that_is_a_time_out() -> None:
    for error in (ValueError("broken"), TimeoutError("the server")):
        with pytest.raises(type(error), match=str(error)):
            await until(looks(None, error), "it", limit_s=5, failure=Late)

"""Tasks that live and end together, and the one error behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager


async def until_one_ends(**coroutines: Coroutine[object, object, None]) -> None:
    """Run coroutines as tasks of these names until the first of them ends; the others are cancelled and
    awaited. Raises that one's error.

    Whoever cancels the caller is always obeyed. A task group does not promise that: it takes a cancellation
    for its own when a child answers it with an error, and the caller sees only the error and goes on.
    """
    tasks = [asyncio.create_task(work, name=name) for name, work in coroutines.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()


@contextmanager
def unwrapped(*kinds: type[Exception]) -> Iterator[None]:
    """Let the first error of `kinds` out of an exception group on its own.

    The tasks beside it were cancelled because of it or failed as its consequence. Groups without such an
    error, and errors outside of groups, pass unchanged. `except*` cannot do this: before Python 3.11.4
    it wraps again what is raised in it.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        matching = group.subgroup(kinds)
        if matching is None:
            raise
        raise _first(matching) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

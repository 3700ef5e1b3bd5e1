"""Exception groups of task groups, unwrapped where a caller wants the one error behind them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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

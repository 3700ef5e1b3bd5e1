"""Who does more in a run of the demo than to record a call: for tests that want a whole call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from testbed.stack import Stack

Value = TypeVar("Value")


class Visitor(Protocol):
    """What it raises ends the run."""

    offloader_environment: Mapping[str, str]
    """Of the job service, over everything else."""
    plugin_environment: Mapping[str, str]
    """`MM_CALLS_RECORDER_<X>` and the like."""
    names: Mapping[str, tuple[str, str]]
    """First and last names by username, instead of the stand-in's own."""

    async def before(self, stack: Stack) -> None:
        """The servers are up; nobody has pressed record yet."""

    async def during(self, stack: Stack) -> None:
        """The bots talk and are recorded, until this is over and they have said all."""

    async def after(self, stack: Stack) -> None:
        """Both results are posted, the call's jobs have ended; the servers still run."""


class Party:
    """Several who come at once."""

    def __init__(self, *visitors: Visitor) -> None:
        self._visitors = visitors
        self.offloader_environment: Mapping[str, str] = _merged(
            visitor.offloader_environment for visitor in visitors
        )
        self.plugin_environment: Mapping[str, str] = _merged(
            visitor.plugin_environment for visitor in visitors
        )
        self.names: Mapping[str, tuple[str, str]] = _merged(visitor.names for visitor in visitors)

    async def before(self, stack: Stack) -> None:
        for visitor in self._visitors:
            await visitor.before(stack)

    async def during(self, stack: Stack) -> None:
        async with asyncio.TaskGroup() as tasks:
            for visitor in self._visitors:
                tasks.create_task(visitor.during(stack))

    async def after(self, stack: Stack) -> None:
        for visitor in self._visitors:
            await visitor.after(stack)


def _merged(mappings: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    return {name: value for mapping in mappings for name, value in mapping.items()}

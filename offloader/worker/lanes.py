"""What a worker takes from the broker: lanes, each a task with its queues, open while there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Verdict(Enum):
    """What becomes of a message."""

    DONE = "done"
    """Acknowledged: whatever there was to do is done, or is nobody's any more."""
    NO_ROOM = "no room"
    """Given back at once, for another worker; the lane has been closed before."""


Take = Callable[[str, Mapping[str, Any]], Awaitable[Verdict]]
"""Called on the event loop with the message's own id (the same when it is delivered again) and its
arguments."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of work."""

    name: str
    task: str
    """Celery's name of it; several lanes may share one."""
    queues: tuple[str, ...]
    take: Take
    """Of lanes that share a task, the same one."""
    at_once: int
    """Messages that may be in work together."""

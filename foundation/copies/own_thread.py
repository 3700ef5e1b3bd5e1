"""A thread for calls that may hang for ever, as those of a network's file system do."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")
_MOST_WAITING: Final = 8


class StillBusy(OSError):
    """So many earlier calls have not come back that no more are taken."""


class OwnThread:
    """Makes calls one after the other, in a thread that nothing else waits for, at the process's end neither.

    A caller that gives up leaves its call behind: it is not begun any more, or it ends before the next one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Raises StillBusy, and what the function raises."""
        if self._waiting >= _MOST_WAITING:
            raise StillBusy(f"{self._waiting} earlier calls have not come back")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: Exception | None) -> None:
            self._waiting -= 1
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # None only where T allows it

        def work() -> None:
            result: T | None = None
            failure: Exception | None = None
            if not answer.cancelled():
                try:
                    result = function(*arguments)
                except Exception as error:  # noqa: BLE001 - told to whoever asked
                    failure = error
            with suppress(RuntimeError):  # the loop is gone, and with it whoever asked
                loop.call_soon_threadsafe(settle, result, failure)

        self._waiting += 1
        self._calls.put(work)
        return await answer

    def _run(self) -> None:
        while True:
            self._calls.get()()

"""Threads that call speech engines; one whose call does not come back is replaced by another.

What raises costs its job only. A local engine's calls come back, because its process is ended when one
hangs (`engines.process`). Should a call hang all the same, its thread is left alone, counted, and put to
use again if it comes back. When twice as many are lost as the engine has workers, it is given up: then the
captured sound, which is on disk, needs another process (`salvage`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from foundation.logs import get_logger
from jobs.transcriber.engines.base import EngineError
from jobs.transcriber.scheduler import SpeechJob

_LOST_PER_WORKER: Final = 2
_log = get_logger(component="engine-threads")


class EngineStuck(EngineError):
    """A call took longer than its job may."""


class EngineGone(Exception):
    """So many calls hang that no more are made, or the engine cannot be started any more."""


class EngineThreads:
    """`execute` is a scheduler's; everything but the jobs themselves happens on the event loop."""

    def __init__(self, *, workers: int) -> None:
        """`workers`: as many as the engine has; so many calls are made at once at most."""
        self.replaced = 0
        """Threads that were left behind, those that came back included."""
        self._most_lost = _LOST_PER_WORKER * workers
        self._idle: list[_Thread] = []
        self._lost: set[_Thread] = set()
        self._usable = asyncio.Event()
        self._usable.set()
        self._gone = asyncio.Event()

    async def execute(self, job: SpeechJob) -> None:
        """Run the job in a thread. Waits while the engine is given up.

        Raises:
            EngineStuck: it took longer than `job.limit_s`.
            Exception: what the job raised.
        """
        await self._usable.wait()
        thread = self._idle.pop() if self._idle else self._start()
        ending: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        thread.calls.put((job, ending))
        # Not cancelled with us: a thread is idle again only when its call is over.
        await asyncio.wait([ending], timeout=job.limit_s)
        if not ending.done():
            self._leave_behind(thread)
            raise EngineStuck(f"no answer within {job.limit_s:g} s")
        error = ending.result()
        if isinstance(error, Exception):
            raise error
        if error is not None:  # SystemExit and the like are no reason to end the whole job
            raise EngineError(type(error).__name__)

    @property
    def given_up(self) -> bool:
        """No call is made before one comes back."""
        return self._gone.is_set()

    async def until_gone(self) -> None:
        """Returns when the engine is given up."""
        await self._gone.wait()

    def close(self) -> None:
        """Let idle threads end; the others do not keep the process alive."""
        for thread in self._idle:
            thread.calls.put(None)
        self._idle.clear()

    def _start(self) -> _Thread:
        thread = _Thread(asyncio.get_running_loop(), self._came_back)
        thread.start()
        return thread

    def _leave_behind(self, thread: _Thread) -> None:
        self.replaced += 1
        self._lost.add(thread)
        _log.error("engine_call.stuck", lost_threads=len(self._lost))
        if len(self._lost) >= self._most_lost:
            self._usable.clear()
            self._gone.set()
            _log.error("engine.given_up", lost_threads=len(self._lost))

    def _came_back(
        self,
        thread: _Thread,
        ending: asyncio.Future[BaseException | None],
        error: BaseException | None,
    ) -> None:
        if not ending.done():
            ending.set_result(error)
        self._idle.append(thread)
        if thread in self._lost:
            self._lost.remove(thread)
            self._gone.clear()
            self._usable.set()


_CameBack = Callable[
    ["_Thread", "asyncio.Future[BaseException | None]", BaseException | None], None
]


class _Thread(threading.Thread):
    def __init__(self, loop: asyncio.AbstractEventLoop, came_back: _CameBack) -> None:
        super().__init__(name="speech", daemon=True)
        self.calls: queue.SimpleQueue[
            tuple[SpeechJob, asyncio.Future[BaseException | None]] | None
        ] = queue.SimpleQueue()
        self._loop = loop
        self._came_back = came_back

    def run(self) -> None:
        while (call := self.calls.get()) is not None:
            job, ending = call
            error: BaseException | None = None
            try:
                job.run()
            except BaseException as raised:  # noqa: BLE001 - told to whoever waits
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._came_back, self, ending, error)

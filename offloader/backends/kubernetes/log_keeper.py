"""Keeps the jobs' logs: pods take theirs with them.

The log of each running job is followed and written into its folder, in the files and with the largest size
that process jobs have (docs/job-contract.md 6). Whoever holds the folder's lock writes; other replicas on
the same claim read. After a restart of the service the following goes on where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.kubernetes.api import PODS, ApiError, KubernetesApi
from offloader.backends.kubernetes.kept_log import COMPLETE, LogFile
from offloader.backends.kubernetes.log_lines import Lines
from offloader.backends.kubernetes.observation import has_ended
from offloader.backends.kubernetes.options import CONTAINER
from offloader.errors import BackendError

_MOST_FOLLOWED: Final = 1500
"""Each takes a connection, of which launches and stops need some too. The others' logs are read when they
end."""
_IDLE_S: Final = 600.0
"""Silence after which the connection is made anew: one that died says nothing either."""
_WAIT_FOR_REST_S: Final = 5.0
_AFTER_ERROR_S: Final = 60.0
_WHILE_KEPT_S: Final = 10.0
_UNTIL_KEPT_S: Final = 0.5
"""Between two looks whether another replica has all of an ended job's log, or has ended itself."""
_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0)

log = get_logger()


class LogKeeper:
    """One per backend; a task per running job."""

    def __init__(
        self, api: KubernetesApi, *, max_bytes: int, pod_of: Callable[[str], Any | None]
    ) -> None:
        """`pod_of`: the present pod of a Job, by the Job's name."""
        self._api = api
        self._max_bytes = max_bytes
        self._pod_of = pod_of
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._complete: set[str] = set()
        """Jobs whose logs need no look any more, until they are removed."""
        self._elsewhere: set[str] = set()
        """Jobs whose logs another replica kept at the last look."""
        self._not_before_s: dict[str, float] = {}
        """When it is worth another attempt to keep a log that could not be."""
        self._ended_s: dict[str, float] = {}
        """When a job was first said to have ended."""

    def keep(self, name: str, directory: Path) -> None:
        """See that the log of the Job `name` is kept, once its container has begun."""
        if name in self._tasks or name in self._complete:
            return
        now_s = asyncio.get_running_loop().time()
        ended = has_ended(self._pod_of(name) or {})
        sooner_s = _WHILE_KEPT_S - _UNTIL_KEPT_S if ended and name in self._elsewhere else 0.0
        if now_s < self._not_before_s.get(name, now_s) - sooner_s:
            return
        if len(self._tasks) >= _MOST_FOLLOWED and not ended:
            return
        task = asyncio.create_task(self._keep(name, directory), name=f"log of {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))

    def is_busy(self, name: str) -> bool:
        """Of an ended job: whether the rest of its log is worth waiting for still."""
        return (name in self._tasks or name in self._elsewhere) and self._left_s(name) > 0

    async def complete(self, name: str) -> None:
        """Of an ended job: wait a moment for the rest of its log."""
        task = self._tasks.get(name)
        if task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._left_s(name)):
                    await asyncio.wait([task])

    async def forget(self, name: str) -> None:
        """Its folder is about to go."""
        self._complete.discard(name)
        self._elsewhere.discard(name)
        self._not_before_s.pop(name, None)
        self._ended_s.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def aclose(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _left_s(self, name: str) -> float:
        now_s = asyncio.get_running_loop().time()
        return self._ended_s.setdefault(name, now_s) + _WAIT_FOR_REST_S - now_s

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job.log_not_kept", job=name, error=repr(error))
            self._pause(name, _AFTER_ERROR_S)

    def _pause(self, name: str, pause_s: float) -> None:
        self._not_before_s[name] = asyncio.get_running_loop().time() + pause_s

    async def _keep(self, name: str, directory: Path) -> None:
        opening = asyncio.create_task(asyncio.to_thread(LogFile.opened, directory, self._max_bytes))
        try:
            log_file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)  # or its lock would be held for ever
            raise
        except OSError as error:
            log.warning("job.log_not_kept", job=name, error=str(error))
            self._pause(name, _AFTER_ERROR_S)
            return
        if log_file is None:
            if await asyncio.to_thread((directory / COMPLETE).exists):
                self._elsewhere.discard(name)
                self._complete.add(name)
            else:
                self._elsewhere.add(name)
                self._pause(name, _WHILE_KEPT_S)
            return
        self._elsewhere.discard(name)
        try:
            await self._follow(name, log_file)
        finally:
            log_file.close()

    async def _follow(self, name: str, log_file: LogFile) -> None:
        failures = 0
        while (pod := self._pod_of(name)) is not None:
            ended = has_ended(pod)
            try:
                new = await self._read(pod["metadata"]["name"], log_file)
            except BackendError as error:
                if isinstance(error, ApiError) and error.status == 404:
                    break
                log.debug("kubernetes.log_broken", job=name, error=str(error))
                new = False
            else:
                if ended:
                    break
            failures = 0 if new else failures + 1
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        await _finished(asyncio.to_thread(log_file.finish))
        self._complete.add(name)

    async def _read(self, pod: str, log_file: LogFile) -> bool:
        """Follow until the answer ends; whether anything came."""
        query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
        if log_file.position.since:
            query["sinceTime"] = log_file.position.since
        reader = Lines(log_file.position)
        new = False
        async with self._api.stream(f"{PODS}/{pod}/log", query=query, idle_s=_IDLE_S) as chunks:
            async for chunk in chunks:
                text = reader.feed(chunk)
                if text:
                    new = True
                    await _finished(asyncio.to_thread(log_file.write, text))
        return new


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work in a thread, also when cancelled: the file that it uses is closed afterwards."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _close(opening: asyncio.Task[LogFile | None]) -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    if (log_file := opening.result()) is not None:
        log_file.close()

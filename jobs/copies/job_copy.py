"""The copy of one job's files, as the job sees it: nothing to think of, whether there is one or not.

Nothing takes longer than it says, and only `before_post` raises: a job with a bad copy is better than none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from foundation.copies.stores import CopyStore, StoreError, open_store
from foundation.logs import also_log_into, get_logger
from jobs.copies.fence import IDENTITY_NAME, Asked, Fence, PublisherUnknown, Verdict
from jobs.copies.mirror import Mirror
from jobs.settings import JobSettings

_RECORD: Final = "publication.json"
_NOT_COPIED: Final = frozenset({"reserve", IDENTITY_NAME})
LOG_NAME: Final = "job.log"
"""The job's own log, for whoever wants to know what became of a lost one."""
_MOST_LOG_BYTES: Final = 8 << 20
VOUCHED_VARIABLE: Final = "PUBLISH_UNFENCED"
"""`true`: of `salvage`, by whoever knows that nobody else can publish the job."""
_CATCH_UP_S: Final = 10.0
_LAST_ROUND_S: Final = 60.0
_HURRIED_S: Final = 4.0
_PATIENCE_S: Final = 60.0
"""With a store that cannot tell who publishes; then the job service tries, when it has seen the job end."""
_LONG_PATIENCE_S: Final = 1800.0
"""Where nobody could try later."""
_VOUCHED_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 5.0
_log = get_logger(component="copies")


class JobCopy:
    """`run` in a task while the job works, `begin` when its directory is there and held, `before_derived` and
    `before_post` on the way, `release` before its files go, `finish` after its end."""

    def __init__(
        self,
        settings: JobSettings,
        *,
        record_only: bool = False,
        vouched: bool = False,
        store: CopyStore | None = None,
    ) -> None:
        """`record_only`: for whoever finishes a dead job, whose files have not changed since. `vouched`: the
        job service knows of nobody else who could publish, should the store not tell.

        `store` is the one that the settings name, which may be none, unless a test brings its own.
        """
        self._settings = settings
        self._store = store or _opened(settings.copies_url)
        self._record_only = record_only
        self._vouched = vouched
        self._caught_up = False
        self._stop_log: Callable[[], None] = lambda: None
        self._fence = Fence(self._store, settings.directory) if self._store is not None else None
        self._derived_too = False
        self._released = False
        self._begun = asyncio.Event()
        self._mirror = self._mirror_in(self._store) if self._store is not None else None

    def begin(self) -> None:
        """The directory is there, and nobody else's."""
        self._begun.set()
        if self._mirror is not None and not self._record_only:
            path = self._settings.directory / LOG_NAME
            self._stop_log = also_log_into(path, most_bytes=_MOST_LOG_BYTES)

    async def run(self) -> None:
        """Keep the copy new until cancelled."""
        await self._begun.wait()
        if self._mirror is not None:
            await self._mirror.run(given_up=self._is_another_s)

    async def before_post(self, file_id: str, is_posted: Asked) -> Verdict:
        """Whoever finishes this job elsewhere should know that a post with that file is asked for; and of two
        who want to make it, one may (`jobs.copies.fence`).

        Raises:
            PublisherUnknown: the store cannot be asked, and somebody else may publish.
            ApiError: the server cannot be asked for somebody else's post.
            OSError: the directory cannot be written.
        """
        if self._fence is None:
            return Verdict.POST
        if not self._caught_up:
            self._caught_up = True
            await self._catch_up()
        # A rescue's files do not go with it: there is the copy.
        alone = self._settings.files_go_with_job and not await self._fence.is_restored()
        now_s = asyncio.get_running_loop().time
        give_up_s = now_s() + self._patience_s(alone=alone)
        while True:
            try:
                return await self._fence.enter(file_id, is_posted=is_posted)
            except StoreError as error:
                if self._never_copied():
                    _log.warning("publisher.alone", reason=f"nothing was ever copied: {error}")
                    return Verdict.POST
                if now_s() >= give_up_s:
                    if self._vouched or alone:
                        _log.warning("publisher.not_asked", reason=str(error))
                        return Verdict.POST
                    raise PublisherUnknown(
                        f"nobody can tell whether somebody else publishes: {error}"
                    ) from error
            await asyncio.sleep(_PAUSE_S)

    async def before_derived(self) -> None:
        """Sources of derived files may go with the next step: copy them, or else what is made of them."""
        self._derived_too = not await self._catch_up()

    def release(self) -> None:
        """The post surely exists, or there is nothing to post: no copy needs to outlive the files."""
        self._released = True

    async def finish(self, *, hurry: asyncio.Event | None = None) -> None:
        """Copy what is left to be published, or the artifacts that stay; else leave nothing.

        Takes a minute at most, and seconds from `hurry` on.
        """
        self._stop_log()
        if self._mirror is None or not self._begun.is_set():
            return
        working = asyncio.create_task(self._last_round(), name="copy-last-round")
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait(), name="copy-hurry")
        try:
            await asyncio.wait(
                [working, hurried], timeout=_LAST_ROUND_S, return_when=asyncio.FIRST_COMPLETED
            )
            if hurried.done():
                await asyncio.wait([working], timeout=_HURRIED_S)
            if not working.done():
                _log.warning("copy.not_finished", reason="the time is over")
        finally:
            working.cancel()
            hurried.cancel()
            await asyncio.gather(working, hurried, return_exceptions=True)

    def figures(self) -> dict[str, float]:
        """For the metrics line; empty without a copy."""
        if self._mirror is None:
            return {}
        return {
            "copy_behind_s": round(self._mirror.behind_s, 1),
            "copy_failures": self._mirror.failures,
            "copied_bytes": self._mirror.copied_bytes,
        }

    async def _last_round(self) -> None:
        try:
            if self._released and self._store is not None:
                await self._store.remove(self._settings.directory.name)
                if self._fence is not None:
                    await self._fence.leave()
                self._record_only = False
                self._mirror = self._mirror_in(self._store)
                if await asyncio.to_thread(self._settings.directory.exists):
                    await self._mirror.copy_now()
            elif self._mirror is not None and not await self._is_another_s():
                await self._mirror.copy_now()
        except Exception as error:  # noqa: BLE001 - the job has ended as it has ended
            _log.warning("copy.not_finished", reason=_reason(error))

    async def _catch_up(self) -> bool:
        if self._mirror is None:
            return True
        try:
            async with asyncio.timeout(_CATCH_UP_S):
                if not await self._is_another_s():
                    await self._mirror.copy_now()
        except Exception as error:  # noqa: BLE001 - what comes next matters more
            _log.warning("copy.behind", reason=_reason(error))
            return False
        return True

    async def _is_another_s(self) -> bool:
        """Was this directory made of the copy, or has somebody else taken that over? Then it is left as it
        is: two writers would make it unreadable. Raises StoreError, OSError."""
        fence = self._fence
        return fence is not None and (await fence.is_restored() or await fence.is_another_s())

    def _never_copied(self) -> bool:
        """There is surely no copy of which anybody else could publish."""
        return self._mirror is not None and not self._record_only and self._mirror.never_wrote

    def _patience_s(self, *, alone: bool) -> float:
        if self._vouched:
            return _VOUCHED_PATIENCE_S
        return _LONG_PATIENCE_S if alone else _PATIENCE_S

    def _mirror_in(self, store: CopyStore) -> Mirror:
        return Mirror(
            store,
            self._settings.directory,
            is_copied=self._is_copied,
            stays=self._settings.sources_of_derived,
        )

    def _is_copied(self, name: str) -> bool:
        path = PurePosixPath(name)
        if self._record_only:
            return name == _RECORD
        if name in self._settings.derived_files:
            return self._derived_too
        return path.name not in _NOT_COPIED and path.suffix != ".tmp"


def _opened(url: str) -> CopyStore | None:
    try:
        return open_store(url) if url else None
    except StoreError as error:
        _log.warning("copy.none", reason=str(error))
        return None


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError) else type(error).__name__

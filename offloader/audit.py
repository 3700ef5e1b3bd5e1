"""Who did what: records for the audit's file, from a bounded queue by one writer.

A record names ids, addresses and actions; never a secret, a person, a file's name or content. Whoever asks is
not kept waiting for the disk: what cannot be written stays in the queue, and what does not fit in there is
counted, in the metrics and in the file once it can be written again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from structlog.contextvars import get_contextvars

from clientauth.caller import Caller
from clientauth.turns import PEER, source
from foundation.clock import Clock, rfc3339
from foundation.logs import get_logger
from offloader.audit_file import AuditFile, Place

LOGIN_FAILED: Final = "login.failed"
JOB_SHOWN: Final = "job.show"
WINDOW_S: Final = 60.0
EACH: Final = 600
"""Records of their own that an address gets in a window; what is beyond is counted, by who did what."""
EACH_OF: Final = {LOGIN_FAILED: 10, JOB_SHOWN: 1}
"""The same of some actions: guessing keys, and an open page that looks every few seconds."""
_MOST_KINDS: Final = 4096
_QUEUE: Final = 8192
_BATCH: Final = 512
_RETRY_S: Final = 1.0
_END_S: Final = 5.0
_EXPIRE_EVERY_S: Final = 3600.0
_LONGEST_ID: Final = 128
_ABOUT: Final[ContextVar[dict[str, str] | None]] = ContextVar("audit_about", default=None)

log = get_logger()


def about(**fields: str) -> None:
    """Add to the record of the request that is being answered: ids only."""
    fields_of_request = _ABOUT.get()
    if fields_of_request is not None:
        fields_of_request |= fields


@contextmanager
def collecting() -> Iterator[dict[str, str]]:
    """What `about` is told inside, also by tasks that begin there."""
    fields: dict[str, str] = {}
    token = _ABOUT.set(fields)
    try:
        yield fields
    finally:
        _ABOUT.reset(token)


class Audit:
    """Lives on one event loop; `run` writes. Without a file it takes no notes."""

    def __init__(self, file: AuditFile | None, *, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._queue: deque[dict[str, Any]] = deque()
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._dropped = 0
        self._untold = 0
        """Of `dropped`, what the file does not know yet."""
        self._window_ns = clock.monotonic_ns()
        self._counts: Counter[tuple[str, ...]] = Counter()
        """Records of this window, by their budget."""
        self._beyond: Counter[tuple[tuple[str, str], ...]] = Counter()
        """What they are beyond it, by the fields they have in common."""

    @property
    def dropped(self) -> int:
        """Records that were lost since this process began."""
        return self._dropped

    async def begin(self, **fields: str) -> Place | None:
        """The first record of this process, `service.start`. Raises OSError: it cannot be written."""
        if self._file is None:
            return None
        now = self._clock.utc_now()
        entry = {"time": rfc3339(now), "action": "service.start", **fields}
        return await asyncio.to_thread(self._file.append, [entry], now=now)

    def note(
        self, action: str, *, who: Caller, result: str, door: str, **fields: str | int
    ) -> None:
        """One record of whoever sends the request that is being answered."""
        if self._file is None:
            return
        self._turn_window()
        common = {"action": action, **_who(who), "door": door, "result": result}
        if not self._within_budget(action, str(fields.get("job", ""))):
            self._count(common | {"address": source()})
            return
        entry: dict[str, Any] = {"time": rfc3339(self._clock.utc_now()), **common}
        request_id = str(get_contextvars().get("request_id", ""))
        entry |= {"address": PEER.get(), "request_id": request_id}
        entry |= {n: v[:_LONGEST_ID] if isinstance(v, str) else v for n, v in fields.items()}
        self._put({name: value for name, value in entry.items() if value != ""})

    def note_event(self, action: str, **fields: str | int) -> None:
        """One record of what nobody's request has done."""
        if self._file is not None:
            self._put({"time": rfc3339(self._clock.utc_now()), "action": action, **fields})

    async def run(self) -> None:
        """Write until `aclose`."""
        if self._file is None:
            return
        failing = False
        expired_ns: int | None = None
        while self._queue or not self._ending.is_set():
            self._turn_window()
            now_ns = self._clock.monotonic_ns()
            try:
                if expired_ns is None or now_ns - expired_ns >= _EXPIRE_EVERY_S * 1e9:
                    expired_ns = now_ns
                    await asyncio.to_thread(self._file.expire, now=self._clock.utc_now())
                await self._write(self._file)
                failing = False
            except OSError as error:
                if not failing:
                    log.error("audit.write_failed", reason=error.strerror or str(error))
                failing = True
                if self._ending.is_set():
                    return
            if failing:
                await _within(_RETRY_S, self._ending)
            elif not self._ending.is_set():
                self._wake.clear()
                await _within(WINDOW_S, self._wake)

    async def aclose(self, running: asyncio.Task[None]) -> None:
        """End `running`, the task of `run`, when everything is written, and in five seconds at the latest."""
        self._turn_window(over=True)
        self._ending.set()
        self._wake.set()
        done, _ = await asyncio.wait((running,), timeout=_END_S)
        if not done:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        else:
            running.result()
        if self._queue:
            log.error("audit.records_lost", count=len(self._queue))

    async def _write(self, file: AuditFile) -> None:
        while self._queue:
            batch = [self._queue[i] for i in range(min(len(self._queue), _BATCH))]
            now = self._clock.utc_now()
            lost = self._untold
            told = (
                [{"time": rfc3339(now), "action": "audit.dropped", "times": lost}] if lost else []
            )
            await asyncio.to_thread(file.append, [*told, *batch], now=now)
            self._untold -= lost
            for _ in batch:
                self._queue.popleft()

    def _put(self, entry: dict[str, Any]) -> None:
        if len(self._queue) >= _QUEUE:
            self._dropped += 1
            self._untold += 1
            return
        self._queue.append(entry)
        self._wake.set()

    def _within_budget(self, action: str, job_id: str) -> bool:
        alone = action in EACH_OF
        budget = (source(), action if alone else "", job_id if action == JOB_SHOWN else "")
        if budget not in self._counts and len(self._counts) >= _MOST_KINDS:
            budget = ("", "", "")
        self._counts[budget] += 1
        return self._counts[budget] <= EACH_OF.get(action, EACH)

    def _count(self, common: dict[str, str]) -> None:
        kind = tuple(sorted(common.items()))
        if kind not in self._beyond and len(self._beyond) >= _MOST_KINDS:
            kind = (("action", common["action"]), ("result", common["result"]))
        self._beyond[kind] += 1

    def _turn_window(self, *, over: bool = False) -> None:
        now_ns = self._clock.monotonic_ns()
        if not over and now_ns - self._window_ns < WINDOW_S * 1e9:
            return
        self._window_ns = now_ns
        self._counts.clear()
        beyond, self._beyond = self._beyond, Counter()
        time = rfc3339(self._clock.utc_now())
        for kind, times in beyond.items():
            entry = {"time": time, **dict(kind), "times": times}
            self._put({name: value for name, value in entry.items() if value != ""})


async def _within(longest_s: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest_s):
            await event.wait()


def _who(who: Caller) -> dict[str, str]:
    client = who.client_id or who.claimed
    kind = "admin" if who.admin else "client" if who.client_id else "nobody"
    return {"who": kind, "client": client[:_LONGEST_ID], "subject": who.subject[:_LONGEST_ID]}

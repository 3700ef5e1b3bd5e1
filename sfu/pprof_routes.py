"""`/debug/pprof/*`: the eight paths of rtcd, with what Python can tell (rtcd.md 1.4, docs/sfu.md).

`?debug=1` gives text instead of the pprof form, `?seconds=` says how long to look, where that matters.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from clientauth.service import AuthError, ClientAuth
from sfu.control_routes import ANY_METHOD, require_admin
from sfu.pprof_format import Units, as_protobuf, as_text
from sfu.stacks import (
    INTERVAL_S,
    Samples,
    allocations,
    blocked_samples,
    cpu_samples,
    growth,
    threads_and_tasks,
    trace_events,
)

T = TypeVar("T")

_LONGEST_S: Final = 55.0
"""Below the server's limit for an answer, 60 s."""
_DEFAULT_S: Final = {"profile": 30.0, "trace": 1.0}
_DELTA_S: Final = 10.0
_CPU: Final[Units] = (("samples", "count"), ("cpu", "nanoseconds"))
_DELAY: Final[Units] = (("contentions", "count"), ("delay", "nanoseconds"))
_MEMORY: Final[Units] = (("inuse_objects", "count"), ("inuse_space", "bytes"))
_COUNTS: Final[Units] = (("goroutine", "count"), ("stacks", "count"))
_NO_ADMIN: Final = (
    "profiles are for the admin, and there is none: set api.security.enable_admin and "
    "api.security.admin_secret_key\n"
)
_NOT_TRACED: Final = "allocations are not traced: start the SFU with PERF_PROFILES=true\n"

Seconds = Annotated[str, Query(alias="seconds")]
Debug = Annotated[str, Query(alias="debug")]


class _Refused(Exception):
    """Status and text of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Profiler:
    """Takes one profile at a time: they cost."""

    def __init__(self) -> None:
        self._busy = False

    async def samples(self, name: str, seconds: float) -> tuple[Samples, Units]:
        """Of one of the paths that look for a while, or at once. Raises _Refused."""
        match name:
            case "goroutine":
                return threads_and_tasks(), _COUNTS
            case "profile":
                return await self._watch(lambda stop: cpu_samples(seconds, stop)), _CPU
            case "heap":
                return await self._allocations(), _MEMORY
            case "delta_heap":
                before = await self._allocations()
                await asyncio.sleep(seconds)
                return growth(before, await self._allocations()), _MEMORY
            case "delta_block":
                return await self._blocked(seconds), _DELAY
            case _:
                return {}, _DELAY  # mutexes: nothing here waits for one

    async def trace(self, seconds: float) -> str:
        """JSON for Perfetto and chrome://tracing. Raises _Refused."""
        events = await self._watch(lambda stop: trace_events(seconds, stop))
        return json.dumps({"traceEvents": events})

    async def _allocations(self) -> Samples:
        if not tracemalloc.is_tracing():
            raise _Refused(503, _NOT_TRACED)
        return await self._watch(lambda _: allocations())

    async def _blocked(self, seconds: float) -> Samples:
        beaten_ns = time.monotonic_ns()

        async def beat() -> None:
            nonlocal beaten_ns
            while True:
                beaten_ns = time.monotonic_ns()
                await asyncio.sleep(INTERVAL_S)

        loop_thread = threading.get_ident()
        beating = asyncio.create_task(beat(), name="heartbeat")
        try:
            return await self._watch(
                lambda stop: blocked_samples(seconds, stop, lambda: beaten_ns, loop_thread)
            )
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def _watch(self, look: Callable[[threading.Event], T]) -> T:
        if self._busy:
            raise _Refused(503, "another profile is being taken: try again later\n")
        self._busy = True
        stop = threading.Event()
        try:
            return await asyncio.to_thread(look, stop)
        finally:
            stop.set()
            self._busy = False


def pprof_router(auth: ClientAuth) -> APIRouter:
    """The eight paths, for the admin; no index."""
    router = APIRouter(prefix="/debug/pprof")
    profiler = Profiler()

    def add(name: str) -> None:
        @router.api_route(f"/{name}", methods=ANY_METHOD, name=name)
        async def profile(request: Request, seconds: Seconds = "", debug: Debug = "0") -> Response:
            try:
                await _require_admin(request, auth)
                return await _answer(profiler, name, seconds, debug)
            except _Refused as refused:
                return PlainTextResponse(str(refused), status_code=refused.status)

    for name in ("heap", "delta_heap", "delta_block", "delta_mutex", "goroutine", "mutex"):
        add(name)
    for name in _DEFAULT_S:
        add(name)
    return router


async def _require_admin(request: Request, auth: ClientAuth) -> None:
    """They cost time and memory, and tell what the process does. Raises _Refused."""
    if not auth.has_admin:
        raise _Refused(403, _NO_ADMIN)
    try:
        await require_admin(request, auth, "profiles are for the admin")
    except AuthError as error:
        raise _Refused(error.status, error.text + "\n") from error


async def _answer(profiler: Profiler, name: str, seconds_text: str, debug: str) -> Response:
    seconds = _seconds(seconds_text, _DEFAULT_S.get(name, _DELTA_S))
    if name == "trace":
        return Response(await profiler.trace(seconds), media_type="application/json")
    began_ns = time.monotonic_ns()
    taken_ns = time.time_ns()
    samples, units = await profiler.samples(name, seconds)
    if debug not in ("", "0"):
        return PlainTextResponse(as_text(samples))
    body = await asyncio.to_thread(
        as_protobuf,
        samples,
        units,
        time_ns=taken_ns,
        duration_ns=time.monotonic_ns() - began_ns,
    )
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type="application/octet-stream", headers=disposition)


def _seconds(text: str, default: float) -> float:
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _LONGEST_S:  # a NaN is neither
        raise _Refused(400, f"seconds = {text!r}: should be above 0 and at most {_LONGEST_S:g}\n")
    return seconds

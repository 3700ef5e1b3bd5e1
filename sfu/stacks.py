"""Where this process spends its time and memory: stacks of threads, tasks and allocations.

Only names of functions, files and lines; never a value of a variable.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

Frame = tuple[str, str, int]
"""Function, file, line."""
Stack = tuple[Frame, ...]
"""The outermost frame first."""
Samples = Mapping[Stack, tuple[int, int]]
"""How often, and how much: ns or bytes."""

INTERVAL_S: Final = 0.01
_LATE_NS: Final = 25_000_000
_DEEPEST: Final = 128


def stack_of(frame: FrameType | None) -> Stack:
    """The stack that `frame` is the innermost of; at most the 128 innermost frames."""
    frames: list[Frame] = []
    while frame is not None and len(frames) < _DEEPEST:
        code = frame.f_code
        frames.append((code.co_qualname, code.co_filename, frame.f_lineno or code.co_firstlineno))
        frame = frame.f_back
    return tuple(reversed(frames))


def threads_and_tasks() -> dict[Stack, tuple[int, int]]:
    """Every thread and every task of the running loop, as it stands; the thread that asks included."""
    found: dict[Stack, tuple[int, int]] = {}
    stacks = [stack_of(frame) for frame in sys._current_frames().values()]
    for task in asyncio.all_tasks():
        frames = task.get_stack()
        name = (f"task {task.get_name()}", "", 0)
        stacks.append((name, *(stack_of(frame)[-1] for frame in frames)))
    for stack in stacks:
        times = found.get(stack, (0, 0))[0] + 1
        found[stack] = (times, times)
    return found


def cpu_samples(seconds: float, stop: threading.Event) -> dict[Stack, tuple[int, int]]:
    """Who uses the CPU: stacks of threads that have run since the sample before, with their CPU time in ns.

    Blocks for `seconds`, or until `stop`; for a thread of its own.
    """
    found: dict[Stack, tuple[int, int]] = {}
    used_ns: dict[int, int] = {}

    def look(now_ns: int) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = frames.get(thread.ident or 0)
            if frame is None or thread.native_id is None or thread is threading.current_thread():
                continue
            cpu_ns = _cpu_ns(thread.native_id)
            spent_ns = cpu_ns - used_ns.get(thread.native_id, cpu_ns)
            used_ns[thread.native_id] = cpu_ns
            if spent_ns > 0:
                _count(found, stack_of(frame), spent_ns)

    _every_interval(seconds, stop, look)
    return found


def blocked_samples(
    seconds: float, stop: threading.Event, beaten_ns: Callable[[], int], thread_id: int
) -> dict[Stack, tuple[int, int]]:
    """What holds up the event loop: the stack of its thread whenever it is late, with the time in ns.

    `beaten_ns()`: when the loop last turned. Blocks, as `cpu_samples`.
    """
    found: dict[Stack, tuple[int, int]] = {}

    def look(now_ns: int) -> None:
        if now_ns - beaten_ns() > _LATE_NS:
            stack = stack_of(sys._current_frames().get(thread_id))
            _count(found, stack, round(INTERVAL_S * 1e9))

    _every_interval(seconds, stop, look)
    return found


def trace_events(seconds: float, stop: threading.Event) -> list[dict[str, object]]:
    """What each thread was in, over time, as events of Chrome's trace format (microseconds). Blocks."""
    events: list[dict[str, object]] = []
    open_frames: dict[int, list[dict[str, object]]] = {}
    began_ns = time.monotonic_ns()

    def look(now_ns: int) -> None:
        now_us = (now_ns - began_ns) // 1000
        for ident, frame in sys._current_frames().items():
            if ident == threading.get_ident():
                continue
            stack = stack_of(frame)
            stack_events = open_frames.setdefault(ident, [])
            names = [f"{function} {file}" for function, file, _ in stack]
            same = 0
            while same < min(len(names), len(stack_events)) and (
                stack_events[same]["name"] == names[same]
            ):
                same += 1
            del stack_events[same:]
            for name in names[same:]:
                event: dict[str, object] = {"name": name, "ph": "X", "ts": now_us, "dur": 0}
                event |= {"pid": 1, "tid": ident}
                stack_events.append(event)
                events.append(event)
            for event in stack_events:
                began = event["ts"]
                assert isinstance(began, int)
                event["dur"] = now_us - began + round(INTERVAL_S * 1e6)

    _every_interval(seconds, stop, look)
    return events


def allocations() -> dict[Stack, tuple[int, int]]:
    """What memory is used for: objects and bytes by where they were made.

    Blocks for as long as it takes to look at all of them.

    Raises:
        RuntimeError: allocations are not traced.
    """
    found: dict[Stack, tuple[int, int]] = {}
    for trace in tracemalloc.take_snapshot().traces:
        stack = tuple(("", frame.filename, frame.lineno) for frame in trace.traceback)
        _count(found, stack, trace.size)
    return found


def growth(before: Samples, after: Samples) -> dict[Stack, tuple[int, int]]:
    """What has come, or gone, between two samples."""
    found = {}
    for stack in before.keys() | after.keys():
        old, new = before.get(stack, (0, 0)), after.get(stack, (0, 0))
        if old != new:
            found[stack] = (new[0] - old[0], new[1] - old[1])
    return found


def _every_interval(seconds: float, stop: threading.Event, look: Callable[[int], None]) -> None:
    end_ns = time.monotonic_ns() + round(seconds * 1e9)
    while (now_ns := time.monotonic_ns()) < end_ns:
        look(now_ns)
        if stop.wait(INTERVAL_S):
            return


def _count(found: dict[Stack, tuple[int, int]], stack: Stack, amount: int) -> None:
    times, total = found.get(stack, (0, 0))
    found[stack] = (times + 1, total + amount)


def _cpu_ns(native_id: int) -> int:
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0])
    except (OSError, IndexError):
        return 0

"""`/debug/pprof/*`: eight paths, two forms, no secrets (rtcd.md 1.4)."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator

import httpx
import pytest

from sfu import pprof_routes
from sfu.pprof_format import as_protobuf, as_text
from sfu.stacks import cpu_samples, growth, stack_of, threads_and_tasks

PATHS = (
    "heap",
    "delta_heap",
    "delta_block",
    "delta_mutex",
    "goroutine",
    "mutex",
    "profile",
    "trace",
)
QUICK = {"seconds": "0.05"}


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2
            length = varint()
            yield key >> 3, message[at : at + length]
            at += length


def packed(message: bytes) -> list[int]:
    return [value for _, value in fields(b"".join(b"\x08" + bytes([b]) for b in message))]


def read_profile(data: bytes) -> dict[tuple[str, ...], list[int]]:
    """Values by function names from the outermost inwards; small numbers only."""
    found = list(fields(gzip.decompress(data)))
    texts = [value.decode() for number, value in found if number == 6]
    assert texts[0] == ""
    functions = {}
    for number, value in found:
        if number == 5:
            parts = dict(fields(value))
            functions[parts[1]] = texts[parts[2]]
    locations = {}
    for number, value in found:
        if number == 4:
            parts = dict(fields(value))
            locations[parts[1]] = functions[dict(fields(parts[4]))[1]]
    samples = {}
    for number, value in found:
        if number == 2:
            parts = dict(fields(value))
            names = [locations[i] for i in reversed(packed(parts[1]))]
            samples[tuple(names)] = packed(parts[2])
    return samples


A, B, C = ("a", "a.py", 1), ("b", "b.py", 2), ("c", "c.py", 3)
UNITS = (("samples", "count"), ("cpu", "nanoseconds"))


def test_the_protobuf_form_holds_what_was_sampled() -> None:
    samples = {(A, B): (1, 10), (A, C): (2, 20), (A,): (3, 30)}
    found = read_profile(as_protobuf(samples, UNITS, time_ns=5, duration_ns=6))
    assert found == {("a", "b"): [1, 10], ("a", "c"): [2, 20], ("a",): [3, 30]}


def test_units_and_times_are_told() -> None:
    found = list(fields(gzip.decompress(as_protobuf({}, UNITS, time_ns=10**18, duration_ns=7))))
    assert [value for number, value in found if number == 6] == [
        *(b"", b"samples", b"count", b"cpu", b"nanoseconds"),
    ]
    assert [dict(fields(value)) for number, value in found if number == 1] == [
        *({1: 1, 2: 2}, {1: 3, 2: 4}),
    ]
    assert dict(found)[9] == 10**18
    assert dict(found)[10] == 7


def test_what_has_shrunk_is_negative() -> None:
    difference = growth({(A,): (5, 50), (B,): (1, 1)}, {(A,): (2, 20), (B,): (1, 1), (C,): (1, 9)})
    assert difference == {(A,): (-3, -30), (C,): (1, 9)}
    data = gzip.decompress(as_protobuf({(A,): (-3, -30)}, UNITS, time_ns=0))
    sample = next(value for number, value in fields(data) if number == 2)
    values = dict(fields(sample))[2]
    assert values.endswith(b"\xff\x01")  # two's complement in ten bytes
    assert len(values) == 20


def test_the_text_form_has_the_largest_first() -> None:
    assert as_text({(A, B): (1, 10), (C,): (2, 20)}) == "c c.py:3 2 20\na a.py:1;b b.py:2 1 10\n"


@pytest.mark.parametrize(
    "path", ["", "/", "/cmdline", "/symbol", "/block", "/allocs", "/threadcreate"]
)
async def test_there_is_no_index_and_no_ninth_path(plane, path: str) -> None:
    assert (await plane.http.get(f"/debug/pprof{path}")).status_code == 404


@pytest.fixture
def admin(plane) -> httpx.AsyncClient:
    """Asks as the admin."""
    plane.http.headers.update(plane.admin())
    return plane.http


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.documents("a-profile-without-an-admin/2")
async def test_profiles_are_for_the_admin_alone(plane, path: str, documented) -> None:
    url = f"/debug/pprof/{path}"
    assert (await plane.http.get(url)).status_code == 401
    assert (await plane.http.get(url, headers=plane.basic("plugin", "x" * 32))).status_code == 401
    refused = await plane.http.get(url, headers=plane.basic())
    assert refused.status_code == 403
    documented("a-profile-without-an-admin/2", refused.text.strip())


@pytest.mark.documents("a-profile-without-an-admin")
async def test_without_an_admin_there_are_no_profiles(start_plane, documented) -> None:
    plane = await start_plane(enable_admin=False)
    response = await plane.http.get("/debug/pprof/heap", headers=plane.admin())
    assert response.status_code == 403
    documented("a-profile-without-an-admin", response.text.strip())


@pytest.fixture
def traced() -> Iterator[None]:
    """Allocations are traced."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start(4)
    yield
    if started:
        tracemalloc.stop()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_each_path_answers_the_admin_by_any_method(
    admin, traced, path: str, method: str
) -> None:
    response = await admin.request(method, f"/debug/pprof/{path}", params=QUICK)
    assert response.status_code == 200
    if path == "trace":
        assert "traceEvents" in response.json()
    else:
        assert response.headers["content-type"] == "application/octet-stream"
        assert gzip.decompress(response.content)


@pytest.mark.parametrize("path", ["heap", "delta_heap"])
@pytest.mark.documents("a-profile-that-is-refused/3")
async def test_without_traced_allocations_the_heap_says_how_to_have_them(
    admin, path: str, documented
) -> None:
    if tracemalloc.is_tracing():
        pytest.skip("allocations are traced in this run")
    response = await admin.get(f"/debug/pprof/{path}", params=QUICK)
    assert response.status_code == 503
    documented("a-profile-that-is-refused/3", response.text.strip())


async def test_the_dump_of_threads_and_tasks_names_them_and_no_value(admin) -> None:
    async def waits_for_ever(secret: str) -> None:
        await asyncio.sleep(3600)
        assert secret  # so that it is one of the frame's locals

    task = asyncio.create_task(waits_for_ever("the-key-of-a-client"), name="patient")
    await asyncio.sleep(0)
    response = await admin.get("/debug/pprof/goroutine", params={"debug": "2"})
    task.cancel()
    assert "task patient" in response.text
    assert "waits_for_ever" in response.text
    assert "the-key-of-a-client" not in response.text


class Spun(threading.Event):
    """Of a thread that has computed so long since this was first waited for: by its own time, not by that
    which has passed, because others may have the machine."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds, self._waited_for = seconds, False

    def wait(self, timeout: float | None = None) -> bool:
        self._waited_for = True
        return super().wait(timeout)

    def spin(self, until: threading.Event) -> None:
        begun_s: float | None = None
        while not until.is_set():
            sum(range(1000))
            if self._waited_for:
                begun_s = time.thread_time() if begun_s is None else begun_s
                if time.thread_time() - begun_s > self._seconds:
                    self.set()


def test_a_thread_that_computes_is_in_the_profile_and_one_that_waits_is_not() -> None:
    end, enough = threading.Event(), Spun(0.15)
    threads = [
        threading.Thread(target=enough.spin, args=(end,), name="busy"),
        threading.Thread(target=end.wait, args=(30,), name="idle"),
    ]
    for thread in threads:
        thread.start()
    try:
        samples = cpu_samples(20, enough)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    spent_ns = sum(
        ns for stack, (_, ns) in samples.items() if any(f[0] == "Spun.spin" for f in stack)
    )
    waited_ns = sum(
        ns for stack, (_, ns) in samples.items() if stack[-1][0] in ("Event.wait", "Condition.wait")
    )
    assert spent_ns > 20e6
    assert waited_ns < spent_ns / 4


async def test_what_holds_up_the_event_loop_is_in_the_block_profile(admin) -> None:
    def hold_up() -> None:
        time.sleep(0.1)

    asking = asyncio.create_task(
        admin.get("/debug/pprof/delta_block", params={"seconds": "0.4", "debug": "1"})
    )
    while not asking.done():
        hold_up()
        await asyncio.sleep(0.01)
    assert "hold_up" in (await asking).text


async def test_a_trace_has_the_duration_of_what_went_on(admin) -> None:
    response = await admin.get("/debug/pprof/trace", params={"seconds": "0.1"})
    events = json.loads(response.text)["traceEvents"]
    assert events
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in events)
    assert max(event["dur"] for event in events) >= 10_000, "one look at least"


@pytest.mark.documents("a-profile-that-is-refused")
async def test_one_profile_is_taken_at_a_time(
    admin, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    sample = pprof_routes.cpu_samples

    def told(*arguments: object) -> object:
        begun.set()
        may_end.wait(10)
        return sample(*arguments)

    monkeypatch.setattr(pprof_routes, "cpu_samples", told)
    first = asyncio.create_task(admin.get("/debug/pprof/profile", params=QUICK))
    assert await asyncio.to_thread(begun.wait, 10)
    second = await admin.get("/debug/pprof/profile", params=QUICK)
    may_end.set()
    assert second.status_code == 503
    documented("a-profile-that-is-refused", second.text.strip())
    assert (await first).status_code == 200
    assert (await admin.get("/debug/pprof/profile", params=QUICK)).status_code == 200


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "inf", "56", "1e9"])
@pytest.mark.documents("a-profile-that-is-refused/2")
async def test_seconds_that_no_answer_can_take_are_refused(admin, seconds: str, documented) -> None:
    response = await admin.get("/debug/pprof/profile", params={"seconds": seconds})
    assert response.status_code == 400
    documented("a-profile-that-is-refused/2", response.text.strip())
    assert "seconds" in response.text


def test_a_stack_is_cut_to_its_innermost_frames() -> None:
    def deep(levels: int) -> int:
        if levels:
            return deep(levels - 1)
        import sys

        return len(stack_of(sys._getframe()))

    assert deep(300) == 128


async def test_threads_and_tasks_of_this_very_moment_are_counted() -> None:
    assert sum(times for times, _ in threads_and_tasks().values()) >= 2

"""What a hostile client sends in masses: too much at once, too slowly, too big."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from testbed.hostile import CLIENT, KEY, Answer, Hostile, basic, job_wish

_LOGINS: Final = 150
_READS: Final = 150
_STARTS: Final = 40
_STREAMS: Final = 6
_SLOW: Final = 60
_AT_A_TIME: Final = 25
_MIB: Final = 1 << 20
_CLOSED: Final = 0
_SLOW_HEAD_S: Final = 40.0


async def flood(hostile: Hostile, *, victim_id: str, site_url: str) -> None:
    """Wrong logins, reads of nothing and starts of jobs beyond every limit, all at once."""
    turn = asyncio.Semaphore(_AT_A_TIME)

    async def one(
        kind: str, wanted: tuple[int, ...], method: str, path: str, **more: object
    ) -> None:
        async with turn:
            await hostile.tries("floods", kind, wanted, method, path, **more)

    async with asyncio.TaskGroup() as tasks:
        for number in range(_STARTS):
            wish = job_wish(site_url=site_url, call_id=f"{number:026d}")
            tasks.create_task(one("a start", (429, 500), "POST", "/jobs", document=wish))
        for number in range(_LOGINS):
            wrong = {
                "clientID": victim_id if number % 2 else f"nobody{number}",
                "authKey": "w" * 32,
            }
            tasks.create_task(
                one("a wrong login", (400, 401, 429), "POST", "/login", document=wrong, key=None)
            )
        for number in range(_READS):
            tasks.create_task(one("a read", (404,), "GET", f"/jobs/{number:012x}"))


async def listen_too_often(hostile: Hostile, *, limit: int) -> None:
    """More event streams than a client may have: those beyond `limit` are refused."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(_STREAMS):
            status = await stack.enter_async_context(_stream(hostile))
            if number >= limit:
                hostile.note("floods", "an event stream", (429,), status)


@asynccontextmanager
async def _stream(hostile: Hostile) -> AsyncIterator[Answer]:
    reader, writer = await asyncio.open_connection(hostile.host, hostile.port)
    writer.write(
        f"GET /events HTTP/1.1\r\nHost: h\r\nAuthorization: {basic(CLIENT, KEY)}\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(_SLOW_HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
        yield Answer(int(head.split(b" ", 2)[1]), head, b"")
    finally:
        writer.close()


@asynccontextmanager
async def slow_senders(hostile: Hostile) -> AsyncIterator[None]:
    """Connections that say nothing, half a head, or half a body, while the block runs."""
    parts = (
        b"",
        b"GET /version HTTP/1.1\r\nHo",
        b'POST /login HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n{"clientID"',
    )
    writers = []
    try:
        for number in range(_SLOW):
            _, writer = await asyncio.open_connection(hostile.host, hostile.port)
            writer.write(parts[number % len(parts)])
            writers.append(writer)
        yield
    finally:
        for writer in writers:
            writer.close()


async def send_half_a_head(hostile: Hostile) -> None:
    """And wait: the service ends it."""
    answer = await hostile.send(b"GET /version HTTP/1.1\r\nHo")
    hostile.note("slow bodies", "half a head", (408,), answer)


async def send_too_much(hostile: Hostile, *, site_url: str) -> None:
    """Bodies, heads, numbers, depths, counts and names beyond every bound."""
    kind = "huge inputs"
    big = b'{"input_data":{"x":"' + b"x" * (2 * _MIB) + b'"}}'
    await hostile.tries(kind, "2 MiB of body", (413, _CLOSED), "POST", "/jobs", body=big)
    deep = b'{"input_data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"
    for what, body in (
        ("depth", deep),
        ("lists", b"[" * 200_000),
        ("a number of 10,000 digits", b'{"max_duration_sec":' + b"9" * 10_000 + b"}"),
        ("NaN", b'{"max_duration_sec":NaN}'),
        ("half a character", b'{"type":"\\ud800"}'),
        ("no UTF-8", b'{"type":"\xff\xfe"}'),
    ):
        await hostile.tries(kind, what, (400,), "POST", "/jobs", body=body)
    for what, more in (
        ("300 keys", {f"key{number}": "x" for number in range(300)}),
        ("a long key", {"k" * 1000: "x"}),
        ("40 KiB of value", {"key": "x" * 40_000}),
        ("nested values", {"key": [[[[[[[[[[["x"]]]]]]]]]]]}),
        ("NUL", {"key": "a\0b"}),
        ("beyond all numbers", {"key": float("inf")}),
    ):
        wish = job_wish(site_url=site_url) | {"input_data": {**more, "site_url": site_url}}
        await hostile.tries(kind, what, (400,), "POST", "/jobs", document=wish)
    long_head = {"X-Filler": "x" * 400_000}
    await hostile.tries(
        kind, "400 KB of head", (431, _CLOSED), "GET", "/version", headers=long_head
    )
    name = {"clientID": "n" * 10_000, "authKey": KEY}
    await hostile.tries(
        kind, "a long name", (400, 403), "POST", "/register", document=name, key=None
    )

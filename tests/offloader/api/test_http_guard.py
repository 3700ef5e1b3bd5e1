"""The bound of a request's head holds to the byte, however the head is cut into reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from foundation.clock import ManualClock
from foundation.limited_lines import OF_ONE_SOURCE, LimitedLines
from offloader import http_guard

MOST = http_guard.HEAD_BYTES
HEADERS = b"POST /login HTTP/1.1\r\nHost: h\r\n"
CHUNKED = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
BEFORE = {
    "nothing": b"",
    "a request": b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
    "a body": HEADERS + b"Content-Length: 9\r\n\r\n\r\n\r\n{\r\n\r\n",
    "chunks": CHUNKED + b"4\r\n\r\n\r\n\r\n1;e=f\r\n{\r\n0\r\n\r\n",
    "chunks and trailers": CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\nX: y\r\n\r\n",
    "an upgrade that is not made": b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
}
"""What else was sent on the connection."""
WAYS = {
    "one read": (),
    "the last byte apart": (-1,),
    "the last two apart": (-2,),
    "the last three apart": (-3,),
    "the last four apart": (-4,),
    "the end byte by byte": (-4, -3, -2, -1),
    "many reads": tuple(range(1000, MOST, 1000)),
}
"""Where a head is cut."""


class Pipe(asyncio.Transport):
    """The transport of a connection whose reads a test decides on."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Reads are the test's."""

    def resume_reading(self) -> None:
        """As above."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the names of the header fields, and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = sorted(name.decode() for name, _ in scope["headers"])
    told = json.dumps({"fields": names, "body": body.decode()}).encode()
    length = (b"content-length", str(len(told)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": told})


async def answers_to(*reads: bytes) -> list[tuple[int, Any]]:
    """Status and document of each answer on a connection; whoever sends waits for answers between reads."""
    config = uvicorn.Config(echo, lifespan="off", log_config=None, access_log=False)
    config.load()
    server = ServerState()
    protocol = http_guard.GuardedProtocol(config=config, server_state=server, app_state={})
    pipe = Pipe()
    protocol.connection_made(pipe)
    for read in reads:
        protocol.data_received(read)
        while server.tasks and not protocol.cycle.more_body:
            await asyncio.gather(*server.tasks)
    protocol.connection_lost(None)
    await asyncio.gather(*server.tasks)
    found = []
    for answer in pipe.written.split(b"HTTP/1.1 ")[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        found.append((int(head[:3]), json.loads(body)))
    return found


def head_of(length: int) -> bytes:
    """A request with a head of exactly that many bytes."""
    start = b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: "
    return start + b"x" * (length - len(start) - 4) + b"\r\n\r\n"


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` in pieces; places below 0 count from its end."""
    ends = [place if place > 0 else len(data) + place for place in places]
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("way", WAYS)
async def test_a_head_of_64_kib_is_served_and_one_byte_more_is_not(way: str, before: str) -> None:
    sent = [BEFORE[before]] if BEFORE[before] else []
    served = [200] * len(sent)
    answers = await answers_to(*sent, *cut(head_of(MOST), WAYS[way]))
    assert [status for status, _ in answers] == [*served, 200]
    assert answers[-1][1]["fields"] == ["host", "x"]
    answers = await answers_to(*sent, *cut(head_of(MOST + 1), WAYS[way]))
    assert [status for status, _ in answers] == [*served, 431]
    assert answers[-1][1]["error"] == f"request head too large: more than {MOST} bytes"


@pytest.mark.parametrize("before", ["a request", "a body", "chunks", "chunks and trailers"])
async def test_a_head_behind_something_else_in_the_same_read_counts_from_its_own_first_byte(
    before: str,
) -> None:
    answers = await answers_to(BEFORE[before] + head_of(MOST))
    assert [status for status, _ in answers] == [200, 200]
    # What was asked before is still being answered then: an answer now would be taken for that one's.
    assert await answers_to(BEFORE[before] + head_of(MOST + 1)) == []


async def test_what_follows_a_wish_for_another_protocol_in_its_read_is_no_request() -> None:
    answers = await answers_to(BEFORE["an upgrade that is not made"] + b"PRI * HTTP/2.0\r\n\r\nSM")
    assert [status for status, _ in answers] == [200]


async def test_what_is_no_request_is_answered_every_time_and_logged_so_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warnings = LimitedLines("http.malformed", clock=ManualClock())
    monkeypatch.setattr(http_guard.GuardedProtocol, "_malformed", warnings)
    with capture_logs() as lines:
        for _ in range(OF_ONE_SOURCE + 20):
            assert [status for status, _ in await answers_to(b"no request\r\n\r\n")] == [400]
    assert lines == OF_ONE_SOURCE * [
        {"event": "http.malformed", "log_level": "warning", "peer": "127.0.0.1"}
    ]
    for _ in range(3):
        await answers_to(BEFORE["an upgrade that is not made"])
    assert caplog.records == []


async def test_line_ends_before_a_request_are_part_of_its_head() -> None:
    for ends in (b"\r\n", b"\r\n\r\n\r\n"):
        [(status, _)] = await answers_to(ends + head_of(MOST - len(ends)))
        assert status == 200
        [(status, _)] = await answers_to(ends + head_of(MOST + 1 - len(ends)))
        assert status == 431


async def test_any_number_of_line_ends_before_a_request_costs_one_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse, parts = http_guard.GuardedProtocol._parse, []

    def counting(protocol: http_guard.GuardedProtocol, data: bytes) -> None:
        parts.append(len(data))
        parse(protocol, data)

    monkeypatch.setattr(http_guard.GuardedProtocol, "_parse", counting)
    [(status, _)] = await answers_to(b"\r\n" * 20_000 + BEFORE["a request"])
    assert (status, parts) == (200, [40_000, len(BEFORE["a request"])])
    parts.clear()
    [(status, _)] = await answers_to(b"\r\n" * 10_000 + b"\r", b"\n" * 500_000)
    assert (status, parts) == (431, [20_001, MOST - 20_001])


@pytest.mark.documents("a-head-that-is-too-large/2")
async def test_trailer_fields_are_no_header_fields_and_have_a_bound_as_well(
    documented: Any,
) -> None:
    start = CHUNKED + b"1\r\n{\r\n0\r\n"
    [(status, told)] = await answers_to(start + b"Authorization: x\r\n\r\n")
    assert (status, told["fields"]) == (200, ["host", "transfer-encoding"])
    [(status, told)] = await answers_to(start, *[b"A: b\r\n" * 2000] * 6)
    assert status == 431
    documented("a-head-that-is-too-large/2", told["error"])


@pytest.mark.parametrize("name", ["a body", "chunks", "chunks and trailers"])
async def test_a_body_arrives_whole_wherever_it_is_cut(name: str) -> None:
    wanted = {"a body": "\r\n\r\n{\r\n\r\n", "chunks": "\r\n\r\n{"}.get(name, "\r\n\r\n")
    request = BEFORE[name]
    for first in range(1, len(request)):
        [(status, told)] = await answers_to(request[:first], request[first:])
        assert (status, told["body"]) == (200, wanted), first
    answers = await answers_to(*(bytes([byte]) for byte in request * 2))
    assert [told["body"] for _, told in answers] == [wanted, wanted]


async def test_a_url_that_is_none_is_answered_400() -> None:
    bad = b"GET http://[ HTTP/1.1\r\nHost: h\r\n\r\n"
    for reads in ((bad,), (BEFORE["a request"], bad)):
        assert [status for status, _ in await answers_to(*reads)][len(reads) - 1 :] == [400]

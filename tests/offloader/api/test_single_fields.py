"""A header of which a request may have one is never there twice, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

KEY = "k" * 32


def basic(client_id: str, key: str = KEY) -> str:
    token = base64.b64encode(f"{client_id}:{key}".encode()).decode()
    return f"Authorization: Basic {token}"


ONE = [
    ("Authorization", [basic("plugin")], [basic("other")]),
    ("Authorization", [basic("plugin")], [basic("plugin").replace("A", "a", 1)]),
    ("Authorization", [basic("plugin")], ["Authorization: Bearer x"]),
    ("Idempotency-Key", ["Idempotency-Key: a"], [basic("plugin"), "idempotency-key: b"]),
    ("Idempotency-Key", ["Idempotency-Key: a"], [basic("plugin"), "Idempotency-Key: a"]),
    ("Host", [], ["HOST: elsewhere", basic("plugin")]),
]
"""What is repeated, the first lines of the request, the later ones."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(serve, tmp_path_factory) -> AsyncIterator:
    async with serve(tmp_path_factory.mktemp("service")) as service:
        yield service


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def answer(served, *lines: str, body: str = "{}", path: str = "/jobs") -> tuple[int, dict]:
    """To one POST, `Host` first."""
    reader, writer = await served.connect()
    head = [f"POST {path} HTTP/1.1", "Host: here", "Connection: close", *lines]
    writer.write("\r\n".join([*head, "", body]).encode())
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    top, _, rest = raw.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


@pytest.mark.parametrize(("name", "first", "later"), ONE)
async def test_two_of_one_header_are_refused_by_name_and_neither_counts(
    served, name: str, first: list[str], later: list[str]
) -> None:
    for path in ("/jobs", "/login", "/no/such/path"):
        status, document = await answer(served, *first, "Content-Length: 2", *later, path=path)
        text = f"header {name} should be there once"
        assert (status, document) == (400, {"error": text, "code": "400"})
    for client in ("plugin", "other"):
        body = json.dumps({"clientID": client, "authKey": KEY})
        assert "not found" in (await served.http.post("/login", content=body)).json()["error"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Content-Length: 2"),
        ("Content-Length: 2", "Content-Length: 9"),
        ("Content-Length: 2, 2",),
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 2"),
    ],
)
async def test_two_lengths_of_one_body_are_refused_by_the_parser(served, lines: tuple[str]) -> None:
    status, document = await answer(served, basic("plugin"), *lines)
    assert (status, document["code"]) == (400, "400")


async def test_one_of_each_is_what_a_request_has(served) -> None:
    lines = (basic("once"), "Idempotency-Key: a", "Content-Length: 2", "X-Any: 1", "X-Any: 2")
    status, document = await answer(served, *lines)
    assert status == 400
    assert document["error"] == "invalid Type value: should not be empty"

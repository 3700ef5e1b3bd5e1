"""A part of a file: which one a request wants, and over HTTP that it gets exactly that one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.datastructures import Headers

from offloader.api.ranges import ByteRange, Unsatisfiable, wanted_range
from offloader.errors import BackendError

ETAG = '"v1"'
CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)


def wanted(value: str, *more: str, size: int = 1000, etag: str = ETAG, **headers: str) -> Any:
    raw = [(b"range", text.encode()) for text in (value, *more)]
    raw += [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return wanted_range(Headers(raw=raw), size_bytes=size, etag=etag)


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 1000),
        ("bytes=10-19", 10, 20),
        ("BYTES= 10-19 ", 10, 20),
        ("bytes=990-2000", 990, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=007-0008", 7, 9),
        (f"bytes=5-{'9' * 6000}", 5, 1000),
        (f"bytes=-{'9' * 6000}", 0, 1000),
    ],
)
def test_one_range_is_found(value: str, start: int, end: int) -> None:
    assert wanted(value) == ByteRange(start, end)


@pytest.mark.parametrize(
    "value",
    ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=-000", f"bytes={'9' * 6000}-"],
)
def test_a_range_past_the_end_cannot_be_satisfied(value: str) -> None:
    with pytest.raises(Unsatisfiable):
        wanted(value)


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-5"])
def test_an_empty_file_has_no_ranges(value: str) -> None:
    with pytest.raises(Unsatisfiable):
        wanted(value, size=0)


@pytest.mark.parametrize(
    "value",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=1-2,4-5"),
        *("items=0-1", "bytes 0-1", "bytes=0-1;", "bytes=+1-2", "bytes=1--2", "bytes=\u0661-2"),
    ],
)
def test_what_is_no_single_range_counts_as_none(value: str) -> None:
    assert wanted(value) is None


def test_no_range_and_two_headers_are_none() -> None:
    assert wanted_range(Headers(), size_bytes=1000, etag=ETAG) is None
    assert wanted("bytes=0-1", "bytes=4-5") is None


@pytest.mark.parametrize(
    ("if_range", "etag", "counts"),
    [
        (ETAG, ETAG, True),
        ('"v2"', ETAG, False),
        ('W/"v1"', ETAG, False),
        ("Sat, 21 Nov 2026 09:00:00 GMT", ETAG, False),
        ("", "", False),
        (ETAG, "", False),
    ],
)
def test_another_version_of_the_file_is_given_whole(if_range: str, etag: str, counts) -> None:
    assert (wanted("bytes=1-2", etag=etag, if_range=if_range) is not None) is counts
    if not counts:  # also where the range alone would be refused
        assert wanted("bytes=5000-", etag=etag, if_range=if_range) is None


@pytest.fixture
async def fetch(serve: Any, tmp_path: Any) -> AsyncIterator[Any]:
    """Ask for the file of a job over a real connection."""
    async with serve(tmp_path) as served:
        body = {"type": "recording", "max_duration_sec": 60}
        body["runner"] = "mattermost/calls-recorder:v0.8.13"
        headers = served.basic("plugin")
        job_id = (await served.http.post("/jobs", json=body, headers=headers)).json()["id"]
        served.backend.files = {"r1/part.mp4": CONTENT, "r1/none": b""}

        async def ask(name: str = "r1/part.mp4", **wishes: str) -> Any:
            wished = {name.replace("_", "-"): value for name, value in wishes.items()}
            path = f"/jobs/{job_id}/artifacts/{name}"
            return await served.http.get(path, headers=headers | wished)

        ask.files, ask.backend = served.backend.files, served.backend
        yield ask


async def test_a_whole_file_says_that_it_can_be_had_in_parts(fetch) -> None:
    response = await fetch()
    assert (response.status_code, response.content) == (200, CONTENT)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"].startswith("attachment; ")
    assert "content-range" not in response.headers


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=5000-", 5000, SIZE), ("bytes=-7", SIZE - 7, SIZE)],
)
async def test_a_part_is_exactly_what_was_asked_for(fetch, value, start, end) -> None:
    response = await fetch(range=value)
    assert (response.status_code, response.content) == (206, CONTENT[start:end])
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert response.headers["content-length"] == str(end - start)


async def test_an_interrupted_download_goes_on_unless_the_file_is_another_one(fetch) -> None:
    etag = (await fetch()).headers["etag"]
    rest = await fetch(range="bytes=100-", if_range=etag)
    assert (rest.status_code, rest.content, rest.headers["etag"]) == (206, CONTENT[100:], etag)
    fetch.files["r1/part.mp4"] = b"another"
    whole = await fetch(range="bytes=100-", if_range=etag)
    assert (whole.status_code, whole.content) == (200, b"another")
    assert whole.headers["etag"] != etag


@pytest.mark.parametrize(
    ("name", "value", "size"),
    [("r1/part.mp4", f"bytes={SIZE}-", SIZE), ("r1/none", "bytes=0-", 0)],
)
async def test_a_part_that_is_not_there_is_416_with_the_size(fetch, name, value, size) -> None:
    response = await fetch(name, range=value)
    assert (response.status_code, response.json()["code"]) == (416, "416")
    assert response.headers["content-range"] == f"bytes */{size}"


async def test_no_part_of_a_file_that_is_not_there(fetch) -> None:
    assert (await fetch("r1/no", range="bytes=0-1")).status_code == 404


async def test_a_file_that_goes_after_it_was_listed_is_refused_and_no_answer_breaks_off(
    fetch, monkeypatch, caplog
) -> None:
    """A job that still runs can put a link in its place at any moment."""

    async def gone(*_: Any, **__: Any) -> AsyncIterator[bytes]:
        raise BackendError("no file 'r1/part.mp4'")
        yield b""

    monkeypatch.setattr(fetch.backend, "read_artifact", gone)
    response = await fetch()
    assert (response.status_code, response.json()["code"]) == (500, "500")
    assert "Exception in ASGI application" not in caplog.text


async def test_an_empty_file_is_given(fetch) -> None:
    response = await fetch("r1/none")
    assert (response.status_code, response.content) == (200, b"")

"""Files arrive whole: in parts, resumed where the server is, begun anew when the session is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from callclient.plugin_api import ApiError, UploadSession
from jobs.part_size import MIN_FIRST_BYTES
from jobs.uploads import Uploader

pytestmark = pytest.mark.looptime
MIB = 1024 * 1024


class Server:
    """Upload sessions as calls-plugin.md 5.3 has them."""

    def __init__(self, *, most_per_request: int = 100 * MIB) -> None:
        self.most = most_per_request
        self.sessions: dict[str, bytearray] = {}
        self.sizes: dict[str, int] = {}
        self.parts: list[int] = []
        self.faults: list[ApiError | str] = []
        """Before each data request: an error, or `gone` to forget the session first."""

    async def create_upload(
        self, channel_id: str, *, filename: str, file_size_bytes: int
    ) -> UploadSession:
        upload_id = f"u{len(self.sizes)}"
        self.sessions[upload_id] = bytearray()
        self.sizes[upload_id] = file_size_bytes
        return UploadSession(upload_id, file_size_bytes, 0)

    async def get_upload(self, upload_id: str) -> UploadSession:
        if upload_id not in self.sessions:
            raise ApiError("404", status=404, retryable=False)
        return UploadSession(upload_id, self.sizes[upload_id], len(self.sessions[upload_id]))

    async def send_upload_data(
        self, upload_id: str, chunks: AsyncIterator[bytes], *, length_bytes: int
    ) -> str | None:
        data = b"".join([chunk async for chunk in chunks])
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, ApiError):
                if fault.status is None:  # the connection broke in the middle
                    self.sessions[upload_id] += data[: len(data) // 2]
                raise fault
            del self.sessions[upload_id]
            raise ApiError("404", status=404, retryable=False)
        assert len(data) == length_bytes
        have, size = self.sessions[upload_id], self.sizes[upload_id]
        if not have and len(data) < MIN_FIRST_BYTES and len(data) < size:
            raise ApiError("first part too small", status=400, retryable=False)
        self.parts.append(len(data))
        have += data[: self.most]
        return f"file-{upload_id}" if len(have) == size else None


CONTENT = bytes(range(256)) * (18 * MIB // 256)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.mp4"
    path.write_bytes(CONTENT)
    return path


async def send(server: Server, file: Path, **options: Any) -> str:
    uploader = Uploader(server, **options)
    return await uploader.upload(file, channel_id="c", filename="x.mp4")


async def test_a_file_arrives_in_parts_and_byte_for_byte(file: Path) -> None:
    server, progress = Server(), []
    assert (
        await send(server, file, on_progress=lambda *values: progress.append(values)) == "file-u0"
    )
    assert server.parts == [8 * MIB, 8 * MIB, 2 * MIB]
    assert server.sessions["u0"] == CONTENT
    assert [done for done, _ in progress] == [0, 8 * MIB, 16 * MIB, 18 * MIB]
    assert {total for _, total in progress} == {18 * MIB}


async def test_parts_that_the_server_cuts_off_are_continued_where_it_is(file: Path) -> None:
    server = Server(most_per_request=3 * MIB)
    await send(server, file)
    assert server.sessions["u0"] == CONTENT


@pytest.mark.parametrize("status", [None, 429, 500, 503])
async def test_broken_connections_and_passing_errors_are_resumed(
    file: Path, status: int | None
) -> None:
    server = Server()
    server.faults = [ApiError("x", status=status, retryable=True)] * 3
    await send(server, file)
    assert server.sessions["u0"] == CONTENT
    assert len(server.sizes) == 1, "the same session"


async def test_a_session_that_is_gone_is_made_anew(file: Path) -> None:
    server = Server()
    server.faults = ["gone"]
    assert await send(server, file) == "file-u1"
    assert server.sessions["u1"] == CONTENT


async def test_a_refusal_for_good_is_not_repeated(file: Path) -> None:
    server = Server()
    server.faults = [ApiError("x", status=403, retryable=False)]
    with pytest.raises(ApiError):
        await send(server, file)
    assert server.parts == []


async def test_patience_ends_only_without_any_progress(file: Path) -> None:
    server, loop = Server(), asyncio.get_running_loop()
    server.faults = [ApiError("x", status=500, retryable=True)] * 1000
    began_s = loop.time()
    with pytest.raises(ApiError):
        await send(server, file)
    assert 900 < loop.time() - began_s < 960


async def test_a_server_that_is_away_for_five_minutes_costs_only_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, loop = Server(), asyncio.get_running_loop()
    began_s = loop.time()
    take = server.send_upload_data

    async def away(
        upload_id: str, chunks: AsyncIterator[bytes], *, length_bytes: int
    ) -> str | None:
        if loop.time() - began_s < 300:
            raise ApiError("x", status=None, retryable=True, surely_not_arrived=True)
        return await take(upload_id, chunks, length_bytes=length_bytes)

    monkeypatch.setattr(server, "send_upload_data", away)
    await send(server, file)
    assert server.sessions["u0"] == CONTENT
    assert 300 < loop.time() - began_s < 360


async def test_the_server_s_own_wish_is_waited_for(file: Path) -> None:
    server, loop = Server(), asyncio.get_running_loop()
    server.faults = [ApiError("x", status=429, retryable=True, retry_after_s=90.0)]
    began_s = loop.time()
    await send(server, file)
    assert 90 <= loop.time() - began_s < 95


async def test_400_is_believed_when_it_is_repeated(file: Path) -> None:
    server = Server()
    server.faults = [ApiError("x", status=400, retryable=False)] * 3
    await send(server, file)
    server.faults = [ApiError("x", status=400, retryable=False)] * 4
    with pytest.raises(ApiError):
        await send(server, file)


async def test_a_small_file_is_one_part(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"WEBVTT\n")
    server = Server()
    assert await send(server, tmp_path / "x") == "file-u0"
    assert server.parts == [7]

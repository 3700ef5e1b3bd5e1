"""Files arrive whole: in parts, resumed where the server is, begun anew when the session is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from callclient.plugin_api import ApiError, UploadSession
from jobs.uploads import MIN_FIRST_PART_BYTES, Uploader

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
        self, upload_id: str, data: bytes, *, length_bytes: int
    ) -> str | None:
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
        if not have and len(data) < MIN_FIRST_PART_BYTES and len(data) < size:
            raise ApiError("first part too small", status=400, retryable=False)
        self.parts.append(len(data))
        have += data[: self.most]
        return f"file-{upload_id}" if len(have) == size else None


CONTENT = bytes(range(256)) * (12 * MIB // 256)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.mp4"
    path.write_bytes(CONTENT)
    return path


async def send(server: Server, file: Path, **options) -> str:
    uploader = Uploader(server, part_size_bytes=5 * MIB, **options)  # type: ignore[arg-type]
    return await uploader.upload(file, channel_id="c", filename="x.mp4")


async def test_a_file_arrives_in_parts_and_byte_for_byte(file: Path) -> None:
    server, progress = Server(), []
    assert (
        await send(server, file, on_progress=lambda *values: progress.append(values)) == "file-u0"
    )
    assert server.parts == [5 * MIB, 5 * MIB, 2 * MIB]
    assert server.sessions["u0"] == CONTENT
    assert [done for done, _ in progress] == [0, 5 * MIB, 10 * MIB, 12 * MIB]
    assert {total for _, total in progress} == {12 * MIB}


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


async def test_attempts_run_out_only_without_any_progress(file: Path) -> None:
    server = Server()
    server.faults = [ApiError("x", status=500, retryable=True)] * 100
    with pytest.raises(ApiError):
        await send(server, file)
    assert len(server.faults) == 100 - 20


async def test_a_small_file_is_one_part(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"WEBVTT\n")
    server = Server()
    assert await send(server, tmp_path / "x") == "file-u0"
    assert server.parts == [7]


def test_parts_below_what_the_server_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="part_size_bytes = 1: should be at least"):
        Uploader(Server(), part_size_bytes=1)  # type: ignore[arg-type]

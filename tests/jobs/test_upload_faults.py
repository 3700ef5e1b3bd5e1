"""Whatever goes wrong on the way, a file arrives byte for byte, or the reason is told and it stays.

The real uploader and the real HTTP client against the stand-in's uploads over sockets.
"""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from callclient import plugin_api
from callclient.plugin_api import ApiError, PluginApi
from foundation.retry import Backoff
from jobs.publication import PublishState
from jobs.uploads import Uploader
from testbed.plugin.calls import Calls
from testbed.plugin.client_config import ClientConfig
from testbed.plugin.faults import Faults
from testbed.plugin.hub import Hub
from testbed.plugin.job_service import JobServiceClient, PluginSettings
from testbed.plugin.jobs import JobLifecycle
from testbed.plugin.posts import Archive
from testbed.plugin.routes import PluginRoutes
from testbed.plugin.uploads import Uploads
from testbed.plugin.world import World

MIB = 1024 * 1024
SIZE = 17 * MIB
AT_ONCE = Backoff(attempts=1, first_wait_s=0.01, growth=1.0)


@dataclass
class Site:
    """The stand-in's uploads behind a real socket."""

    url: str
    world: World
    faults: Faults
    uploads: Uploads
    archive: Archive
    parts: list[int]
    """Content lengths of the parts as they came, refused ones included."""

    clients: list[PluginApi]

    def api(self) -> PluginApi:
        """A client with the newest token."""
        self.clients.append(PluginApi(site_url=self.url, auth_token=self.world.bot.token))
        return self.clients[-1]

    @property
    def stored(self) -> list[bytes]:
        return [file.path.read_bytes() for file in self.archive.files.values()]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    world, faults = World.create(), Faults()
    archive = Archive(tmp_path / "files")
    uploads = Uploads(tmp_path / "uploads", archive, max_file_size_bytes=100 * MIB)
    calls = Calls(world=world, hub=Hub(world.bot), archive=archive, sfus=None, faults=faults)
    settings = PluginSettings(site_url="http://127.0.0.1")
    jobs = JobLifecycle(calls, JobServiceClient("http://127.0.0.1", settings), settings)
    routes = PluginRoutes(calls, jobs, uploads, config=ClientConfig(), sfu_version=dict)
    app, parts = FastAPI(), []

    @app.middleware("http")
    async def note(request: Any, call_next: Any) -> Any:
        if request.method == "POST" and "/bot/uploads/" in request.url.path:
            parts.append(int(request.headers["content-length"]))
        return await call_next(request)

    app.include_router(routes.router)
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio holds answers back for 40 ms
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server._serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    standing = Site(url, world, faults, uploads, archive, parts, [])
    yield standing
    for client in standing.clients:
        await client.aclose()
    server.should_exit = True
    await serving


@pytest.fixture(scope="module")
def content() -> bytes:
    return (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "recording.mp4"
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes nothing is given up on at once."""
    timeout = httpx.Timeout(5.0, write=0.2, read=1.0)
    monkeypatch.setattr(plugin_api, "_DATA_TIMEOUT", timeout)


async def send(site: Site, file: Path, **more: Any) -> str:
    uploader = Uploader(site.api(), backoff=AT_ONCE, **more.pop("uploader", {}))
    return await uploader.upload(file, channel_id=site.world.channel_id, filename="x.mp4", **more)


def kept(file: Path) -> bool:
    return file.stat().st_size == SIZE


FAULTS: dict[str, dict[str, int]] = {
    "nothing": {},
    "500": {"refuse_upload_parts": 3},
    "429 with Retry-After": {"limit_upload_parts": 1},
    "cut in the middle of a part": {"cut_upload_parts": 3},
    "stalls": {"stall_upload_parts": 2},
    "400 while the broken request is at work": {"contradict_upload_parts": 2},
    "the session is forgotten": {"forget_uploads": 1},
    "slow": {"upload_chunk_delay_ms": 2},
    "all of it": {
        "refuse_upload_parts": 1,
        "cut_upload_parts": 1,
        "stall_upload_parts": 1,
        "contradict_upload_parts": 1,
    },
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
async def test_a_file_arrives_once_and_byte_for_byte(
    site: Site, file: Path, content: bytes, faults: dict[str, int]
) -> None:
    site.faults.set(faults)
    file_id = await send(site, file)
    assert list(site.archive.files) == [file_id]
    assert site.stored == [content]


async def test_parts_begin_with_8_mib_and_stay_below_what_the_server_keeps(
    site: Site, file: Path, content: bytes
) -> None:
    site.uploads.max_file_size_bytes = 6 * MIB
    await send(site, file)
    assert site.parts[0] == 8 * MIB
    assert set(site.parts[1:-1]) == {6 * MIB}
    assert site.stored == [content]


async def test_a_proxy_s_limit_is_found_but_the_first_part_has_5_mib(
    site: Site, file: Path, content: bytes
) -> None:
    site.faults.set({"too_large_upload_bytes": 5 * MIB})
    await send(site, file)
    assert site.parts[:2] == [8 * MIB, 5 * MIB]
    assert max(site.parts[2:]) <= 5 * MIB
    assert site.stored == [content]


@pytest.mark.documents("an-upload-that-a-proxy-refuses")
async def test_a_limit_below_the_least_first_part_is_a_refusal_that_names_413(
    site: Site, file: Path, content: bytes, documented
) -> None:
    site.faults.set({"too_large_upload_bytes": 1 * MIB})
    with pytest.raises(ApiError) as refused:
        await send(site, file)
    documented("an-upload-that-a-proxy-refuses", str(refused.value))
    assert kept(file)


@pytest.mark.documents("a-token-that-was-revoked")
async def test_a_revoked_token_ends_it_at_once_and_the_next_one_goes_on_there(
    site: Site, file: Path, content: bytes, tmp_path: Path, documented
) -> None:
    state, channel_id = PublishState(tmp_path), site.world.channel_id
    site.uploads.max_file_size_bytes = 9 * MIB
    revoke = site.world.renew_token

    def after_first_part(done: int, total: int) -> None:
        if done and not site.world.revoked:
            revoke(site.world.bot)

    with pytest.raises(ApiError) as refused:
        await state.upload_once(
            site.api(), file, channel_id=channel_id, filename="x.mp4", on_progress=after_first_part
        )
    documented("a-token-that-was-revoked", str(refused.value))
    sent = sum(site.parts)
    again = PublishState(tmp_path)  # another process, with the new token
    await again.upload_once(site.api(), file, channel_id=channel_id, filename="x.mp4")
    assert site.stored == [content]
    assert sum(site.parts) < SIZE + sent
    assert len(site.uploads.open) == 0, "the dead process's session was used"


async def test_a_lost_answer_to_the_last_part_costs_another_upload_and_no_error(
    site: Site, file: Path, content: bytes
) -> None:
    def lose_the_last(done: int, total: int) -> None:
        if 0 < total - done <= 8 * MIB and not site.archive.files:
            site.faults.lose_upload_answers = 1

    uploader = Uploader(site.api(), backoff=AT_ONCE, on_progress=lose_the_last)
    await uploader.upload(file, channel_id=site.world.channel_id, filename="x.mp4")
    assert site.stored == [content] * 2


@pytest.mark.documents("mattermost-answers-with-an-error")
async def test_a_server_that_stays_away_is_given_up_on_and_the_file_stays(
    site: Site, file: Path, documented
) -> None:
    site.faults.set({"refuse_bot_status": 502})
    with pytest.raises(ApiError) as given_up:
        await send(site, file, uploader={"patience_s": 0.2})
    documented("mattermost-answers-with-an-error", str(given_up.value))
    assert kept(file)


async def test_a_session_that_another_file_has_is_not_gone_on_with(
    site: Site, file: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"x")
    other = site.uploads.create(site.world.bot, site.world.channel_id, "other", 7 * MIB, 0)
    await send(site, small, resume=other.upload_id)
    assert site.stored == [b"x"]


async def test_memory_does_not_grow_with_the_part(site: Site, file: Path) -> None:
    # The server is in this process too: its own buffers are taken away by refusing without reading.
    site.faults.set({"refuse_upload_parts": 1000})
    tracemalloc.start()
    with pytest.raises(ApiError):
        await send(site, file, uploader={"patience_s": 0.3})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 * MIB

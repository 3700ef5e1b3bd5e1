"""`python -m testbed.plugin`: what it says when it is ready, how it ends, and why it does not start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

_TIMEOUT_S = 25.0


@asynccontextmanager
async def _started(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "testbed.plugin", *arguments, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _failed(*arguments: str) -> str:
    """Exit code 1 without a word on standard output; what it says on standard error."""
    async with _started(*arguments) as process, asyncio.timeout(_TIMEOUT_S):
        out, errors = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    return errors.decode()


async def test_it_is_ready_with_one_line_serves_and_ends_on_sigterm(
    played_sfu, tmp_path: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    arguments = ["--listen", f"127.0.0.1:{unused_tcp_port}", "--rtcd-url", played_sfu.url]
    arguments += ["--job-service-url", "http://127.0.0.1:9", "--data-dir", str(tmp_path)]
    async with _started(*arguments) as process, asyncio.timeout(_TIMEOUT_S):
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline()) == {"event": "ready", "url": url}
        world_file = tmp_path / "world.json"
        assert world_file.stat().st_mode & 0o777 == 0o600
        world = json.loads(world_file.read_text())
        assert world["host"] == "alice"
        assert set(world["users"]) == {"alice", "bob", "carol", "dave"}
        await _call(url, world)
        assert played_sfu.registrations
        process.send_signal(signal.SIGTERM)
        out, errors = await process.communicate()
    assert (process.returncode, out) == (0, b"")
    tokens = [user["token"] for user in [world["bot"], *world["users"].values()]]
    assert not [token for token in tokens if token in errors.decode()]


async def _call(url: str, world: dict) -> None:
    """A join over the real network, an 8 KiB limit that holds, and a route."""
    headers = {"Authorization": f"Bearer {world['users']['alice']['token']}"}
    uri = url.replace("http", "ws", 1) + "/api/v4/websocket"
    async with websockets.connect(uri, additional_headers=headers, proxy=None) as client:
        assert json.loads(await client.recv())["event"] == "hello"
        join = {
            "action": "custom_com.mattermost.calls_join",
            "seq": 1,
            "data": {"channelID": world["channel_id"]},
        }
        await client.send(json.dumps(join))
        names = [json.loads(await client.recv())["event"].rpartition("_")[2] for _ in range(4)]
        assert names == ["start", "join", "joined", "state"]
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
            route = f"/plugins/com.mattermost.calls/calls/{world['channel_id']}/active"
            assert (await http.get(route)).json() == {"active": True}
        await client.send("x" * 8193)
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()


@pytest.mark.documents("a-port-that-the-demo-wants/3")
async def test_a_taken_port_is_named_with_the_option_that_changes_it(
    tmp_path: Path, documented: Any
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        errors = await _failed("--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path))
    assert f"port {port}" in errors
    documented("a-port-that-the-demo-wants/3", errors[errors.index("port ") :])


@pytest.mark.documents("an-sfu-that-the-demo-cannot-use")
async def test_an_sfu_that_is_not_there_is_named(
    tmp_path: Path, unused_tcp_port: int, documented: Any
) -> None:
    sfu = f"http://127.0.0.1:{unused_tcp_port}"
    errors = await _failed(
        "--listen", "127.0.0.1:0", "--rtcd-url", sfu, "--data-dir", str(tmp_path)
    )
    assert f"the SFU {sfu} cannot be used" in errors
    documented("an-sfu-that-the-demo-cannot-use", errors[errors.index("the SFU") :])

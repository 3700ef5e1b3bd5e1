from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from testbed.ports import Ports, PortTaken
from testbed.processes import ProcessDied, StartFailed
from testbed.rtcd_double.control import create_double_app
from testbed.rtcd_double.server import DoubleServer
from testbed.stack import Stack
from testbed.stack_settings import StackSettings


def _settings(tmp_path: Path) -> StackSettings:
    return StackSettings(tmp_path / "work", tmp_path / "logs", tmp_path, Ports.free())


class StackOfTalkers(Stack):
    """Without servers: only what the test starts."""

    async def _start(self) -> None:
        self.settings.jobs_dir.mkdir(parents=True)

    async def start_python(self, name: str, code: str) -> int:
        process = await self._servers.start(name, [sys.executable, "-c", code], {})
        return process.pid


SLEEP = "import time; time.sleep(60)"


@pytest.mark.parametrize(
    ("port", "kind", "told"),
    [
        ("sfu", socket.SOCK_STREAM, r"port \d+/tcp is taken; the SFU's API wants it.*--sfu-port"),
        ("media", socket.SOCK_DGRAM, r"/udp is taken; the SFU's media socket .*--media-port"),
        ("plugin", socket.SOCK_STREAM, r"/tcp is taken; the stand-in .*--plugin-port"),
        ("offloader", socket.SOCK_STREAM, r"/tcp is taken; the offloader .*--offloader-port"),
        ("broker", socket.SOCK_STREAM, r"/tcp is taken; the broker .*--broker-port"),
        ("worker", socket.SOCK_STREAM, r"/tcp is taken; the first worker .*--worker-port"),
    ],
)
@pytest.mark.documents("a-port-that-the-demo-wants")
async def test_a_taken_port_is_named_with_who_wants_it_and_the_setting(
    tmp_path: Path, port: str, kind: int, told: str, documented: Any
) -> None:
    settings = replace(_settings(tmp_path), backend="celery")
    with socket.socket(socket.AF_INET, kind) as taker:
        taker.bind(("127.0.0.1", getattr(settings.ports, port)))
        if kind == socket.SOCK_STREAM:
            taker.listen()
        with pytest.raises(PortTaken, match=told) as taken:
            async with Stack(settings):
                pytest.fail("should not have started")
    documented("a-port-that-the-demo-wants", str(taken.value))
    assert not settings.log_dir.exists(), "nothing was started"


async def test_the_ports_of_the_bundled_sfu_do_not_matter_when_another_one_is_used(
    tmp_path: Path,
) -> None:
    ports = Ports.free()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", ports.sfu))
        with pytest.raises(PortTaken):
            ports.check()
        ports.check(bundled_sfu=False)


@pytest.mark.documents("a-broker-that-the-demo-lacks")
async def test_without_a_redis_the_demo_of_workers_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = replace(_settings(tmp_path), backend="celery", rtcd_url="http://127.0.0.1:9")
    settings.work_dir.mkdir()
    with pytest.raises(StartFailed) as missing:
        async with Stack(settings):
            pytest.fail("should not have started")
    documented("a-broker-that-the-demo-lacks", str(missing.value))


@pytest.mark.e2e
@pytest.mark.slow
async def test_another_sfu_takes_the_bundled_ones_place(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    key = "k" * 32
    settings = replace(
        _settings(tmp_path), rtcd_url=f"http://someone:{key}@127.0.0.1:{unused_tcp_port}"
    )
    told: dict[str, str] = {}
    async with serve_double(unused_tcp_port) as double:
        stack = Stack(settings, announce=told.__setitem__)
        async with stack:
            stack.sample()
            assert {figure.name for figure in stack.figures()} == {"offloader", "plugin"}
            assert len(double.plugins) == 1
            lines = [command_line(process.pid) for process in stack._servers._needed.values()]
    assert told["SFU"] == f"http://127.0.0.1:{unused_tcp_port}, not ours"
    assert not any(key in line for line in lines), "everybody can read command lines"
    assert not any(key in log.read_text() for log in settings.log_dir.iterdir())


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@asynccontextmanager
async def serve_double(port: int) -> AsyncIterator[DoubleServer]:
    double = DoubleServer()
    await double.start()
    server = uvicorn.Server(
        uvicorn.Config(create_double_app(double), port=port, log_config=None, access_log=False)
    )
    serving = asyncio.create_task(server._serve())
    try:
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.005)
        yield double
    finally:
        server.should_exit = True
        await serving
        await double.close()


async def test_a_stand_in_that_dies_before_it_is_ready_is_a_failed_start(tmp_path: Path) -> None:
    """It cannot do without its SFU."""
    settings = replace(_settings(tmp_path), rtcd_url="http://127.0.0.1:9")
    with pytest.raises(StartFailed, match=r"plugin ended with exit code 1 before it was ready"):
        async with Stack(settings):
            pytest.fail("should not have started")


@pytest.mark.documents("something-of-the-demo-does-not-start/3")
async def test_the_death_of_a_server_is_told_with_its_log(tmp_path: Path, documented: Any) -> None:
    stack = StackOfTalkers(_settings(tmp_path))
    async with stack:
        pid = await stack.start_python("sfu", SLEEP)
        await stack.start_python("offloader", SLEEP)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProcessDied) as died:
            await stack.watch()
        documented("something-of-the-demo-does-not-start/3", str(died.value))
    assert stack.left_over() == {}


async def test_nothing_is_left_of_a_start_that_fails(tmp_path: Path) -> None:
    class Broken(StackOfTalkers):
        async def _start(self) -> None:
            await super()._start()
            await self.start_python("sfu", SLEEP)
            raise StartFailed("no")

    stack = Broken(_settings(tmp_path))
    with pytest.raises(StartFailed):
        async with stack:
            pytest.fail("should not have started")
    assert stack.left_over() == {}


async def test_the_death_of_a_job_is_told_with_its_log(tmp_path: Path) -> None:
    stack = StackOfTalkers(_settings(tmp_path))
    async with stack:
        directory = stack.settings.jobs_dir / "job1"
        directory.mkdir()
        shim = {"job_type": "recording", "child_pid": os.getpid(), "started_at_s": 1}
        (directory / "shim.json").write_text(json.dumps(shim))
        (directory / "exit.json").write_text('{"signal": 9}')
        with pytest.raises(ProcessDied, match=r"the recorder was killed by SIGKILL.*recorder\.log"):
            await stack.watch()


async def test_a_released_process_may_end(tmp_path: Path) -> None:
    stack = StackOfTalkers(_settings(tmp_path))
    async with stack:
        await stack.start_python("bots", SLEEP)
        stack.release("bots")
        assert stack._first_death() is None
        assert [figure.name for figure in stack.figures()] == ["bots"]
        assert stack.figures()[0].peak_rss_bytes > 0
    assert stack.left_over() == {}

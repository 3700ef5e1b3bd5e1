from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from testbed.ports import Ports, PortTaken
from testbed.processes import ProcessDied, StartFailed
from testbed.stack import Stack, read_line
from testbed.stack_settings import StackSettings


def _settings(tmp_path: Path) -> StackSettings:
    return StackSettings(tmp_path / "work", tmp_path / "logs", tmp_path, Ports.free())


class StackOfTalkers(Stack):
    """Without servers: only what the test starts."""

    async def _start(self) -> None:
        self.settings.jobs_dir.mkdir(parents=True)

    async def start_python(self, name: str, code: str) -> int:
        process = await self._family.start(
            [sys.executable, "-c", code],
            environment=dict(os.environ),
            log=self.log_of(name),
        )
        self._servers[name] = process
        return process.pid


SLEEP = "import time; time.sleep(60)"


@pytest.mark.parametrize(
    ("port", "kind", "told"),
    [
        ("sfu", socket.SOCK_STREAM, r"port \d+/tcp is taken; the SFU's API wants it.*--sfu-port"),
        ("media", socket.SOCK_DGRAM, r"/udp is taken; the SFU's media socket .*--media-port"),
        ("plugin", socket.SOCK_STREAM, r"/tcp is taken; the stand-in .*--plugin-port"),
        ("offloader", socket.SOCK_STREAM, r"/tcp is taken; the offloader .*--offloader-port"),
    ],
)
async def test_a_taken_port_is_named_with_who_wants_it_and_the_setting(
    tmp_path: Path, port: str, kind: int, told: str
) -> None:
    settings = _settings(tmp_path)
    with socket.socket(socket.AF_INET, kind) as taker:
        taker.bind(("127.0.0.1", getattr(settings.ports, port)))
        if kind == socket.SOCK_STREAM:
            taker.listen()
        with pytest.raises(PortTaken, match=told):
            async with Stack(settings):
                pytest.fail("should not have started")
    assert not settings.log_dir.exists(), "nothing was started"


async def test_the_death_of_a_server_is_told_with_its_log(tmp_path: Path) -> None:
    stack = StackOfTalkers(_settings(tmp_path))
    async with stack:
        pid = await stack.start_python("sfu", SLEEP)
        await stack.start_python("offloader", SLEEP)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProcessDied, match=r"the sfu was killed by SIGKILL; see .*sfu\.log"):
            await stack.watch()
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


async def test_a_server_that_ends_at_once_is_a_failed_start(tmp_path: Path) -> None:
    class Broken(StackOfTalkers):
        async def _start(self) -> None:
            await super()._start()
            await self.start_python("sfu", "raise SystemExit(3)")
            await self._answers("sfu", "http://127.0.0.1:9/version")

    stack = Broken(_settings(tmp_path))
    with pytest.raises(StartFailed, match=r"sfu ended with exit code 3 before it was ready; see"):
        async with stack:
            pytest.fail("should not have started")
    assert stack.left_over() == {}


@pytest.mark.parametrize(
    ("line", "record"), [(b'{"event":"x"}\n', {"event": "x"}), (b"oops\n", None), (b"[1]\n", None)]
)
def test_lines_that_are_no_object_are_passed_over(line: bytes, record: object) -> None:
    assert read_line(line) == record

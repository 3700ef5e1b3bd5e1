"""However the demo ends, it says why and leaves no process behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from testbed.job_watch import find_jobs
from testbed.ports import Ports
from testbed.processes import Family, command_line

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class RunningDemo:
    """The demo as its user starts it."""

    def __init__(self, family: Family, output: Path) -> None:
        self.family = family
        self._output = output
        self._seen: list[str] = []

    async def start(self) -> None:
        ports = [
            f"--{name.replace('_', '-')}-port={port}" for name, port in asdict(Ports.free()).items()
        ]
        self.process = await self.family.start(
            [sys.executable, "-m", "testbed.demo", "--output", str(self._output), *ports],
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            log=self._output / "stderr.log",
            talks=True,
        )

    async def until(self, text: str) -> None:
        """Read what it prints up to `text`."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._seen.append(line.decode())
            if text in self._seen[-1]:
                return
        pytest.fail(f"{text!r} was not printed:\n{''.join(self._seen)}")

    async def ended(self) -> tuple[int, str]:
        """Exit code and everything printed."""
        assert self.process.stdout is not None
        rest = await self.process.stdout.read()
        return await self.process.wait(), "".join(self._seen) + rest.decode()

    def job(self, name: str) -> int:
        """The process id of a job."""
        pids = [job.pid for job in find_jobs(self._output / "work" / "jobs") if job.name == name]
        assert pids
        assert pids[0] is not None
        return pids[0]

    def server(self, module: str) -> int:
        """The process id of a server."""
        for pid in self.family.alive():
            if f"-m {module} " in f"{command_line(pid)} ":  # not its workers
                return pid
        pytest.fail(f"no process runs {module}")


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[RunningDemo]:
    running = RunningDemo(Family(), tmp_path)
    await running.start()
    yield running
    await running.family.take_down(grace_s=0)


@pytest.mark.parametrize(
    ("victim", "find"),
    [
        ("recorder", lambda demo: demo.job("recorder")),
        pytest.param("transcriber", lambda demo: demo.job("transcriber"), marks=pytest.mark.slow),
        pytest.param("sfu", lambda demo: demo.server("sfu"), marks=pytest.mark.slow),
        pytest.param("offloader", lambda demo: demo.server("offloader"), marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_killed_process_is_named_and_nothing_is_left(
    demo: RunningDemo, victim: str, find: Callable[[RunningDemo], int]
) -> None:
    await demo.until("Live captions")
    os.kill(find(demo), signal.SIGKILL)
    code, printed = await demo.ended()
    assert code == 1
    assert f"the {victim} was killed by SIGKILL" in printed
    assert demo.family.alive() == {}


@pytest.mark.parametrize(
    "moment",
    [
        "Starting",
        "Offloader",
        pytest.param("presses record", marks=pytest.mark.slow),
        pytest.param("Live captions", marks=pytest.mark.slow),
    ],
)
async def test_ctrl_c_leaves_nothing_at_any_moment(demo: RunningDemo, moment: str) -> None:
    await demo.until(moment)
    demo.process.send_signal(signal.SIGINT)
    code, printed = await demo.ended()
    assert code == 130
    assert "Interrupted" in printed
    assert demo.family.alive() == {}

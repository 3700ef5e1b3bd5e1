"""`offloader worker` as a real process: start, signals, death in mid-launch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import httpx
import pytest

from offloader.backends.celery.board import LaunchBoard
from offloader.backends.remote.client import RemoteBackend
from offloader.store.secret_key import Cipher

A, B = "a" * 12, "b" * 12
SCRIPT = "trap 'exit 4' TERM; echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done"
NO_BROKER = "redis://127.0.0.1:1/0"


@dataclass
class Process:
    process: asyncio.subprocess.Process
    port: int
    log: list[str] = field(default_factory=list)

    async def line(self, text: str) -> str:
        """The next log line that holds `text`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(25):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if text in line:
                    return line
        raise AssertionError(f"ended without {text!r}: {self.log}")

    async def ended(self) -> int:
        assert self.process.stderr is not None
        async with asyncio.timeout(25):
            self.log += (await self.process.stderr.read()).decode().splitlines()
            return await self.process.wait()

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.ended()


Start = Callable[..., Awaitable[Process]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Process] = []

    async def start_one(*, name: str = "w1", port: int | None = None, **environ: str) -> Process:
        port = port or free_port()
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "STATE_DIRECTORY": str(tmp_path / name),
            "OFFLOADER_SECRET_KEY": "k" * 32,
            "JOBS_APITYPE": "celery",
            "JOBS_CELERY_BROKERURL": NO_BROKER,
            "JOBS_PROCESS_RECORDERCOMMAND": json.dumps(["/bin/sh", "-c", SCRIPT]),
            "WORKER_NAME": name,
            "WORKER_SLOTS": "1",
            "WORKER_LISTENADDRESS": f"127.0.0.1:{port}",
            "WORKER_URL": f"http://127.0.0.1:{port}",
            "LOGGER_CONSOLELEVEL": "debug",
            "LOGGER_ENABLEFILE": "false",
            **environ,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "offloader", "worker"),
            *("--config", str(tmp_path / "none.toml")),
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 22,
            env={name: value for name, value in given.items() if value},
        )
        started.append(Process(process, port))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
            await one.process.wait()
        # What the worker's jobs would wait for.
    for data in glob(f"{tmp_path}/*/jobs/*/data"):
        open(f"{data}/go", "w").close()  # noqa: ASYNC230 - a moment


@pytest.mark.slow
async def test_without_the_services_key_it_does_not_start(start: Start) -> None:
    process = await start(OFFLOADER_SECRET_KEY="")
    assert await process.ended() == 1
    assert "OFFLOADER_SECRET_KEY" in process.log[-1]
    assert "offloader.key" in process.log[-1]


@pytest.mark.slow
async def test_a_port_that_is_taken_is_named_with_the_workers_own_setting(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start(port=taken.getsockname()[1])
        assert await process.ended() == 1
    assert "worker.listen_address" in process.log[-1]


@pytest.mark.slow
async def test_without_a_broker_it_is_up_and_ends_when_told(start: Start) -> None:
    process = await start()
    await process.line("worker: listening")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/worker")).status_code == 401
    about = Path(f"/proc/{process.process.pid}")
    assert "\nUmask:\t0077\n" in (about / "status").read_text()
    core = next(line for line in (about / "limits").read_text().splitlines() if "core" in line)
    assert core.split()[-3:-1] == ["0", "0"], "a dump would hold tokens"
    assert await process.end(signal.SIGTERM) == 0
    assert "worker: ended" in "".join(process.log)


@pytest.mark.slow
async def test_the_second_signal_tells_the_jobs_to_leave(
    start: Start, redis_server, replica, publisher
) -> None:
    process = await start(JOBS_CELERY_BROKERURL=redis_server.url)
    await publisher(redis_server.url).send(A)
    await replica.until(lambda: A in replica.outcomes)
    await process.line("job.launched")
    process.process.send_signal(signal.SIGTERM)
    await process.line("worker: draining")
    reference = replica.outcomes[A]["workload"]["reference"]
    directory = Path(reference["directory"])
    async with asyncio.timeout(20):
        while not _hears_sigterm(
            reference["shim_pid"]
        ):  # a job that has not come so far is just ended by it
            await asyncio.sleep(0.05)
    assert not (directory / "exit.json").exists()
    assert await process.end(signal.SIGTERM) == 0
    assert json.loads((directory / "exit.json").read_text())["exit_code"] == 4
    assert "hush" not in "".join(process.log)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_job_whose_worker_was_killed_after_its_claim_is_started_by_no_other(
    start: Start, rabbitmq, replica, publisher
) -> None:
    """Its message comes to another worker; whether the first one had started the job nobody knows."""
    replica.board = LaunchBoard()
    replica.hold = asyncio.Event()
    send = publisher(rabbitmq.url)
    with replica.board.open(A) as launch, replica.board.open(B):
        first = await start(name="first", JOBS_CELERY_BROKERURL=rabbitmq.url)
        await send.send(A)
        await replica.until(lambda: bool(replica.asked))
        await first.end(signal.SIGKILL)
        replica.hold.set()
        await start(name="second", JOBS_CELERY_BROKERURL=rabbitmq.url)
        await replica.until(lambda: (A, "second") in replica.asked)
        await send.send(B)
        await replica.until(lambda: B in replica.outcomes)
        assert launch.worker == "first"
    assert replica.asked == [(A, "first"), (A, "second"), (B, "second")]
    assert set(replica.outcomes) == {B}


@pytest.mark.slow
async def test_a_worker_that_was_killed_and_starts_again_has_its_job_and_its_place(
    start: Start, redis_server, replica, publisher
) -> None:
    process = await start(JOBS_CELERY_BROKERURL=redis_server.url)
    send = publisher(redis_server.url)
    await send.send(A)
    await replica.until(lambda: A in replica.outcomes)
    await process.end(signal.SIGKILL)
    await send.send(B)
    again = await start(JOBS_CELERY_BROKERURL=redis_server.url)
    assert A in await again.line("worker.adopted")
    await again.line("broker.connected")
    assert B not in replica.outcomes
    directory = Path(replica.outcomes[A]["workload"]["reference"]["directory"])
    (directory / "data" / "go").touch()
    await replica.until(lambda: B in replica.outcomes)


def _hears_sigterm(shim: int) -> bool:
    """Whether the job of that shim has a handler for it."""
    for child in Path(f"/proc/{shim}/task/{shim}/children").read_text().split():
        status = Path(f"/proc/{child}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return True
    return False


@pytest.mark.slow
async def test_a_running_worker_takes_over_keys_and_levels(start: Start, tmp_path: Path) -> None:
    (tmp_path / "w1").mkdir()
    key_file = tmp_path / "w1" / "offloader.key"
    key_file.write_text("k" * 32)
    process = await start(
        OFFLOADER_SECRET_KEY="", LOGGER_CONSOLELEVEL="", LOGGER_CONSOLEJSON="true"
    )
    await process.line("worker: listening on")
    key_file.write_text("short")
    process.process.send_signal(signal.SIGHUP)
    refused = json.loads(await process.line("config.not_reloaded"))
    assert (refused["part"], "5 characters" in refused["reason"]) == ("secret_keys", True)
    key_file.write_text("n" * 32 + "\n" + "k" * 32 + "\n")
    (tmp_path / "none.toml").write_text("[logger]\nconsole_level = 'debug'\n")
    process.process.send_signal(signal.SIGHUP)
    await process.line('"part": "secret_keys"')
    door = RemoteBackend(f"http://127.0.0.1:{process.port}", cipher=Cipher("n" * 32))
    try:
        assert (await door.card()).name == "w1"
    finally:
        await door.aclose()
    assert await process.end(signal.SIGTERM) == 0
    assert any('"changed": ["logger.console_level"]' in line for line in process.log)

"""The whole product on loopback: SFU, stand-in and offloader as processes, watched, always taken down.

Everything of a run lies in one working directory. `Stack` is an async context manager; whatever ends the
block, nothing it started is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import httpx

from foundation.process_stats import ProcessStats, read_process_stats
from testbed.job_watch import JobProcess, death_of, find_jobs, job_stats
from testbed.processes import Death, Family, ProcessDied, StartFailed, describe_exit

HOST: Final = "127.0.0.1"
_READY_TIMEOUT_S: Final = 20.0
_TAKE_DOWN_GRACE_S: Final = 6.0
_WATCH_INTERVAL_S: Final = 0.25
_POLL_S: Final = 0.05
_SHIM_MOMENT_S: Final = 1.0
"""A job that ended gets this long to have its exit code written by its shim."""


_FREE_RANGE: Final = (20_000, 32_000)
"""Below what the system gives away by itself, and within what an SFU accepts (rtcd.md 1.3)."""


class PortTaken(Exception):
    """A port is in use; the message names it, who wants it and the setting."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen; each can be changed by an option of the demo."""

    sfu: int = 8045
    media: int = 8443
    plugin: int = 8065
    offloader: int = 4545

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses just now, for runs beside others."""
        found: list[int] = []
        while len(found) < len(fields(cls)):
            port = random.randrange(*_FREE_RANGE)
            if port not in found and _is_free(port):
                found.append(port)
        return cls(*found)

    def check(self) -> None:
        """Raises PortTaken when one of them cannot be had."""
        _check_port(self.sfu, "tcp", "the SFU's API", "--sfu-port")
        _check_port(self.media, "udp", "the SFU's media socket", "--media-port")
        _check_port(self.plugin, "tcp", "the stand-in for Mattermost and Calls", "--plugin-port")
        _check_port(self.offloader, "tcp", "the offloader", "--offloader-port")


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What to start, where."""

    work_dir: Path
    """Empty; databases, jobs, the stand-in's data."""
    log_dir: Path
    models_dir: Path
    """One directory per model size."""
    ports: Ports = field(default_factory=Ports)

    @property
    def site_url(self) -> str:
        return f"http://{HOST}:{self.ports.plugin}"

    @property
    def jobs_dir(self) -> Path:
        return self.work_dir / "jobs"

    @property
    def world_file(self) -> Path:
        return self.work_dir / "stand-in" / "world.json"


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """What one process has cost."""

    name: str
    cpu_s: float
    peak_rss_bytes: int


class Stack:
    """Started by `async with`."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        announce: Callable[[str, str], None] = lambda name, text: None,
        hurry: asyncio.Event | None = None,
    ) -> None:
        """`announce(name, where)` is called for each server that is ready; `hurry` shortens the end."""
        self.settings = settings
        self.killed: list[str] = []
        """Who had to be killed at the end."""
        self._announce = announce
        self._hurry = hurry
        self._family = Family()
        self._servers: dict[str, asyncio.subprocess.Process] = {}
        self._stats: dict[str, ProcessStats] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._suspects: dict[Path, float] = {}

    async def __aenter__(self) -> Self:
        """Raises PortTaken or StartFailed; nothing is left then."""
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def watch(self) -> None:
        """Never returns; raises ProcessDied as soon as a needed process is gone. Also keeps the figures."""
        while True:
            self.sample()
            death = self._first_death()
            if death is not None:
                raise ProcessDied(death)
            await asyncio.sleep(_WATCH_INTERVAL_S)

    def jobs(self) -> list[JobProcess]:
        """All jobs started so far."""
        return find_jobs(self.settings.jobs_dir)

    def sample(self) -> None:
        """Read what every process has used so far."""
        for name, process in self._servers.items():
            with contextlib.suppress(ProcessLookupError):
                stats = read_process_stats(process.pid)
                if stats.peak_rss_bytes:  # a zombie has none
                    self._stats[name] = stats
        for job in self.jobs():
            stats_of_job = job_stats(job)
            if stats_of_job is not None and stats_of_job.peak_rss_bytes:
                self._stats[job.name] = stats_of_job

    def figures(self) -> list[ProcessFigures]:
        """By the last sample, servers first."""
        return [
            ProcessFigures(name, stats.cpu_s, stats.peak_rss_bytes)
            for name, stats in self._stats.items()
        ]

    async def start_talker(self, name: str, arguments: list[str]) -> asyncio.subprocess.Process:
        """Start one more Python module that talks by standard input and output, and watch it."""
        process = await self._spawn(name, arguments, {}, talks=True)
        self._servers[name] = process
        return process

    async def crash_offloader(self, *, away_s: float) -> None:
        """Kill the job service as nothing can be caught, and start it again after a while.

        Raises:
            StartFailed: it does not come back.
        """
        self.sample()
        process = self._servers.pop("offloader")
        process.kill()
        await process.wait()
        await asyncio.sleep(away_s)
        await self._start_offloader()

    def release(self, name: str) -> None:
        """From now on `name` may end."""
        self.sample()
        self._servers.pop(name, None)

    def log_of(self, name: str) -> Path:
        return self.settings.log_dir / f"{name}.log"

    async def _start(self) -> None:
        ports = self.settings.ports
        ports.check()
        # The job service first: the stand-in initialises it once, at its own start (trap 45).
        await self._start_server("sfu", ["sfu"], _sfu_environment(self.settings))
        await self._start_offloader()
        await self._answers("sfu", f"http://{HOST}:{ports.sfu}/version")
        self._announce("SFU", f"http://{HOST}:{ports.sfu}, media {HOST}:{ports.media}/udp")
        self._announce("Offloader", f"http://{HOST}:{ports.offloader}, jobs as processes")
        await self._start_plugin()
        self._announce("Mattermost stand-in", self.settings.site_url)

    async def _start_offloader(self) -> None:
        await self._start_server(
            "offloader", ["offloader", "serve"], _offloader_environment(self.settings)
        )
        url = f"http://{HOST}:{self.settings.ports.offloader}/version"
        await self._answers("offloader", url)

    async def _start_server(self, name: str, module: list[str], more: Mapping[str, str]) -> None:
        self._servers[name] = await self._spawn(name, module, more, talks=False)

    async def _start_plugin(self) -> None:
        ports = self.settings.ports
        arguments = ["testbed.plugin", "--listen", f"{HOST}:{ports.plugin}"]
        arguments += ["--rtcd-url", f"http://{HOST}:{ports.sfu}"]
        arguments += ["--job-service-url", f"http://{HOST}:{ports.offloader}"]
        arguments += ["--data-dir", str(self.settings.world_file.parent)]
        process = await self._spawn("plugin", arguments, {}, talks=True)
        self._servers["plugin"] = process
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            raise self._not_ready("plugin") from None
        with contextlib.suppress(ValueError):
            if json.loads(line or "null")["event"] == "ready":
                self._readers.append(asyncio.create_task(_swallow(process.stdout)))
                return
        raise await self._ended_early("plugin", process)

    async def _spawn(
        self, name: str, module: list[str], more: Mapping[str, str], *, talks: bool
    ) -> asyncio.subprocess.Process:
        return await self._family.start(
            [sys.executable, "-m", *module],
            environment={**os.environ, "PYTHONUNBUFFERED": "1", **more},
            log=self.log_of(name),
            talks=talks,
        )

    async def _answers(self, name: str, url: str) -> None:
        process = self._servers[name]
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READY_TIMEOUT_S):
                    while process.returncode is None:
                        with contextlib.suppress(httpx.TransportError):
                            if (await client.get(url)).status_code == httpx.codes.OK:
                                return
                        await asyncio.sleep(_POLL_S)
        if process.returncode is not None:
            raise await self._ended_early(name, process)
        raise self._not_ready(name)

    def _not_ready(self, name: str) -> StartFailed:
        log = self.log_of(name)
        return StartFailed(f"{name} was not ready within {_READY_TIMEOUT_S:g} s; see {log}")

    async def _ended_early(self, name: str, process: asyncio.subprocess.Process) -> StartFailed:
        how = describe_exit(await process.wait())
        return StartFailed(f"{name} {how} before it was ready; see {self.log_of(name)}")

    def _first_death(self) -> Death | None:
        for name, process in self._servers.items():
            if process.returncode is not None:
                return Death(f"the {name}", describe_exit(process.returncode), self.log_of(name))
        for job in self.jobs():
            death = death_of(job)
            if death is not None and self._is_certain(job):
                # Its log is copied there when the run is over, whatever becomes of the job's directory.
                return replace(death, log=self.log_of(job.name))
        return None

    def _is_certain(self, job: JobProcess) -> bool:
        if job.exit is not None:
            return True
        now_s = asyncio.get_running_loop().time()
        return now_s - self._suspects.setdefault(job.directory, now_s) > _SHIM_MOMENT_S

    async def _end(self) -> None:
        # Shielded, and waited for whatever happens: an interrupted end would leave processes behind.
        ending = asyncio.ensure_future(
            self._family.take_down(grace_s=_TAKE_DOWN_GRACE_S, hurry=self._hurry)
        )
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
        self.killed = ending.result()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        if cancelled:
            raise asyncio.CancelledError

    def left_over(self) -> dict[int, str]:
        """Processes that are still there; empty after the end, or something is wrong."""
        return self._family.alive()


def _sfu_environment(settings: StackSettings) -> dict[str, str]:
    return {
        "RTCD_API_HTTP_LISTENADDRESS": f"{HOST}:{settings.ports.sfu}",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "RTCD_RTC_ICEADDRESSUDP": HOST,
        "RTCD_RTC_ICEPORTUDP": str(settings.ports.media),
        "RTCD_STORE_DATASOURCE": str(settings.work_dir / "sfu"),
        "RTCD_LOGGER_CONSOLEJSON": "true",
        "RTCD_LOGGER_ENABLEFILE": "false",
    }


def _offloader_environment(settings: StackSettings) -> dict[str, str]:
    return {
        "API_HTTP_LISTENADDRESS": f"{HOST}:{settings.ports.offloader}",
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "STORE_DATASOURCE": str(settings.work_dir / "offloader.db"),
        "JOBS_APITYPE": "process",
        "JOBS_PROCESS_JOBSDIR": str(settings.jobs_dir),
        "JOBS_PROCESS_MODELSDIR": str(settings.models_dir),
        "LOGGER_CONSOLEJSON": "true",
        "LOGGER_ENABLEFILE": "false",
    }


def _check_port(port: int, protocol: str, who: str, option: str) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            # As the servers do: a connection of an earlier run in TIME_WAIT is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PortTaken(
                    f"port {port}/{protocol} for {who} cannot be used: {error.strerror}; "
                    f"choose another one with make demo DEMO_ARGS={option}=PORT"
                ) from error
            raise PortTaken(
                f"port {port}/{protocol} is taken; {who} wants it: stop what uses it, "
                f"or choose another one with make demo DEMO_ARGS={option}=PORT"
            ) from error


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


async def _swallow(stream: asyncio.StreamReader) -> None:
    """Read on, so that the writer never blocks."""
    while await stream.read(65536):
        pass


def read_line(line: bytes) -> dict[str, Any] | None:
    """One JSON object of a talker, or None for anything else."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

"""The whole product on loopback: SFU, stand-in and offloader as processes, watched, always taken down.

Everything of a run lies in one working directory. `Stack` is an async context manager; whatever ends the
block, nothing it started is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import httpx

from foundation.process_stats import ProcessStats, read_process_stats
from testbed.certificates import make_certificates
from testbed.container_watch import ContainerWatch, EngineMissing
from testbed.job_watch import JobProcess, death_of, find_jobs, job_stats
from testbed.ports import HOST
from testbed.processes import Death, Family, ProcessDied, StartFailed, describe_exit
from testbed.stack_settings import IMAGES, StackSettings, offloader_environment, sfu_environment

_READY_TIMEOUT_S: Final = 20.0
_TAKE_DOWN_GRACE_S: Final = 6.0
_WATCH_INTERVAL_S: Final = 0.25
_POLL_S: Final = 0.05
_SHIM_MOMENT_S: Final = 1.0
"""A job that ended gets this long to have its exit code written by its shim."""


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
        self._containers: ContainerWatch | None = None

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
            if self._containers is not None:
                await asyncio.to_thread(self._containers.refresh)
            self.sample()
            death = self._first_death()
            if death is not None:
                raise ProcessDied(death)
            await asyncio.sleep(_WATCH_INTERVAL_S)

    def jobs(self) -> list[JobProcess]:
        """All jobs started so far; of containers, as the watch has seen them last."""
        if self._containers is not None:
            return self._containers.jobs
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
        trust = {"SSL_CERT_FILE": str(self.settings.ca_file)} if self.settings.tls else {}
        process = await self._spawn(name, arguments, trust, talks=True)
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
        if self.settings.backend == "docker":
            await asyncio.to_thread(self._open_containers)
        if self.settings.tls:
            directory = self.settings.work_dir / "tls"
            await asyncio.to_thread(make_certificates, directory, address=HOST)
        # The job service first: the stand-in initialises it once, at its own start (trap 45).
        await self._start_server("sfu", ["sfu"], sfu_environment(self.settings))
        await self._start_offloader()
        await self._answers("sfu", f"http://{HOST}:{ports.sfu}/version")
        self._announce("SFU", f"http://{HOST}:{ports.sfu}, media {HOST}:{ports.media}/udp")
        how = "containers" if self.settings.backend == "docker" else "processes"
        self._announce("Offloader", f"http://{HOST}:{ports.offloader}, jobs as {how}")
        await self._start_plugin()
        self._announce("Mattermost stand-in", self.settings.site_url)

    def _open_containers(self) -> None:
        try:
            self._containers = ContainerWatch(
                instance=self.settings.instance, directory=self.settings.work_dir / "containers"
            )
        except EngineMissing as error:
            raise StartFailed(str(error)) from error
        if missing := self._containers.missing_images(list(IMAGES)):
            raise StartFailed(f"{', '.join(missing)} is not on the engine: run `make images` first")

    async def _start_offloader(self) -> None:
        await self._start_server(
            "offloader", ["offloader", "serve"], offloader_environment(self.settings)
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
        if self.settings.tls:
            tls = self.settings.work_dir / "tls"
            arguments += ["--tls-cert", str(tls / "site.pem"), "--tls-key", str(tls / "site.key")]
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
        if self._containers is not None:
            await asyncio.to_thread(self._close_containers, self._containers)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        if cancelled:
            raise asyncio.CancelledError

    @staticmethod
    def _close_containers(containers: ContainerWatch) -> None:
        containers.refresh()
        containers.remove_all()
        containers.close()

    def left_over(self) -> dict[int, str]:
        """Processes that are still there; empty after the end, or something is wrong."""
        return self._family.alive()


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

"""The whole product on loopback: SFU, stand-in and offloader as processes, watched, always taken down.

Everything of a run lies in one working directory. `Stack` is an async context manager; whatever ends the
block, nothing it started is left.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from foundation.process_stats import ProcessStats
from testbed.brokers import redis_command
from testbed.certificates import make_certificates
from testbed.container_watch import ContainerWatch, EngineMissing
from testbed.job_watch import JobProcess, death_of, find_jobs, job_stats
from testbed.ports import HOST
from testbed.processes import Death, ProcessDied, StartFailed
from testbed.servers import Servers
from testbed.stack_settings import (
    StackSettings,
    offloader_environment,
    plugin_arguments,
    plugin_environment,
    sfu_environment,
    without_credentials,
    worker_environment,
)

_JOBS_READY_TIMEOUT_S: Final = 120.0
"""The job service looks at its images first (calls-plugin.md 6.1)."""
_WATCH_INTERVAL_S: Final = 0.25
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
        self.strangers: set[str] = set()
        """Job IDs of whoever else uses the job service: their jobs are not watched."""
        self._announce = announce
        self._hurry = hurry
        self._servers = Servers(settings.log_dir)
        self._stats: dict[str, ProcessStats] = {}
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

    async def watch(self, *, jobs: bool = True) -> None:
        """Never returns; raises ProcessDied as soon as a needed process is gone, with `jobs` one of a job,
        too. Also keeps the figures."""
        while True:
            if self._containers is not None:
                await asyncio.to_thread(self._containers.refresh)
            self.sample()
            death = self._first_death(jobs=jobs)
            if death is not None:
                raise ProcessDied(death)
            await asyncio.sleep(_WATCH_INTERVAL_S)

    def jobs(self) -> list[JobProcess]:
        """All jobs started so far; of containers, as the watch has seen them last."""
        seen = self._containers.jobs if self._containers is not None else None
        found = seen if seen is not None else find_jobs(*self.settings.jobs_dirs)
        return [job for job in found if job.job_id not in self.strangers]

    def sample(self) -> None:
        """Read what every process has used so far."""
        self._stats |= self._servers.stats()
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
        return await self._servers.start_module(name, arguments, trust, talks=True)

    async def crash_offloader(self, *, away_s: float) -> None:
        """Kill the job service as nothing can be caught, and start it again after a while.

        Raises:
            StartFailed: it does not come back.
        """
        await self.crash("offloader")
        await asyncio.sleep(away_s)
        await self._start_offloader()

    async def crash(self, name: str) -> None:
        """Kill a server as nothing can be caught; it stays away."""
        self.sample()
        await self._servers.crash(name)

    def release(self, name: str) -> None:
        """From now on `name` may end."""
        self.sample()
        self._servers.release(name)

    def log_of(self, name: str) -> Path:
        return self._servers.log_of(name)

    async def _start(self) -> None:
        ports = self.settings.ports
        ports.check(
            host=self.settings.host,
            bundled_sfu=not self.settings.rtcd_url,
            workers=self.settings.has_workers,
        )
        if self.settings.backend == "docker":
            await asyncio.to_thread(self._open_containers)
        if self.settings.tls:
            directory = self.settings.work_dir / "tls"
            await asyncio.to_thread(make_certificates, directory, address=self.settings.host)
        # The job service first: the stand-in initialises it once, at its own start (trap 45).
        if not self.settings.rtcd_url:
            await self._servers.start_module("sfu", ["sfu"], sfu_environment(self.settings))
        if self.settings.has_workers:
            await self._start_workers()
        await self._start_offloader()
        await self._announce_sfu()
        how = {"docker": "as containers", "celery": "by workers"}
        where = how.get(self.settings.backend, "as processes")
        self._announce("Offloader", f"http://{HOST}:{ports.offloader}, jobs {where}")
        await self._start_plugin()
        self._announce("Mattermost stand-in", self.settings.site_url)

    async def _announce_sfu(self) -> None:
        if self.settings.rtcd_url:
            # The stand-in finds out whether it can be used, with credentials.
            self._announce("SFU", f"{without_credentials(self.settings.rtcd_url)}, not ours")
            return
        ports = self.settings.ports
        await self._servers.answers("sfu", f"http://{HOST}:{ports.sfu}/version")
        self._announce(
            "SFU", f"http://{HOST}:{ports.sfu}, media {self.settings.host}:{ports.media}/udp"
        )

    def _open_containers(self) -> None:
        try:
            self._containers = ContainerWatch(
                instance=self.settings.instance, directory=self.settings.work_dir / "containers"
            )
        except EngineMissing as error:
            raise StartFailed(str(error)) from error
        if missing := self._containers.missing_images(list(self.settings.images)):
            raise StartFailed(
                f"{', '.join(missing)} is not on the engine: run `make images` first, or load the release's"
            )

    async def _start_workers(self) -> None:
        """The broker, then whoever takes jobs from it."""
        directory = self.settings.work_dir / "redis"
        directory.mkdir()
        port = self.settings.ports.broker
        await self._servers.start("redis", redis_command(port=port, directory=directory), {})
        self._announce("Broker", f"redis://{HOST}:{port}")
        for name in self.settings.workers:
            await self.start_worker(name)
        for name, door in self.settings.workers.items():
            url = f"http://{HOST}:{door}"
            await self._servers.answers(name, f"{url}/healthz")
            self._announce(name.capitalize(), f"{url}, jobs as processes")

    async def start_worker(self, name: str) -> None:
        """Start `name`, for the first time or again; it may not be ready yet."""
        environment = worker_environment(self.settings, name)
        await self._servers.start_module(name, ["offloader", "worker"], environment)

    async def _start_offloader(self) -> None:
        environment = offloader_environment(self.settings)
        await self._servers.start_module("offloader", ["offloader", "serve"], environment)
        url = f"http://{HOST}:{self.settings.ports.offloader}/version"
        await self._servers.answers("offloader", url)

    async def _start_plugin(self) -> None:
        if self.settings.names:
            # By a file: a command line or an environment can be read by whoever looks for names there.
            people = self.settings.world_file.with_name("people.json")
            people.parent.mkdir(parents=True)
            people.write_text(json.dumps(dict(self.settings.names)))
        module = ["testbed.plugin", *plugin_arguments(self.settings)]
        environment = plugin_environment(self.settings)
        await self._servers.start_module("plugin", module, environment, talks=True)
        await self._servers.says("plugin", "ready")
        # Before this one a recording would be refused.
        await self._servers.says("plugin", "jobs_ready", limit_s=_JOBS_READY_TIMEOUT_S)
        self._servers.ignore("plugin")

    def _first_death(self, *, jobs: bool = True) -> Death | None:
        if (server := self._servers.first_death()) is not None:
            return server
        for job in self.jobs() if jobs else ():
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
        ending = asyncio.ensure_future(self._servers.take_down(hurry=self._hurry))
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
        self.killed = ending.result()
        if self._containers is not None:
            await asyncio.to_thread(self._close_containers, self._containers)
        if cancelled:
            raise asyncio.CancelledError

    @staticmethod
    def _close_containers(containers: ContainerWatch) -> None:
        containers.refresh()
        containers.remove_all()
        containers.close()

    def left_over(self) -> dict[int, str]:
        """Processes that are still there; empty after the end, or something is wrong."""
        return self._servers.left_over()

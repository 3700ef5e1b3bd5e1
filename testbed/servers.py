"""The processes of a run by their names: started, waited for until they are ready, taken down.

Each has its log; a process that ends or stays silent before it is ready is a failed start that names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from foundation.process_stats import ProcessStats, read_process_stats
from testbed.processes import Death, Family, StartFailed, describe_exit

_READY_TIMEOUT_S: Final = 60.0
_TAKE_DOWN_GRACE_S: Final = 6.0
_POLL_S: Final = 0.05


class Servers:
    """Made in the process that starts them, before anything is started."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._family = Family()
        self._needed: dict[str, asyncio.subprocess.Process] = {}
        self._readers: list[asyncio.Task[None]] = []

    def log_of(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    async def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        talks: bool = False,
    ) -> asyncio.subprocess.Process:
        """Start a program with `environment` besides our own; from now on it is needed. `talks`: by standard
        input and output, which goes to its log otherwise."""
        process = await self._family.start(
            command,
            environment={**os.environ, **environment},
            log=self.log_of(name),
            talks=talks,
        )
        self._needed[name] = process
        return process

    async def start_module(
        self,
        name: str,
        module: Sequence[str],
        environment: Mapping[str, str],
        *,
        talks: bool = False,
    ) -> asyncio.subprocess.Process:
        """As `start`, a Python module: its name, then its arguments."""
        command = [sys.executable, "-m", *module]
        unbuffered = {"PYTHONUNBUFFERED": "1", **environment}
        return await self.start(name, command, unbuffered, talks=talks)

    async def answers(self, name: str, url: str) -> None:
        """Wait until `name` answers at `url`. Raises StartFailed: it ended, or did not in time."""
        process = self._needed[name]
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READY_TIMEOUT_S):
                    while process.returncode is None:
                        with contextlib.suppress(httpx.TransportError):
                            if (await client.get(url)).status_code == httpx.codes.OK:
                                return
                        await asyncio.sleep(_POLL_S)
        if process.returncode is not None:
            raise await self._ended_early(name)
        raise self._not_ready(name, _READY_TIMEOUT_S)

    async def says(self, name: str, event: str, *, limit_s: float = _READY_TIMEOUT_S) -> None:
        """The next line of the talker `name` should tell this event. Raises StartFailed: it does not."""
        stdout = self._needed[name].stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(limit_s):
                line = await stdout.readline()
        except TimeoutError:
            raise self._not_ready(name, limit_s) from None
        if (read_line(line) or {}).get("event") != event:
            raise await self._ended_early(name)

    def ignore(self, name: str) -> None:
        """What the talker `name` says from now on is read by nobody else."""
        stdout = self._needed[name].stdout
        assert stdout is not None
        self._readers.append(asyncio.create_task(_swallow(stdout)))

    def stats(self) -> dict[str, ProcessStats]:
        """What each one that runs has used so far."""
        found = {}
        for name, process in self._needed.items():
            with contextlib.suppress(ProcessLookupError):
                stats = read_process_stats(process.pid)
                if stats.peak_rss_bytes:  # a zombie has none
                    found[name] = stats
        return found

    def first_death(self) -> Death | None:
        """Of those that are needed still."""
        for name, process in self._needed.items():
            if process.returncode is not None:
                return Death(f"the {name}", describe_exit(process.returncode), self.log_of(name))
        return None

    async def crash(self, name: str) -> None:
        """Kill one as nothing can be caught; it stays away."""
        process = self._needed.pop(name)
        process.kill()
        await process.wait()

    def release(self, name: str) -> None:
        """From now on `name` may end."""
        self._needed.pop(name, None)

    async def take_down(self, *, hurry: asyncio.Event | None) -> list[str]:
        """End all that were started and whatever those started; returns who had to be killed.

        `hurry` shortens it. Not to be cancelled.
        """
        killed = await self._family.take_down(grace_s=_TAKE_DOWN_GRACE_S, hurry=hurry)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        return killed

    def left_over(self) -> dict[int, str]:
        """Processes that are still there, with what they are."""
        return self._family.alive()

    def _not_ready(self, name: str, limit_s: float) -> StartFailed:
        log = self.log_of(name)
        return StartFailed(f"{name} was not ready within {limit_s:g} s; see {log}", log=log)

    async def _ended_early(self, name: str) -> StartFailed:
        how, log = describe_exit(await self._needed[name].wait()), self.log_of(name)
        return StartFailed(f"{name} {how} before it was ready; see {log}", log=log)


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

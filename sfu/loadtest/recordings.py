"""Calls that are really recorded: each by a process of the testbed, which this package must not import."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from sfu.loadtest.plan import LoadPlan

_MODULE: Final = "testbed.loadtest_recordings"
_CALL_LIMIT_S: Final = 60.0
_START_LIMIT_S: Final = 90.0
_END_LIMIT_S: Final = 240.0
_TAKE_DOWN_LIMIT_S: Final = 15.0


class RecordingsError(Exception):
    """The calls cannot be recorded; the message says why and where to look."""


class Recordings:
    """`open`, then `start` once everybody is in, `stop`, and `take_down` whatever happens."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[asyncio.subprocess.Process] = []
        self.directory = Path()
        """One folder for each call: the file and the logs."""

    async def open(self, plan: LoadPlan) -> LoadPlan:
        """Start everything but the jobs; returns the plan with the calls that will be recorded.

        Raises:
            RecordingsError: the testbed is not installed, or something of it does not start.
        """
        if importlib.util.find_spec("testbed") is None:
            raise RecordingsError(
                "--recordings needs the testbed, which is not installed here: use a checkout of the "
                "whole repository (uv sync --all-extras)"
            )
        self.directory = Path(tempfile.mkdtemp(prefix="loadtest-recordings-"))
        for number in range(self._count):
            self._processes.append(await self._spawn(plan, number))
        calls = [await self._hear(n, "call", _CALL_LIMIT_S) for n in range(self._count)]
        return replace(plan, recorded_calls=tuple(call["call_id"] for call in calls))

    async def start(self) -> list[dict[str, Any]]:
        """Start the jobs; returns once they are in their calls. Raises RecordingsError."""
        self._order("record")
        return [await self._hear(n, "recording", _START_LIMIT_S) for n in range(self._count)]

    async def stop(self) -> list[dict[str, Any]]:
        """Stop, and wait for the files. Raises RecordingsError."""
        self._order("stop")
        told = [await self._hear(n, "recorded", _END_LIMIT_S) for n in range(self._count)]
        return [
            {**one, "file": str(self.directory / str(number) / "recording.mp4")}
            for number, one in enumerate(told)
        ]

    async def take_down(self) -> None:
        """Nothing that was started is left; idempotent."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()  # they take their own processes down
        for process in self._processes:
            for number in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TAKE_DOWN_LIMIT_S):
                        await process.wait()
                        break
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            await process.wait()
        self._processes.clear()

    async def _spawn(self, plan: LoadPlan, number: int) -> asyncio.subprocess.Process:
        parts = urlsplit(plan.url)
        credentials = f"{quote(plan.client_id, '')}:{quote(plan.auth_key, '')}"
        output = self.directory / str(number)
        output.mkdir()
        with (output / "log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _MODULE,
                "--output",
                str(output),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # By the environment: a command line can be read by everybody.
                env={
                    **os.environ,
                    "RTCD_URL": f"{parts.scheme}://{credentials}@{parts.netloc}",
                    "RTCD_CLIENT_ID": "",
                    "RTCD_AUTH_KEY": "",
                },
            )

    def _order(self, word: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n".encode())

    async def _hear(self, number: int, event: str, limit_s: float) -> dict[str, Any]:
        stdout = self._processes[number].stdout
        assert stdout is not None
        where = f"see {self.directory / str(number)}"
        try:
            async with asyncio.timeout(limit_s):
                line = await stdout.readline()
        except TimeoutError:
            raise RecordingsError(
                f"recorded call {number}: no {event!r} within {limit_s:g} s; {where}"
            ) from None
        told: dict[str, Any] = json.loads(line) if line else {"reason": "it has ended"}
        if told.get("event") != event:
            raise RecordingsError(f"recorded call {number}: {told.get('reason', told)}; {where}")
        return told

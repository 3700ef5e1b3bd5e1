"""A really recorded call for `sfu loadtest --recordings`: stand-in, job service, recorder and transcriber.

    RTCD_URL=http://client:key@host:port python -m testbed.loadtest_recordings --output DIR

The SFU runs already and is the one under load: with the same client and the call's id, the load test's
participants are in the recorded call. Talks by JSON lines: tells `call` (with `call_id`, the host is in), is
told `record`, tells `recording` (both jobs are in the call), is told `stop`, tells `recorded` (the file is
there). The end of its input ends it early.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from callclient.client import CallClient, CallClientConfig
from callclient.errors import CallError
from callclient.events import CallEnded, JobStateChanged, Joined
from callclient.plugin_api import ApiError, PluginApi
from foundation.groups import unwrapped
from foundation.logs import configure_logs
from testbed.bots.world import World, read_world
from testbed.demo.options import OptionError, provide_models, read_options
from testbed.demo.thread import Thread, ThreadError
from testbed.polling import until
from testbed.ports import Ports, PortTaken
from testbed.processes import ProcessDied, StartFailed
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

_JOIN_LIMIT_S: Final = 20.0
_START_LIMIT_S: Final = 70.0
"""The plugin itself gives up after a minute (calls-plugin.md 6.7)."""
_POSTS_LIMIT_S: Final = 180.0
_POLL_S: Final = 0.5
_ERRORS: Final = (
    ApiError,
    CallError,
    OptionError,
    PortTaken,
    ProcessDied,
    StartFailed,
    ThreadError,
)


class RecordingFailed(Exception):
    """The call was not recorded; the message says what was waited for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: recorded, or the input has ended; 1: the last line tells why."""
    parser = argparse.ArgumentParser(prog="python -m testbed.loadtest_recordings")
    parser.add_argument("--output", type=Path, required=True, help="the recording and all logs")
    given = parser.parse_args(arguments)
    configure_logs(level="error")
    try:
        with unwrapped(RecordingFailed, *_ERRORS):
            asyncio.run(_run(given.output.resolve()))
    except (RecordingFailed, *_ERRORS) as error:
        _tell("failed", reason=str(error))
        return 1
    return 0


async def _run(output: Path) -> None:
    options = replace(read_options([], os.environ), ports=Ports.free())
    if not options.rtcd_url:
        raise OptionError(
            "RTCD_URL: should name the SFU, as http(s)://client id:auth key@host:port"
        )
    work_dir = output / "work"
    work_dir.mkdir(parents=True, mode=0o700)
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=output / "logs",
        models_dir=provide_models(options, work_dir),
        ports=options.ports,
        rtcd_url=options.rtcd_url,
    )
    async with Stack(settings) as stack:
        world = read_world(settings.world_file)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(stack.watch(), name="watch")
            await _record(stack, world, output, tasks)
            watching.cancel()
    shutil.rmtree(work_dir)


async def _record(stack: Stack, world: World, output: Path, tasks: asyncio.TaskGroup) -> None:
    site_url = stack.settings.site_url
    host = world.users[world.host]
    client = CallClient(
        CallClientConfig(site_url=site_url, auth_token=host.token, channel_id=world.channel_id)
    )
    tasks.create_task(client.run(), name="host")
    states = _States(client)
    tasks.create_task(states.read(), name="host-events")
    orders = _orders()
    async with (
        PluginApi(site_url=site_url, auth_token=host.token) as api,
        Thread(site_url, world.channel_id) as thread,
    ):
        await states.wait("the host's joining", states.joined, _JOIN_LIMIT_S)
        _tell("call", call_id=await _call_id(site_url, world.channel_id))
        if await anext(orders, None) == "record":
            began_s = time.monotonic()
            await api.start_recording(world.channel_id)
            await states.wait("the start of both jobs", states.started, _START_LIMIT_S)
            _tell("recording", after_s=round(time.monotonic() - began_s, 2))
            if await anext(orders, None) == "stop":
                await api.stop_recording(world.channel_id)
                await _tell_result(stack, thread, output)
    await client.leave()


async def _tell_result(stack: Stack, thread: Thread, output: Path) -> None:
    async def posted() -> str | None:
        return (await thread.results()).recording_file_id

    file_id = await until(
        posted,
        "the recording's post",
        limit_s=_POSTS_LIMIT_S,
        every_s=_POLL_S,
        failure=RecordingFailed,
    )
    target = output / "recording.mp4"
    await thread.download(file_id, target)
    figures = {f.name: f for f in stack.figures() if f.name in ("recorder", "transcriber")}
    _tell(
        "recorded",
        size_bytes=target.stat().st_size,
        cpu_s={name: round(figure.cpu_s, 2) for name, figure in figures.items()},
        peak_rss_bytes={name: figure.peak_rss_bytes for name, figure in figures.items()},
    )


class _States:
    """What the host's client has seen of the call."""

    def __init__(self, client: CallClient) -> None:
        self._client = client
        self.joined = asyncio.Event()
        self.started = asyncio.Event()
        self._started: set[str] = set()
        self._ended = ""

    async def read(self) -> None:
        async for event in self._client.events():
            match event:
                case Joined():
                    self.joined.set()
                case JobStateChanged(error=error) if error:
                    raise RecordingFailed(f"the {event.kind.value} job failed: {error}")
                case JobStateChanged(start_at_ms=start_at_ms) if start_at_ms:
                    self._started.add(event.kind.value)
                    if {"recording", "transcribing"} <= self._started:
                        self.started.set()
                case CallEnded(reason=reason):
                    self._ended = reason

    async def wait(self, what: str, event: asyncio.Event, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await event.wait()
        except TimeoutError:
            ended = f"; the call ended: {self._ended}" if self._ended else ""
            raise RecordingFailed(f"{what} took more than {limit_s:g} s{ended}") from None


async def _call_id(site_url: str, channel_id: str) -> str:
    async with httpx.AsyncClient(base_url=site_url, trust_env=False) as http:
        state: Any = (await http.get(f"/testbed/calls/{channel_id}")).json()
    return str(state["call_id"])


async def _orders() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            yield line.decode().strip()


def _tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


if __name__ == "__main__":
    sys.exit(main())

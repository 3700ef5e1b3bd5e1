"""`python -m testbed.load.worker`: a Celery worker whose jobs are simulated.

Everything but its jobs is what `offloader worker` runs. Settings come from the environment. One JSON line on
standard output when its door is open; it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop

from offloader.http_server import HttpServer
from offloader.listen import bind
from offloader.logging_setup import set_up_logging
from offloader.settings import Settings, load_settings
from offloader.worker.running import running_worker
from testbed.load.simulated import SimulatedBackend


def main() -> None:
    settings = load_settings(Path("/nonexistent"), os.environ)
    set_up_logging(settings.logger)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    url, sockets = settings.worker.url, bind(settings.worker.listen_address)
    async with running_worker(
        settings, environ=os.environ, url=url, backend=SimulatedBackend()
    ) as worker:
        server = HttpServer(worker.app, new_loop=uvloop.new_event_loop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=sockets))
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            print(json.dumps({"listening": True}), flush=True)
            reader = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
            )
            await reader.read()
            worker.closing.set()
            server.should_exit = True


if __name__ == "__main__":
    main()

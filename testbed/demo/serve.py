"""The stack without a scripted call: it stays, for people who join by the stand-in's page."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Final

from testbed.bots.world import read_world
from testbed.demo.options import DemoOptions, provide_models
from testbed.demo.show import Show
from testbed.demo.steps import make_room
from testbed.demo.thread import Thread, ThreadError
from testbed.ports import HOST
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

_KEEP_LIMIT_S: Final = 5.0


async def serve(options: DemoOptions, show: Show, *, hurry: asyncio.Event | None = None) -> None:
    """Run until cancelled; then nothing is left but what was published, in OUTPUT/thread. `hurry` shortens
    the end.

    Raises:
        OptionError: unusable input; nothing was started.
        PortTaken, StartFailed: a server did not come up.
        ProcessDied: one of the servers is gone. A job that fails is told on the page.
    """
    output = options.output.resolve()
    work_dir, logs = output / "work", output / "logs"
    options.ports.check(
        host=options.host,
        bundled_sfu=not options.rtcd_url,
        workers=options.backend == "celery",
    )
    await asyncio.to_thread(make_room, output, work_dir, logs)
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=logs,
        models_dir=provide_models(options, work_dir),
        ports=options.ports,
        backend=options.backend,
        rtcd_url=options.rtcd_url,
        host=options.host,
        real_models=options.models_dir is not None,
        # Browsers give microphone and screen to secure pages alone: https, or http on loopback.
        tls=options.host != HOST,
    )
    show.title("Starting")
    stack = Stack(settings, announce=show.server, hurry=hurry)
    try:
        async with stack:
            _tell(settings, show, logs)
            try:
                await stack.watch(jobs=False)
            finally:
                kept = await _keep(settings, output / "thread")
                if kept:
                    show.line(f"{kept} files of the thread are in {output / 'thread'}")
    finally:
        await asyncio.to_thread(_clean_up, stack, work_dir, logs)
        if work_dir.exists():
            show.line(f"Not every job was done: what they left is in {work_dir}")


def _tell(settings: StackSettings, show: Show, logs: Path) -> None:
    show.success(
        f"Open {settings.site_url}/testbed/call in a browser; Ctrl-C here ends everything."
    )
    show.line("A second tab is a second participant. Stop a recording before you end this.")
    if settings.ca_file is not None:
        show.line(f"The browser will not know the certificate: its CA is {settings.ca_file}")
    if not settings.real_models:
        show.line(
            "The bundled speech model knows 97 synthetic words; MODELS_DIR=… names real ones."
        )
    show.line(f"Logs of all processes: {logs}")


async def _keep(settings: StackSettings, target: Path) -> int:
    """Copy what is in the thread; how many files. A stand-in that is gone tells of none."""
    files: list[tuple[str, str]] = []
    channel_id = read_world(settings.world_file).channel_id
    with contextlib.suppress(ThreadError, TimeoutError):
        async with (
            asyncio.timeout(_KEEP_LIMIT_S),
            Thread(settings.site_url, channel_id, ca_file=settings.ca_file) as thread,
        ):
            files = await thread.files()
    return await asyncio.to_thread(_copy, files, settings.world_file.parent / "files", target)


def _copy(files: list[tuple[str, str]], source: Path, target: Path) -> int:
    if not files:
        return 0
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file_id, name in files:
        with contextlib.suppress(OSError):
            shutil.copyfile(source / file_id, target / Path(name).name)
    return len(list(target.iterdir()))


def _clean_up(stack: Stack, work_dir: Path, logs: Path) -> None:
    """Keep the jobs' logs, and what jobs have left that did not end well."""
    jobs = stack.jobs()
    for number, job in enumerate(jobs, 1):
        with contextlib.suppress(OSError):
            shutil.copyfile(job.log, logs / f"{number}-{job.name}.log")
    if all((job.exit or {}).get("exit_code") == 0 for job in jobs):
        shutil.rmtree(work_dir, ignore_errors=True)

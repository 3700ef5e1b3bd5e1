"""`python -m testbed.demo`: exit code 0 only if every check of the summary holds; with `--serve`: when it was
ended by Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from callclient.plugin_api import ApiError
from testbed.bots.world import WorldError
from testbed.demo.conversation import CallFailed
from testbed.demo.options import DemoOptions, OptionError, read_options
from testbed.demo.run import DemoResult, run_demo
from testbed.demo.serve import serve
from testbed.demo.show import Show
from testbed.demo.thread import ThreadError
from testbed.ports import PortTaken
from testbed.processes import ProcessDied, StartFailed
from testbed.speech.clips import SpeechError

_DONE = 0
_INTERRUPTED = 130
_UNUSABLE = 2
_FAILED = 1
_LAST_LINES = 3
_LAST_BYTES = 4096


def main() -> int:
    """0: all checks hold; 1: a check failed or something died; 2: unusable input; 130: interrupted."""
    show = Show()
    try:
        options = read_options(sys.argv[1:], os.environ)
    except OptionError as error:
        show.failure(str(error))
        return _UNUSABLE
    return play(options, show)


def play(options: DemoOptions, show: Show) -> int:
    """One run of whatever the options ask for; the exit code as of `main`."""
    try:
        result = asyncio.run(_with_signals(options, show))
        if result is None:
            return _DONE
    except (OptionError, SpeechError, PortTaken) as error:
        show.failure(str(error))
        return _UNUSABLE
    except (ProcessDied, StartFailed, CallFailed, ThreadError, ApiError, WorldError) as error:
        what = "demo" if options.install is None else "selftest"
        show.failure(f"The {what} ended early: {error}")
        log = error.death.log if isinstance(error, ProcessDied) else getattr(error, "log", None)
        for line in _last_lines(log) if log is not None else ():
            show.line(line)
        show.line(f"Logs of all processes: {options.output / 'logs'}")
        return _FAILED
    return _report(result, show, str(options.output))


async def _with_signals(options: DemoOptions, show: Show) -> DemoResult | None:
    """The result, None of a stack that was to stay; a signal ends the process once everything is taken down,
    a second one hurries that."""
    hurry = asyncio.Event()
    run: asyncio.Future[DemoResult | None]
    if options.serve:
        run = asyncio.ensure_future(serve(options, show, hurry=hurry))
    else:
        run = asyncio.ensure_future(run_demo(options, show, hurry=hurry))
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            hurry.set()
            return
        interrupted = True
        show.line("stopping …")
        run.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        return await run
    except asyncio.CancelledError:
        if not interrupted:
            raise
        if options.serve:
            show.success("Everything that was started is gone.")
            return None
        show.failure("Interrupted; everything that was started is gone.")
        sys.stdout.flush()
        # A thread may still be busy with analysis, and there is nothing left to save.
        os._exit(_INTERRUPTED)


def _last_lines(log: Path) -> list[str]:
    """Where a process says why it ended, as a rule."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-_LAST_LINES:]


def _report(result: DemoResult, show: Show, output: str) -> int:
    show.summary(result.summary)
    if result.ok:
        show.success(f"All checks hold. Results are in {output}/")
        return 0
    show.failure(f"{len(result.failed)} checks failed:")
    for check in result.failed:
        show.line(f"{check.name}: see {output}/logs/{check.log}.log")
    return _FAILED


if __name__ == "__main__":
    sys.exit(main())

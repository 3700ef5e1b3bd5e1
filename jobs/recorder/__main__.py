"""`python -m jobs.recorder`: the job by its environment; `salvage DIR`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from foundation.logs import configure_logs, get_logger
from jobs.harness import JobContext, run_job
from jobs.recorder.settings import RecorderSettings, read_settings
from jobs.settings import SettingsError

_USAGE = "usage: python -m jobs.recorder [salvage DIRECTORY]\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    match list(sys.argv[1:] if arguments is None else arguments):
        case []:
            return _run(os.environ)
        case ["salvage", directory]:
            from jobs.recorder import salvage

            return salvage.main(Path(directory), os.environ)
        case _:
            sys.stderr.write(_USAGE)
            return 2


def _run(environ: Mapping[str, str]) -> int:
    try:
        settings = read_settings(environ)
    except SettingsError as error:
        # No report: that is what the contract says (calls-plugin.md 9.1).
        configure_logs(level="info")
        get_logger(component="recording").error("settings.invalid", reason=str(error))
        return 1
    return run_job(partial(_job, settings), settings, job_type="recording")


async def _job(settings: RecorderSettings, context: JobContext) -> None:
    from jobs.recorder.job import RecorderJob

    await RecorderJob(context, settings).run()


if __name__ == "__main__":
    sys.exit(main())

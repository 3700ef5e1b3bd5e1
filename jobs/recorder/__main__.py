"""`python -m jobs.recorder`: the job by its environment; `salvage DIR`; `rescue ID`; `subtitles …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from foundation.logs import configure_logs, get_logger
from foundation.tracebacks import hide_texts_of_uncaught
from jobs.harness import JobContext, run_job
from jobs.job_input import InputError, take_input
from jobs.recorder.settings import RecorderSettings, read_settings
from jobs.settings import SettingsError

_USAGE = """usage: python -m jobs.recorder
       python -m jobs.recorder salvage DIRECTORY
       python -m jobs.recorder rescue RECORDING_ID
       python -m jobs.recorder subtitles RECORDING TRANSCRIPT TARGET [LANGUAGE]
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    hide_texts_of_uncaught()
    try:
        environ = take_input(os.environ)
    except InputError as error:
        configure_logs(level="info")
        get_logger(component="recording").error("settings.invalid", reason=str(error))
        return 1
    match list(sys.argv[1:] if arguments is None else arguments):
        case []:
            return _run(environ)
        case ["salvage", directory]:
            from jobs.recorder import salvage

            return salvage.main(Path(directory), environ)
        case ["rescue", job_id]:
            from jobs.copies import rescue
            from jobs.recorder import salvage

            return rescue.main(job_id, environ, salvage=salvage.main)
        case ["subtitles", recording, transcript, target, *language] if len(language) < 2:
            from jobs.recorder import subtitles

            return subtitles.main(Path(recording), Path(transcript), Path(target), *language)
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

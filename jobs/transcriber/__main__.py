"""`python -m jobs.transcriber`: the job by its environment; `salvage rescue retranscribe track offline`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from foundation.logs import configure_logs, get_logger
from foundation.tracebacks import hide_texts_of_uncaught
from jobs.harness import JobContext, run_job
from jobs.job_input import InputError, take_input
from jobs.settings import JobSettings, SettingsError, read_common
from jobs.site_api import site_api
from jobs.status import StatusReporter
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.models import check_models
from jobs.transcriber.settings import JOB_ID_VARIABLE, TranscriberSettings, read_settings

_USAGE = """usage: python -m jobs.transcriber
       python -m jobs.transcriber salvage DIRECTORY
       python -m jobs.transcriber rescue TRANSCRIPTION_ID
       python -m jobs.transcriber retranscribe
       python -m jobs.transcriber track DIRECTORY
       python -m jobs.transcriber offline FILE_OR_DIR…
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    hide_texts_of_uncaught()
    try:
        environ = take_input(os.environ)
    except InputError as error:
        configure_logs(level="info")
        get_logger(component="transcribing").error("settings.invalid", reason=str(error))
        return 1
    match list(sys.argv[1:] if arguments is None else arguments):
        case []:
            return _run(environ)
        case ["salvage", directory]:
            from jobs.transcriber import salvage

            return salvage.main(Path(directory), environ)
        case ["rescue", job_id]:
            from jobs.copies import rescue
            from jobs.transcriber import salvage

            return rescue.main(job_id, environ, salvage=salvage.main)
        case ["retranscribe"]:
            from jobs.transcriber import retranscribe

            return retranscribe.main(environ)
        case ["track", directory]:
            from jobs.transcriber import track

            return track.main(Path(directory), environ)
        case ["offline", *files]:
            from jobs.transcriber import offline

            return offline.main(files)
        case _:
            sys.stderr.write(_USAGE)
            return 2


def _run(environ: Mapping[str, str]) -> int:
    try:
        settings = read_settings(environ)
        if not settings.livekit_url:  # what stands in the way first is told
            check_models(settings)
    except (SettingsError, EngineLoadError) as error:
        return _refuse(environ, str(error))
    return run_job(partial(_job, settings), settings, job_type="transcribing")


async def _job(settings: TranscriberSettings, context: JobContext) -> None:
    from jobs.transcriber.job import TranscriberJob

    await TranscriberJob(context, settings).run()


def _refuse(environ: Mapping[str, str], reason: str) -> int:
    """Invalid settings: exit 1, and reported as far as the settings allow it."""
    configure_logs(level="info")
    get_logger(component="transcribing").error("settings.invalid", reason=reason)
    try:
        common = read_common(environ, job_id_variable=JOB_ID_VARIABLE)
    except SettingsError:
        return 1
    asyncio.run(_report(common, f"failed to create Transcriber: {reason}"))
    return 1


async def _report(common: JobSettings, text: str) -> None:
    async with site_api(common) as api:
        await StatusReporter(api, common, "transcribing").failed(text)


if __name__ == "__main__":
    sys.exit(main())

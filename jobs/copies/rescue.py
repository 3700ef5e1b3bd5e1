"""Finishes a job whose host is lost: its files from their copy, then `salvage` as after any other death."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from foundation.copies.contents import mark_of
from foundation.copies.journal import JournalError, numbers_of
from foundation.copies.stores import CopyStore, StoreError, open_store
from foundation.logs import configure_logs, get_logger
from jobs.copies.fence import write_identity
from jobs.copies.job_copy import LOG_NAME
from jobs.copies.restore import NoCopy, restore
from jobs.tracing import now_ns, rescue_environment

QUIET_S: Final = 25.0
"""A job that lives writes its log, and so its copy, at least every ten seconds, and a round takes five."""
_EXIT_FAILED: Final = 1
_EXIT_USAGE: Final = 2
_EXIT_LIVES: Final = 5
_EXIT_NO_COPY: Final = 6
_JOB_ID: Final = re.compile(r"[a-z0-9]{26}")
_ARTIFACTS_DIR: Final = "artifacts"
_DESCRIPTION: Final = "job.json"
_log = get_logger(component="copies")


class StillWritten(Exception):
    """The job lives, wherever it is."""


def main(
    job_id: str, environ: Mapping[str, str], *, salvage: Callable[[Path, Mapping[str, str]], int]
) -> int:
    """Restore the job into DATA_DIR from the copy at COPIES_URL, and `salvage` it; returns its exit code.

    1: the copy cannot be read now. 2: the job's files are there already. 5: the job lives and publishes for
    itself. 6: there is no copy, or nothing in it to be published.
    """
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    if not _JOB_ID.fullmatch(job_id):
        sys.stderr.write(f"{job_id!r}: should be a job's ID, 26 characters of a-z and 0-9\n")
        return _EXIT_USAGE
    directory = Path(environ.get("DATA_DIR") or "/data") / job_id
    if directory.exists():
        sys.stderr.write(f"{directory}: is there already; finish it by `salvage {directory}`\n")
        return _EXIT_USAGE
    began_ns = now_ns()
    try:
        asyncio.run(_make_again(open_store(environ.get("COPIES_URL", "")), job_id, directory))
    except StillWritten:
        sys.stderr.write(f"the copy of job {job_id} still grows: the job lives\n")
        return _EXIT_LIVES
    except NoCopy as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_NO_COPY
    except (StoreError, JournalError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_FAILED
    _log.info("copy.restored")
    return salvage(directory, rescue_environment(environ, began_ns=began_ns))


async def _make_again(store: CopyStore, job_id: str, directory: Path) -> None:
    before = numbers_of(await store.names(job_id))
    if not before:
        raise NoCopy(f"there is no copy of job {job_id}")
    await asyncio.sleep(QUIET_S)
    if numbers_of(await store.names(job_id)) != before:
        raise StillWritten
    mark = await mark_of(store, job_id)
    await restore(store, job_id, directory, prepare=partial(_prepare, mark=mark))


def _prepare(directory: Path, *, mark: str) -> None:
    """It is another's directory now; the log of the lost job stays with its artifacts."""
    if not (directory / _DESCRIPTION).exists():
        raise NoCopy("nothing in the copy is left to be published")
    write_identity(directory, restored_from=mark)
    log = directory / LOG_NAME
    if log.exists():
        (directory / _ARTIFACTS_DIR).mkdir(mode=0o700, exist_ok=True)
        log.replace(directory / _ARTIFACTS_DIR / LOG_NAME)

"""A job ends itself when nobody else does: politely after its longest duration, by force after the grace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.shutdown import Shutdown
from jobs.own_deadline import LATER_S, own_deadline
from jobs.settings import JobSettings, SettingsError, read_common

ID = "abcdefghijklmnopqrstuvwxy"
ENVIRON = {
    "SITE_URL": "http://127.0.0.1:1",
    "CALL_ID": ID + "c",
    "POST_ID": ID + "p",
    "RECORDING_ID": ID + "r",
    "AUTH_TOKEN": ID + "s",
    "MAX_DURATION_S": "3600",
    "STOP_GRACE_S": "120",
}

HANGS = """
import os, time
from jobs import own_deadline
from jobs.harness import run_job
from jobs.settings import read_common

async def job(context):
    time.sleep(60)  # the event loop hangs

own_deadline.LATER_S = 0.1
run_job(job, read_common(os.environ, job_id_variable="RECORDING_ID"), job_type="recording")
"""


@pytest.fixture
def settings() -> JobSettings:
    return read_common(ENVIRON, job_id_variable="RECORDING_ID")


def test_the_deadline_is_read_and_not_kept_for_salvage(settings: JobSettings) -> None:
    assert (settings.max_duration_s, settings.stop_grace_s) == (3600, 120)
    assert not {"max_duration_s", "stop_grace_s"} & set(settings.to_document())
    kept = json.loads(json.dumps(settings.to_document()))
    again = JobSettings.from_document(kept, auth_token="", directory=Path("/data/r"))
    assert again.max_duration_s == 0


@pytest.mark.parametrize("value", ["soon", "-1", str(2**31)])
def test_an_unusable_deadline_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsError, match="MAX_DURATION_S"):
        read_common({**ENVIRON, "MAX_DURATION_S": value}, job_id_variable="RECORDING_ID")


@pytest.mark.looptime
async def test_the_job_ends_politely_a_little_after_its_longest_duration(
    settings: JobSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    shutdown = Shutdown()
    with own_deadline(settings, shutdown):
        await asyncio.sleep(3600 + LATER_S - 1)
        assert not shutdown.requested.is_set(), "the service goes first"
        await asyncio.sleep(2)
        assert shutdown.requested.is_set()
        assert not shutdown.hurry.is_set()
    assert "deadline.passed" in capsys.readouterr().out


@pytest.mark.looptime
async def test_a_job_that_was_told_to_end_is_not_hurried(settings: JobSettings) -> None:
    shutdown = Shutdown()
    with own_deadline(settings, shutdown):
        shutdown.request()
        await asyncio.sleep(2 * 3600)
    assert not shutdown.hurry.is_set()


@pytest.mark.looptime
async def test_without_a_longest_duration_nothing_ends_it(settings: JobSettings) -> None:
    shutdown = Shutdown()
    with own_deadline(replace(settings, max_duration_s=0), shutdown):
        await asyncio.sleep(10**6)
    assert not shutdown.requested.is_set()


def test_a_job_that_hangs_is_ended_by_the_kernel_after_the_grace() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS],
        env={**os.environ, **ENVIRON, "MAX_DURATION_S": "1", "STOP_GRACE_S": "1"},
        capture_output=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == -signal.SIGALRM, done.stderr.decode()

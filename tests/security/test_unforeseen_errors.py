"""Who meets an error that nobody foresaw tells no token, name or speech: jobs in mid-call, and the service.

A crash by a signal in a whole call: test_hostile_client.py. Here the error's own text, what it was caused by
and what hangs on it are full of canaries, and come from wherever an error can: the job's own coroutine, a
task that nobody waits for, a thread, a destructor, and from outside of the job's own handler.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from offloader.failure_log import newest_error
from testbed.canary import Canary, CanarySearch
from testbed.canary_visit import NAMES, SENTENCES

TOKEN = "q7zk3v9w5x1y8t2u6p4r0m5n3b"
ID = "abcdefghijklmnopqrstuvwxy"
JOBS = {
    "recorder": ("RecorderJob", "recording", {"RECORDING_ID": ID + "r"}),
    "transcriber": (
        "TranscriberJob",
        "transcribing",
        {"TRANSCRIPTION_ID": ID + "r", "MODEL_SIZE": "tiny"},
    ),
}
CANARIES = [
    Canary("token", TOKEN),
    *(Canary("sentence", text, sentence=True) for text in SENTENCES),
    *(Canary("name", name) for both in NAMES.values() for name in both),
]
HEARD = " ".join([*(name for both in NAMES.values() for name in both), *SENTENCES])
PROGRAM = """
import asyncio, gc, json, os, sys, threading
from jobs import container, harness
from jobs.{job} import __main__ as program, job

def fail(secrets):
    try:
        {{}}[secrets]
    except KeyError as error:
        found = RuntimeError(secrets)
        found.add_note(secrets)
        raise found from error

class Ends:
    def __init__(self, secrets):
        self.secrets = secrets
    def __del__(self):
        fail(self.secrets)

async def run(self):
    context = next(v for v in vars(self).values() if isinstance(v, harness.JobContext))
    secrets = context.settings.auth_token + os.environ["HEARD"]
    async def copy():
        fail(secrets)
    task = asyncio.create_task(copy(), name="lost")
    await asyncio.wait([task])
    del task
    gc.collect()
    thread = threading.Thread(target=fail, args=(secrets,), name="voice")
    thread.start()
    thread.join()
    Ends(secrets)
    fail(secrets)

job.{kind}.run = run
program.check_models = lambda settings: None
if {outside!r}:
    async def ends(self, *, hurry):
        fail(os.environ["HEARD"])
    harness.JobCopy.finish = ends
if {alone!r}:
    sys.exit(program.main([]))
sys.exit(container.main(["{job}"]))
"""


@pytest.mark.parametrize("outside", [False, True], ids=["in the job", "in its harness as well"])
@pytest.mark.parametrize("alone", [False, True], ids=["container", "process"])
@pytest.mark.parametrize("job", JOBS)
def test_an_error_nobody_foresaw_tells_its_kind_and_place_and_nothing_of_the_call(
    tmp_path: Path, job: str, alone: bool, outside: bool
) -> None:
    kind, job_type, told = JOBS[job]
    ids = {"CALL_ID": ID + "c", "POST_ID": ID + "p", "AUTH_TOKEN": TOKEN}
    document = json.dumps({"SITE_URL": "http://127.0.0.1:9", "LOG_LEVEL": "debug", **ids, **told})
    path = tmp_path / "input.json"
    if alone:
        path.write_text(document)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(job=job, kind=kind, alone=alone, outside=outside)],
        input=b"" if alone else document.encode(),
        capture_output=True,
        timeout=25,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(tmp_path / "data"),
            "JOB_INPUT_FILE": str(path),
            "HEARD": HEARD,
            **({} if alone else {"JOB_SECRETS": "stdin"}),
        },
    )
    assert done.returncode == 1
    log = done.stderr.decode()
    events = {entry["event"]: entry for entry in _entries(log)}
    trace = events["job.failed"]["exception"]
    assert events["job.failed"]["component"] == job_type
    assert "in fail" in trace
    assert trace.splitlines()[-1] == "RuntimeError"
    assert "Task exception was never retrieved (task lost)" in events
    assert "Exception in thread voice" in log
    assert "Exception ignored" in log
    assert log.rstrip().endswith("RuntimeError") == outside
    search = CanarySearch(CANARIES)
    search.look("job's log", done.stdout + done.stderr)
    # What answers, events and the store repeat of it.
    search.look("API answers", newest_error(done.stderr))
    assert search.found == []


SERVICE = """
import asyncio, os, socket, sys
from pathlib import Path
import httpx
from fastapi import FastAPI
from foundation.logs import get_logger
from offloader.api.errors import install_error_handlers
from offloader.http_server import HttpServer
from offloader.logging_setup import set_up_logging
from offloader.settings import load_settings

set_up_logging(load_settings(Path("/nonexistent"), dict(os.environ)).logger)
app = FastAPI()
install_error_handlers(app)

@app.get("/fails")
async def fails():
    raise ValueError(os.environ["HEARD"]) from KeyError(os.environ["TOKEN"])

async def main():
    bound = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(app)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{bound.getsockname()[1]}/fails", timeout=20)
    print(answer.status_code, answer.headers, answer.text)
    try:
        await fails()
    except ValueError:
        get_logger().exception("supervisor.round_failed")
    server.should_exit = True
    await serving

asyncio.run(main())
"""


def test_an_error_of_the_service_is_answered_and_logged_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    done = subprocess.run(
        [sys.executable, "-c", SERVICE],
        capture_output=True,
        timeout=25,
        check=True,
        env={
            "PATH": os.environ["PATH"],
            "HEARD": HEARD,
            "TOKEN": TOKEN,
            "LOGGER_CONSOLEJSON": "true",
            "LOGGER_FILELOCATION": str(path),
        },
    )
    assert done.stdout.startswith(b"500 ")
    search = CanarySearch(CANARIES)
    search.look("API answers", done.stdout)
    for place, log in (("console", done.stderr.decode()), ("log file", path.read_text())):
        traces = [entry["exception"] for entry in _entries(log) if "exception" in entry]
        assert [trace.splitlines()[-1] for trace in traces] == ["ValueError"] * 2, place
        assert all("in fails" in trace and "KeyError" in trace for trace in traces)
        search.look(place, log)
    assert search.found == []


def _entries(log: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]

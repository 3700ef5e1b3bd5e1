"""Process jobs under a user of their own: they get their own files, and neither the service's nor a way back.

By really changing users, which root alone may: elsewhere the tests say so.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offloader.backends import process_user
from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.process import ProcessBackend
from offloader.errors import BackendError
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings

NAME = "nobody"
TOKEN = "t0ken-of-the-bot"
JOB_ID = "0123456789ab"


class Host:
    """A service's state, as root has it, and process jobs that run scripts."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.jobs_dir = state / "jobs"
        for name in ("offloader.db", "offloader.db.key"):
            (state / name).write_text("secret")
            (state / name).chmod(0o600)
        self.settings = ProcessSettings(
            self.jobs_dir, "", ("/bin/sh",), ("/bin/sh",), 300.0, 1 << 20, user=NAME
        )

    async def backend(self, script: str, **changes: Any) -> ProcessBackend:
        """Its command looks like that of our own jobs, which get their input in a file."""
        command = ("/bin/sh", "-c", script, "-m", "jobs.recorder")
        settings = replace(self.settings, recorder_command=command, **changes)
        backend = ProcessBackend(settings, environ={"PATH": os.environ["PATH"], "HOME": "/root"})
        await backend.adopt()
        return backend

    async def run(self, script: str, **changes: Any) -> tuple[ProcessBackend, Workload]:
        """A job that has ended."""
        backend = await self.backend(script, **changes)
        given = {"auth_token": TOKEN}
        workload = await backend.launch(LaunchRequest(JOB_ID, JobType.RECORDING, "r", given))
        await self.ended(backend, workload)
        return backend, workload

    async def ended(self, backend: ProcessBackend, workload: Workload) -> Observation:
        async with asyncio.timeout(25):
            while (seen := await backend.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING):
                await asyncio.sleep(0.01)
        return seen

    async def log(self, backend: ProcessBackend, workload: Workload) -> str:
        return b"".join([chunk async for chunk in backend.logs(workload)]).decode()


@pytest.fixture
def host(engine_missing: Callable[[str, str], None]) -> Iterator[Host]:
    """Below a directory that everybody may pass, as /var/lib is: pytest's are not."""
    if os.geteuid() != 0:
        engine_missing("root", "only root can change users")
    state = Path(tempfile.mkdtemp(dir="/tmp", prefix="calls-state-"))
    state.chmod(0o711)
    yield Host(state)
    shutil.rmtree(state)


LOOKS = """
id -u; id -g; id -G; umask; ulimit -c
grep -E '^(NoNewPrivs|CapEff|CapPrm|CapAmb)' /proc/self/status
echo "home $HOME"; cat "$JOB_INPUT_FILE"; echo; rm "$JOB_INPUT_FILE" && echo forgotten
for path in ../../offloader.db ../../offloader.db.key job.log shim.json; do
    cat $path 2>/dev/null && echo "READ $path"; done
ls .. 2>/dev/null && echo LISTED
for path in exit.json shim.json ../x; do touch $path 2>/dev/null && echo "WROTE $path"; done
kill -0 $PPID 2>/dev/null && echo "SIGNALLED its shim"
env | grep t0ken && echo "SHOWN"
mkdir $DATA_DIR/r1; echo film > $DATA_DIR/r1/a.mp4
"""


async def test_a_job_has_its_own_files_and_nothing_of_the_services(host: Host) -> None:
    user = pwd.getpwnam(NAME)
    backend, workload = await host.run(LOOKS)
    log = await host.log(backend, workload)
    lines = log.splitlines()
    ids = [str(user.pw_uid), str(user.pw_gid), str(user.pw_gid)]
    assert lines[:5] == [*ids, "0077", "0"], "no supplementary groups, no core dumps"
    said = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert said.pop("NoNewPrivs") == "1"
    assert {int(value, 16) for value in said.values()} == {0}
    assert f"home {user.pw_dir}" in lines
    told = next(json.loads(line) for line in lines if line.startswith("{"))
    assert told["AUTH_TOKEN"] == TOKEN
    assert "forgotten" in lines
    for word in ("READ", "LISTED", "WROTE", "SIGNALLED", "SHOWN", "secret"):
        assert word not in log
    (artifact,) = await backend.artifacts(workload)
    assert (artifact.name, artifact.size_bytes) == ("r1/a.mp4", 5)
    chunks = [chunk async for chunk in backend.read_artifact(workload, artifact.name)]
    assert b"".join(chunks) == b"film\n"

    def of(path: Path) -> tuple[int, str]:
        status = path.stat()
        return status.st_uid, f"{stat.S_IMODE(status.st_mode):04o}"

    directory = host.jobs_dir / JOB_ID
    for path in (host.jobs_dir, directory):
        assert of(path) == (0, "0711")
    for name in ("shim.json", "exit.json", "job.log"):
        assert of(directory / name) == (0, "0600")
    for name, mode in {"data": "0700", "told": "0700", "data/r1": "0700"}.items():
        assert of(directory / name) == (user.pw_uid, mode)
    assert of(directory / "data/r1/a.mp4") == (user.pw_uid, "0600")
    await backend.remove(workload)
    assert not directory.exists()


async def test_the_input_is_for_its_user_alone_and_goes_with_a_job_that_never_took_it(
    host: Host,
) -> None:
    backend, workload = await host.run("stat -c '%u %a' $JOB_INPUT_FILE $(dirname $JOB_INPUT_FILE)")
    uid = pwd.getpwnam(NAME).pw_uid
    assert await host.log(backend, workload) == f"{uid} 600\n{uid} 700\n"
    assert list((host.jobs_dir / JOB_ID / "told").iterdir()) == []


async def test_a_job_is_stopped_and_what_it_left_is_worked_on_as_its_user(host: Host) -> None:
    script = """
    case $1 in salvage) id -u; cat $2/job.json; exit;; esac
    mkdir $DATA_DIR/r1; echo whole > $DATA_DIR/r1/job.json; echo ready
    trap 'exit 7' TERM; while true; do sleep 0.02; done
    """
    script = script.replace("$1", "$2").replace("cat $2", "cat $3")
    backend = await host.backend(script)
    workload = await backend.launch(LaunchRequest(JOB_ID, JobType.RECORDING, "r", {}))
    async with asyncio.timeout(25):
        while "ready" not in await host.log(backend, workload):
            await asyncio.sleep(0.01)
    await backend.stop(workload, grace_s=20)
    seen = await host.ended(backend, workload)
    assert (seen.exit_code, seen.unpublished) == (7, True)
    later = await host.backend(script, user="")  # the setting is gone; whose files they are is not
    attempt = await later.salvage(workload, job_type=JobType.RECORDING, variables={})
    assert (await host.ended(later, attempt)).exit_code == 0
    assert await host.log(later, attempt) == f"{pwd.getpwnam(NAME).pw_uid}\nwhole\n"


async def test_a_program_that_this_user_cannot_start_never_ran(host: Host) -> None:
    program = host.state / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    settings = replace(host.settings, recorder_command=(str(program),))
    backend = ProcessBackend(settings, environ={})
    await backend.adopt()
    workload = await backend.launch(LaunchRequest(JOB_ID, JobType.RECORDING, "r", {}))
    seen = await host.ended(backend, workload)
    assert seen.exit_code is None
    assert seen.detail == f"cannot start {program}: Permission denied"


@pytest.mark.documents("jobs-that-do-not-get-to-their-directory")
async def test_a_way_that_is_closed_is_told_at_the_start(host: Host, documented: Any) -> None:
    host.state.chmod(0o700)
    with pytest.raises(BackendError) as closed:
        await host.backend("true")
    documented("jobs-that-do-not-get-to-their-directory", str(closed.value))


@pytest.mark.documents(
    "a-user-of-jobs-who-does-not-exist",
    "a-user-of-jobs-with-rights",
    "a-service-that-may-not-change-users",
)
def test_a_user_whom_jobs_cannot_have_is_told_at_the_start(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str) -> str:
        settings = ProcessSettings(Path("/n"), "", ("x",), ("x",), 1.0, 1 << 20, user=name)
        with pytest.raises(BackendError) as error:
            ProcessBackend(settings, environ={})
        return str(error.value)

    documented("a-user-of-jobs-who-does-not-exist", refused("no-such-user"))
    documented("a-user-of-jobs-with-rights", refused("root"))
    monkeypatch.setattr(process_user, "_effective_capabilities", lambda: 1 << 7)
    documented("a-service-that-may-not-change-users", refused(NAME))


AS_A_UNIT_HAS_IT = """
import ctypes, os, signal
from offloader.backends.process_user import JobUser
from offloader.backends.shim.other_user import spawn_as
libc = ctypes.CDLL(None, use_errno=True)
KEPT = (0, 1, 3, 5, 6, 7)
bits = sum(1 << bit for bit in KEPT)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([4, 24]); os.setresgid(1, 1, 1); os.setresuid(1, 1, 1)
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(bits, bits, bits)
assert libc.capset(header, sets) == 0, ctypes.get_errno()
for bit in KEPT:
    assert libc.prctl(47, 2, bit, 0, 0) == 0, ctypes.get_errno()  # PR_CAP_AMBIENT_RAISE
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # as the shim has them
signal.signal(signal.SIGHUP, signal.SIG_IGN)
user = JobUser.named("nobody")
os.waitpid(spawn_as(user.uid, user.gid, ["cat", "/proc/self/status"], output_fd=1), 0)
"""


@pytest.mark.usefixtures("host")
def test_no_capability_of_a_service_that_is_not_root_is_of_use_to_a_job() -> None:
    """As AmbientCapabilities= of a unit gives them: a change of user alone would leave them all."""
    run = [sys.executable, "-c", AS_A_UNIT_HAS_IT]
    output = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout
    is_now = {
        name: value.split() for name, _, value in (x.partition(":") for x in output.splitlines())
    }
    user = pwd.getpwnam(NAME)
    assert is_now["Uid"] == [str(user.pw_uid)] * 4
    assert is_now["Gid"] == [str(user.pw_gid)] * 4
    assert is_now["Groups"] == []
    assert is_now["NoNewPrivs"] == ["1"]
    # What may be inherited counts only with a file that asks for it, and not without new privileges.
    for name in ("CapPrm", "CapEff", "CapAmb", "SigBlk"):
        assert int(is_now[name][0], 16) == 0, name
    ignored = int(is_now["SigIgn"][0], 16)  # by whoever started the tests, too
    assert not any(ignored & (1 << (number - 1)) for number in (signal.SIGHUP, signal.SIGPIPE))


def test_a_service_that_may_become_nobody_else_works_on_files_of_whatever_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As file servers name one for everybody."""
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    monkeypatch.setattr(process_user, "_effective_capabilities", lambda: 0)
    assert process_user.JobUser.owner_of(tmp_path) is None
    monkeypatch.setattr(process_user, "_effective_capabilities", lambda: (1 << 41) - 1)
    assert process_user.JobUser.owner_of(tmp_path) is not None

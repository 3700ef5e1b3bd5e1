"""The entry of our images: what the job is told comes through standard input and nowhere else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.container import NoSecrets, receive, take_secrets
from jobs.job_input import take_input
from jobs.settings import SettingsError, read_auth_token

TOKEN = "t" * 26


def test_the_token_goes_into_its_file_and_the_rest_into_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    environ = {"AUTH_TOKEN_FILE": str(path)}
    take_secrets(json.dumps({"AUTH_TOKEN": TOKEN, "HTTPS_PROXY": "http://u:p@h"}).encode(), environ)
    assert environ == {"AUTH_TOKEN_FILE": str(path), "HTTPS_PROXY": "http://u:p@h"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_auth_token(environ) == TOKEN


def test_all_of_it_goes_into_the_one_file_that_the_service_names(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    environ = {"JOB_INPUT_FILE": str(path), "AUTH_TOKEN_FILE": str(tmp_path / "auth_token")}
    before = dict(environ)
    told = {"AUTH_TOKEN": TOKEN, "WIDTH": "1280"}
    assert take_secrets(json.dumps(told).encode(), environ) == told
    assert environ == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["input.json"]
    assert take_input(environ) == {**before, **told}


@pytest.mark.parametrize("document", [b"", b"no json", b"[]", b'{"AUTH_TOKEN": 1}', b"\xff"])
def test_anything_but_an_object_of_texts_is_refused_without_repeating_it(document: bytes) -> None:
    with pytest.raises(NoSecrets) as failure:
        take_secrets(document, {})
    assert "1" not in str(failure.value)


@pytest.mark.parametrize("name", ["AUTH_TOKEN_FILE", "JOB_INPUT_FILE"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    environ = {name: str(tmp_path / "no" / "file")}
    with pytest.raises(NoSecrets, match=rf"{name}=.*No such file") as failure:
        take_secrets(json.dumps({"AUTH_TOKEN": TOKEN}).encode(), environ)
    assert TOKEN not in str(failure.value)


def test_secrets_that_never_end_are_not_waited_for_for_ever() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(NoSecrets, match="did not end"):
            receive(reading, wait_s=0.05)
        os.write(writing, b"some")
        os.close(writing)
        assert receive(reading, wait_s=5) == b"some"
    finally:
        os.close(reading)


def run(*arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.container", *arguments],
        input=stdin,
        capture_output=True,
        timeout=25,
        check=False,
        env={"PATH": os.environ["PATH"], **environ},
    )


@pytest.mark.parametrize("arguments", [(), ("other",)])
def test_without_a_program_there_is_a_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert b"usage" in done.stderr


def test_a_job_leaves_files_for_its_user_alone_and_no_core_dump() -> None:
    script = (
        "import os, resource; from jobs import container; "
        "container._run = lambda *_: print(os.umask(0), *resource.getrlimit(resource.RLIMIT_CORE)) or 0; "
        "container.main(['recorder', 'salvage', 'x'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=25, check=True
    )
    assert done.stdout == f"{0o077} 0 0\n".encode()


@pytest.mark.documents("the-jobs-secrets-did-not-arrive", "the-jobs-secrets-did-not-arrive/2")
def test_a_job_whose_secrets_do_not_come_ends_and_says_so(documented) -> None:
    done = run("recorder", JOB_SECRETS="stdin", AUTH_TOKEN_FILE="/nowhere")
    assert done.returncode == 1
    for entry in ("the-jobs-secrets-did-not-arrive", "the-jobs-secrets-did-not-arrive/2"):
        documented(entry, done.stderr.decode())


def test_the_job_itself_runs_with_what_came(tmp_path: Path) -> None:
    """It gets as far as the first setting that is missing: the token was there."""
    ids = dict.fromkeys(("CALL_ID", "POST_ID"), "a" * 26)
    path = tmp_path / "input.json"
    done = run(
        "recorder",
        stdin=json.dumps({"AUTH_TOKEN": TOKEN, "SITE_URL": "http://127.0.0.1:9", **ids}).encode(),
        JOB_SECRETS="stdin",
        JOB_INPUT_FILE=str(path),
    )
    assert not path.exists()  # read, and gone
    assert done.returncode == 1
    assert b"RecordingID cannot be empty" in done.stderr
    assert TOKEN.encode() not in done.stderr


def test_under_any_other_service_the_environment_counts() -> None:
    done = run("recorder", AUTH_TOKEN="x", SITE_URL="http://h", CALL_ID="a" * 26, POST_ID="a" * 26)
    assert b"AuthToken parsing failed" in done.stderr


def test_a_token_in_the_environment_wins_over_its_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert read_auth_token({"AUTH_TOKEN_FILE": str(path)}) == "from-file"
    assert read_auth_token({"AUTH_TOKEN_FILE": str(path), "AUTH_TOKEN": "own"}) == "own"
    assert read_auth_token({}) == ""


@pytest.mark.documents("a-token-file-that-cannot-be-read")
def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path, documented) -> None:
    with pytest.raises(SettingsError) as refused:
        read_auth_token({"AUTH_TOKEN_FILE": str(tmp_path / "none")})
    documented("a-token-file-that-cannot-be-read", str(refused.value))


class Jobs:
    """A program in the job's place: what it does, and what was run."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.notes = directory / "notes"
        self.directory = self.data_dir / ("r" * 26)
        self.directory.mkdir(parents=True)

    def script(self, body: str, told: dict[str, str]) -> str:
        """Python that plays the parent with `body` as the job; ends with its exit code."""
        return f"""
import os, signal, sys, time
from pathlib import Path
from jobs import container
note = Path({str(self.notes)!r})
def job(program, arguments):
    with note.open("a") as file:
        file.write(" ".join([program, *arguments, os.environ.get("JOB_CRASHED", "")]) + "\\n")
    if arguments:
        return 0
{body}
container._run = job
sys.exit(container.Parent("recorder", {told!r}).run())
"""

    def run(self, body: str, *, told: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        environ = {"PATH": os.environ["PATH"], "DATA_DIR": str(self.data_dir)}
        input_file = str(self.data_dir / "input.json")
        own = {"JOB_INPUT_FILE": input_file} if told else {"RECORDING_ID": "r" * 26}
        return subprocess.Popen(
            [sys.executable, "-c", self.script(body, told or {})],
            env={**environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def ran(self) -> list[str]:
        return [line.strip() for line in self.notes.read_text().splitlines()]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


KILLED = "    os.kill(os.getpid(), signal.SIGKILL)"


def test_a_killed_job_is_finished_by_its_parent(jobs: Jobs) -> None:
    (jobs.directory / "job.json").write_text("{}")
    process = jobs.run(KILLED)
    process.communicate(timeout=25)
    assert process.returncode == 128 + 9
    assert jobs.ran == ["recorder", f"recorder salvage {jobs.directory} 1"]


def test_whoever_finishes_a_killed_job_is_told_the_same_again(jobs: Jobs) -> None:
    """The job had its input, and has removed it."""
    (jobs.directory / "job.json").write_text("{}")
    told = {"AUTH_TOKEN": TOKEN, "RECORDING_ID": "r" * 26}
    process = jobs.run(KILLED, told=told)
    process.communicate(timeout=25)
    assert jobs.ran == ["recorder", f"recorder salvage {jobs.directory} 1"]
    assert take_input({"JOB_INPUT_FILE": str(jobs.data_dir / "input.json")}).items() > told.items()


@pytest.mark.parametrize("body", ["    return 1", "    return 0", "    raise ValueError"])
def test_a_job_that_ended_by_itself_is_not(jobs: Jobs, body: str) -> None:
    (jobs.directory / "job.json").write_text("{}")
    process = jobs.run(body)
    process.communicate(timeout=25)
    assert process.returncode == (0 if body.endswith("0") else 1)
    assert jobs.ran == ["recorder"]


def test_a_job_that_left_nothing_is_not(jobs: Jobs) -> None:
    process = jobs.run(KILLED)
    process.communicate(timeout=25)
    assert process.returncode == 128 + 9
    assert jobs.ran == ["recorder"]


def test_signals_reach_the_job_and_its_exit_code_comes_back(jobs: Jobs) -> None:
    process = jobs.run(
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"  # a signal just before a long sleep would wait for its end
        "        time.sleep(0.01)"
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=25)
    assert process.returncode == 7
    assert jobs.ran == ["recorder"]


def test_a_job_killed_after_it_was_asked_to_end_is_left_to_the_service(jobs: Jobs) -> None:
    (jobs.directory / "job.json").write_text("{}")
    process = jobs.run(
        "    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"  # a signal just before a long sleep would wait for its end
        "        time.sleep(0.01)"
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=25)
    assert process.returncode == 128 + 9
    assert jobs.ran == ["recorder"]

"""The entry of our images: secrets come through standard input and nowhere else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.container import NoSecrets, receive, take_secrets
from jobs.settings import SettingsError, read_auth_token

TOKEN = "t" * 26


def test_the_token_goes_into_its_file_and_the_rest_into_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    environ = {"AUTH_TOKEN_FILE": str(path)}
    take_secrets(json.dumps({"AUTH_TOKEN": TOKEN, "HTTPS_PROXY": "http://u:p@h"}).encode(), environ)
    assert environ == {"AUTH_TOKEN_FILE": str(path), "HTTPS_PROXY": "http://u:p@h"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_auth_token(environ) == TOKEN


@pytest.mark.parametrize("document", [b"", b"no json", b"[]", b'{"AUTH_TOKEN": 1}', b"\xff"])
def test_anything_but_an_object_of_texts_is_refused_without_repeating_it(document: bytes) -> None:
    with pytest.raises(NoSecrets) as failure:
        take_secrets(document, {})
    assert "1" not in str(failure.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    environ = {"AUTH_TOKEN_FILE": str(tmp_path / "no" / "file")}
    with pytest.raises(NoSecrets, match=r"AUTH_TOKEN_FILE=.*No such file") as failure:
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
        timeout=20,
        check=False,
        env={"PATH": os.environ["PATH"], **environ},
    )


@pytest.mark.parametrize("arguments", [(), ("other",)])
def test_without_a_program_there_is_a_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert b"usage" in done.stderr


def test_a_job_whose_secrets_do_not_come_ends_and_says_so() -> None:
    done = run("recorder", JOB_SECRETS="stdin", AUTH_TOKEN_FILE="/nowhere")
    assert done.returncode == 1
    assert b"secrets did not arrive" in done.stderr


def test_the_job_itself_runs_with_what_came(tmp_path: Path) -> None:
    """It gets as far as the first setting that is missing: the token was there."""
    ids = dict.fromkeys(("CALL_ID", "POST_ID"), "a" * 26)
    token_file = str(tmp_path / "auth_token")
    done = run(
        "recorder",
        stdin=json.dumps({"AUTH_TOKEN": TOKEN}).encode(),
        JOB_SECRETS="stdin",
        AUTH_TOKEN_FILE=token_file,
        SITE_URL="http://127.0.0.1:9",
        **ids,
    )
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


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"AUTH_TOKEN_FILE=.*none: cannot be read"):
        read_auth_token({"AUTH_TOKEN_FILE": str(tmp_path / "none")})

"""What a job is told: a file, gone once it is read, or the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.job_input import InputError, take_input, write_input
from jobs.recorder.__main__ import main as recorder
from jobs.transcriber.__main__ import main as transcriber

TOKEN = "t" * 26


def test_the_file_comes_before_the_environment_and_is_gone_once_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    write_input(path, {"AUTH_TOKEN": TOKEN, "WIDTH": "1280"})
    environ = {"JOB_INPUT_FILE": str(path), "WIDTH": "1", "DATA_DIR": "/data"}
    told = take_input(environ)
    assert (told["AUTH_TOKEN"], told["WIDTH"], told["DATA_DIR"]) == (TOKEN, "1280", "/data")
    assert not path.exists()


def test_what_libraries_look_for_gets_into_the_environment_and_the_token_does_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "input.json"
    wide = {
        "HTTPS_PROXY": "http://p",
        "AWS_REGION": "x",
        "OTEL_TRACES_SAMPLER": "y",
        "LOG_LEVEL": "debug",
    }
    own = {
        "AUTH_TOKEN": TOKEN,
        "TRANSCRIBE_API_OPTIONS": "{}",
        "OPENAI_API_KEY": "k",
        "PATH": "/evil",
    }
    write_input(path, wide | own)
    environ = {"JOB_INPUT_FILE": str(path), "PATH": "/bin"}
    take_input(environ)
    assert environ == {"JOB_INPUT_FILE": str(path), "PATH": "/bin", **wide}


def test_under_a_service_that_knows_no_file_the_environment_counts() -> None:
    environ = {"AUTH_TOKEN": TOKEN}
    assert take_input(environ) is environ


@pytest.mark.documents("a-jobs-input-that-cannot-be-read")
@pytest.mark.parametrize("main", [recorder, transcriber])
def test_a_job_whose_input_is_gone_ends_and_says_so(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, documented: Any
) -> None:
    monkeypatch.setenv("JOB_INPUT_FILE", str(tmp_path / "none"))
    assert main([]) == 1
    documented("a-jobs-input-that-cannot-be-read", json.loads(capsys.readouterr().err)["reason"])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"AUTH_TOKEN": 1}', b"\xff", b"[" * 100_000, b"{}" + b" " * (1 << 20)]
)
@pytest.mark.documents("a-jobs-input-of-another-form")
def test_anything_but_an_object_of_texts_is_refused_without_repeating_it(
    content: bytes, tmp_path: Path, documented: Any
) -> None:
    path = tmp_path / "input.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        take_input({"JOB_INPUT_FILE": str(path)})
    documented("a-jobs-input-of-another-form", str(refused.value))

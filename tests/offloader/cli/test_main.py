from __future__ import annotations

from pathlib import Path

import pytest

from offloader.app import running_offloader
from offloader.cli.main import main
from offloader.errors import BackendError, StoreError
from offloader.settings import load_settings


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "my.toml"],
        ["serve", "--config", "my.toml"],
        ["--config", "my.toml", "serve"],
    ],
)
def test_the_original_command_line_reads_the_file_too(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my.toml").write_text("[jobs]\nmax_concurrent_jobs = -1\n")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        "offloader: my.toml: jobs.max_concurrent_jobs: "
        "invalid MaxConcurrentJobs value: should be greater than zero\n"
    )


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"STORE_DATASOURCE": "/proc/x/store.db"}, StoreError, "database /proc/x/store.db: "),
        ({"JOBS_PROCESS_JOBSDIR": "/proc/x"}, BackendError, "jobs_dir: cannot make /proc/x"),
    ],
)
async def test_a_service_that_cannot_start_says_why(
    tmp_path: Path, changes: dict[str, str], error: type[Exception], text: str
) -> None:
    variables = {"STORE_DATASOURCE": f"{tmp_path}/store.db", "JOBS_APITYPE": "process"}
    settings = load_settings(tmp_path / "none.toml", variables | changes)
    with pytest.raises(error, match=text):
        async with running_offloader(settings, environ={}):
            pass


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs"],
        ["jobs", "list", "--limit", "0"],
        ["clients", "add"],
        ["config", "chck"],
        ["drain", "x"],
    ],
)
def test_bad_usage_is_code_2_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: offloader" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "exit codes: 0 done; 1 refused" in capsys.readouterr().out

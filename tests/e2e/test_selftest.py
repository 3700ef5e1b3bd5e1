"""`offloader selftest` as an admin runs it, with jobs as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from offloader.setting_keys import KEYS

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.paired, pytest.mark.timeout(150)]
MODELS = Path(__file__).parents[2] / "models"


def selftest(directory: Path, jobs: str) -> subprocess.CompletedProcess[str]:
    """Run it with this configuration of process jobs, from a directory that is nothing to it."""
    config = directory / "offloader.toml"
    config.write_text(f'jobs.api_type = "process"\n[jobs.process]\n{jobs}\n')
    ours = {key.env for key in KEYS.values()}
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-m", "offloader", "selftest", "--short", "--config", str(config)]
    return subprocess.run(
        [*command, "--output", str(directory / "out")],
        cwd=directory,
        env={**environ, "PYTHONPATH": str(MODELS.parent)},
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )


def test_a_good_installation_passes_and_shows_the_table(tmp_path: Path) -> None:
    done = selftest(tmp_path, f'models_dir = "{MODELS}"')
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("Processes", "caption lag", "words of the transcript", "All checks hold."):
        assert line in done.stdout
    kept = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert {".mp4", ".vtt", ".txt"} <= kept


def test_a_missing_model_is_named_in_the_jobs_own_words(tmp_path: Path) -> None:
    done = selftest(tmp_path, f'models_dir = "{tmp_path}"')
    assert done.returncode == 1
    assert "The selftest ended early: the transcriber ended with exit code 1" in done.stdout
    assert "no model 'base'" in "".join(done.stdout.split("\n"))
    assert done.stderr.startswith("offloader: the selftest failed")

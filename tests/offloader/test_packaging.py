"""The systemd unit: what keeps jobs alive is in it, and systemd understands it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from offloader.app import _DRAIN_SLACK_S
from offloader.setting_keys import KEYS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging/calls-offloader.service"
UNITS = {
    "calls-offloader": UNIT,
    "calls-offloader-worker": ROOT / "packaging/calls-offloader-worker.service",
}


def lines_of(name: str) -> list[str]:
    lines = UNITS[name].read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize(
    "line",
    [
        "KillMode=process",
        "OOMPolicy=continue",
        "Delegate=yes",
        "StateDirectory={name}",
        "Restart=always",
        "User=calls-offloader",
        "WantedBy=multi-user.target",
    ],
)
def test_what_keeps_jobs_and_results_alive_is_there(name: str, line: str) -> None:
    assert line.format(name=name) in lines_of(name)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize(
    "key", ["PrivateTmp", "MemoryDenyWriteExecute", "ProtectControlGroups", "RuntimeMaxSec"]
)
def test_what_would_break_process_jobs_is_not(name: str, key: str) -> None:
    assert not [line for line in lines_of(name) if line.startswith(f"{key}=")]


def test_a_stop_has_time_for_the_grace_and_what_follows() -> None:
    [timeout] = [line for line in lines_of("calls-offloader") if line.startswith("TimeoutStopSec=")]
    grace_s = KEYS["jobs.stop_grace_s"].default
    assert int(timeout.partition("=")[2]) > grace_s + _DRAIN_SLACK_S


def test_a_worker_is_as_hardened_as_the_service() -> None:
    def hardening(name: str) -> list[str]:
        lines = lines_of(name)
        return lines[lines.index("NoNewPrivileges=yes") :]

    assert hardening("calls-offloader-worker") == hardening("calls-offloader")


@pytest.mark.parametrize("name", [*UNITS, "calls-sfu"])
def test_systemd_understands_the_unit(
    name: str, tmp_path: Path, engine_missing: Callable[[str, str], None]
) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        engine_missing("systemd", "systemd-analyze is not installed")
        raise AssertionError
    shipped = ROOT / f"packaging/{name}.service"
    text, count = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", shipped.read_text())
    assert count == 1
    unit = tmp_path / shipped.name
    unit.write_text(text)
    done = subprocess.run(
        [verify, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_guide_names_every_command() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    for command in ("status", "drain", "undrain", "jobs", "clients", "config check"):
        assert f"offloader {command}" in guide

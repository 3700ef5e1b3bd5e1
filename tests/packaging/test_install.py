"""Install, upgrade and go back on one host, with a made-up job service that starts in an instant."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def version_at(host: Any) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{host.port}/version", timeout=5) as answer:
        return str(json.load(answer)["buildVersion"])


def release(host: Any, link: str) -> str:
    return (host.prefix / link).resolve().name.partition("-")[0]


def config_of(host: Any) -> str:
    return str(host.config.read_text())


def test_from_nothing_to_an_upgrade_and_back(host: Any, maker: Any) -> None:
    first, second = maker.bundle("v1.0.0"), maker.bundle("v1.1.0")

    done = host.install(first, "--image-registry", "registry.example.com/calls")
    assert done.returncode == 0, done.stderr
    assert version_at(host) == "v1.0.0"
    assert 'image_registry = "registry.example.com/calls"' in config_of(host)
    assert "MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY=registry.example.com/calls" in done.stdout
    assert (host.prefix / "models/base/model.bin").read_text() == "of v1.0.0"
    assert host.config.stat().st_mode & 0o007 == 0

    again = host.install(first)
    assert (again.returncode, "installed already" in again.stdout) == (0, True), again.stderr

    # What the admin has written stays, whatever the new release would write.
    host.config.write_text(
        config_of(host) + "\n[worker]\nname = 'mine'\nbroker_url = 'amqp://me:hush@mq'\n"
    )
    before = config_of(host)
    # Of older releases three stay; in any case the one to go back to, and one that something runs from.
    for age, name in enumerate(("v0.9.0-1", "v0.8.0-1", "v0.7.0-1", "v0.6.0-1", "by-hand")):
        (host.prefix / "releases" / name).mkdir()
        if name != "by-hand":
            (host.prefix / "releases" / name / "INSTALLED").write_text("mode=process\n")
        os.utime(host.prefix / "releases" / name, (1e9 - age, 1e9 - age))
    os.utime((host.prefix / "current").resolve(), (0, 0))
    with (
        (host.prefix / "releases/v0.6.0-1/INSTALLED").open("r+b") as file,
        mmap.mmap(file.fileno(), 0),
    ):
        done = host.install(second)
    assert done.returncode == 0, done.stderr
    assert "v0.7.0-1 is older than the 3 newest" in done.stdout
    kept = sorted(path.name.partition("-")[0] for path in host.prefix.glob("releases/*"))
    assert kept == ["by", "v0.6.0", "v0.8.0", "v0.9.0", "v1.0.0", "v1.1.0"]
    assert version_at(host) == "v1.1.0"
    assert config_of(host) == before
    assert "  -name = 'mine'" in done.stdout
    assert ("broker_url" in done.stdout, "hush" in done.stdout) == (True, False)
    assert (host.prefix / "models/tiny/model.bin").read_text() == "of v1.0.0"
    [backup] = host.prefix.glob("backups/*")
    assert (backup / "config.toml").read_text() == before
    assert (backup / "offloader.db").read_text() == "v1.0.0\n"
    assert (release(host, "current"), release(host, "previous")) == ("v1.1.0", "v1.0.0")

    back = [str(second.directory / "install.sh"), "--rollback"]
    done = host.run(*back, "--dry-run")
    assert (done.returncode, version_at(host)) == (0, "v1.1.0"), done.stderr
    (backup / "offloader.db").rename(backup / "away")
    done = host.run(*back, "--restore-database")
    assert (done.returncode, "there is no copy of the database" in done.stderr) == (1, True)
    assert version_at(host) == "v1.1.0"
    (backup / "away").rename(backup / "offloader.db")
    done = host.run(*back, "--restore-database")
    assert done.returncode == 0, done.stderr
    assert version_at(host) == "v1.0.0"
    assert (host.state / "offloader.db").read_text() == "v1.0.0\n" * 2
    assert (release(host, "current"), release(host, "previous")) == ("v1.0.0", "v1.1.0")
    assert config_of(host) == before


def test_what_speaks_against_an_upgrade_leaves_the_running_release_alone(
    host: Any, maker: Any
) -> None:
    first, second = maker.bundle("v1.0.0"), maker.bundle("v1.1.0")
    assert host.install(first).returncode == 0
    good = config_of(host)

    (host.state / "busy").touch()
    done = host.install(second)
    assert (done.returncode, "step jobs: jobs run: --drain" in done.stderr) == (1, True), (
        done.stderr
    )
    assert version_at(host) == "v1.0.0"

    done = host.install(second, "--image-registry", "registry.example.com/calls")
    assert 'has jobs.image_registry = "mattermost"' in done.stderr
    assert version_at(host) == "v1.0.0"

    (host.state / "busy").unlink()
    host.config.write_text(good.replace("[jobs]\n", '[jobs]\nrefused_by = "v1.1.0"\n'))
    done = host.install(second)
    assert "step configuration: " in done.stderr
    assert "does not suit v1.1.0" in done.stderr
    assert (version_at(host), release(host, "current")) == ("v1.0.0", "v1.0.0")

    host.config.write_text(good)
    (host.state / "endless").touch()
    done = host.install(second, "--drain")
    assert (done.returncode, "still draining" in done.stderr) == (1, True)
    assert not (host.state / "draining").exists(), "the next call would not be recorded"
    (host.state / "endless").unlink()

    # A release that starts and is not well says how to go back; then the one before serves again.
    (host.state / "broken").touch()
    (host.state / "busy").touch()
    done = host.install(second, "--drain", "--wait", "1")
    assert done.returncode == 1
    assert "/readyz: 503: not ready: broken" in done.stderr
    assert "step check: the service is not well." in done.stderr
    assert "--rollback" in done.stderr
    (host.state / "broken").unlink()
    assert host.run(str(second.directory / "install.sh"), "--rollback").returncode == 0
    assert version_at(host) == "v1.0.0"


def test_without_a_backup_nothing_is_upgraded_and_the_release_before_runs_again(
    host: Any, maker: Any
) -> None:
    assert host.install(maker.bundle("v1.0.0")).returncode == 0
    before = (host.state / "service.pid").read_text()
    # Where the database is cannot be found out any more once the service has stopped.
    (host.state / "mute").touch()
    done = host.install(maker.bundle("v1.1.0"))
    assert (done.returncode, "no values for now" in done.stderr) == (1, True), done.stderr
    assert release(host, "current") == "v1.0.0"
    pid = (host.state / "service.pid").read_text()
    assert pid != before
    assert b"/releases/v1.0.0-" in Path(f"/proc/{pid.strip()}/cmdline").read_bytes()


def test_a_file_that_the_disk_has_changed_ends_the_installation(
    host: Any, maker: Any, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    real = shutil.which("tar")
    # Unpacks as always, and one byte is wrong afterwards.
    (programs / "tar").write_text(
        f'#!/bin/sh\n{real} "$@"\ncase " $* " in *" -xf "*) echo x >> "$2/LICENSE" ;; esac\n'
    )
    (programs / "tar").chmod(0o755)
    host.programs = programs
    done = host.install(maker.bundle("v1.0.0"))
    assert done.returncode == 1
    assert "./LICENSE: FAILED" in done.stdout + done.stderr
    assert "step checksums: " in done.stderr
    assert list(host.prefix.rglob("*")) == [host.prefix / "releases"]

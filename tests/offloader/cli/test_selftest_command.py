"""`offloader selftest` without the call: what it hands over, and when it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from offloader.cli import selftest
from offloader.cli.main import main
from offloader.setting_keys import KEYS
from offloader.settings import read_settings

_PLAYER = """
import json, os, sys
from pathlib import Path
wish = json.load(sys.stdin)
told = {"wish": wish, "environ": dict(os.environ), "cwd": os.getcwd()}
Path(__file__).with_name("told.json").write_text(json.dumps(told))
sys.exit(int(os.environ.get("EXIT", "0")))
"""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS.values():
        monkeypatch.delenv(key.env or "", raising=False)


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """In the testbed's place: a process that tells what it was told."""
    package = tmp_path / "place" / "testbed"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "selftest.py").write_text(_PLAYER)
    spec = SimpleNamespace(submodule_search_locations=[str(package)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    return lambda: json.loads((package / "told.json").read_text())


def run(tmp_path: Path, *arguments: str, toml: str = 'jobs.api_type = "process"\n') -> int:
    config = tmp_path / "config.toml"
    config.write_text(toml)
    output = ["--output", str(tmp_path / "out")]
    return main(["selftest", "--config", str(config), *output, *arguments])


def test_jobs_are_made_of_what_the_configuration_says_and_of_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        'store.data_source = "postgresql://u:secret@db/x"\n'
        "[jobs]\n"
        'api_type = "docker"\nmax_concurrent_jobs = "auto"\ncopies_url = "s3://bucket/x"\n'
        'runner_images = {"mattermost/calls-recorder:*" = "mine/recorder:1"}\n'
        'use_reference_images = true\nhttp_proxy = "http://u:p@proxy:1"\n'
        '[jobs.docker]\nmodels_dir = "/models"\nmemory = "4GiB"\ncpus = 1.5\npids = 500\n'
    )
    assert selftest.environment(read_settings(path, {"DOCKER_NETWORK": "calls"})) == {
        "JOBS_MAXCONCURRENTJOBS": "auto",
        "JOBS_RUNNERIMAGES": '{"mattermost/calls-recorder:*": "mine/recorder:1"}',
        "JOBS_USEREFERENCEIMAGES": "true",
        "JOBS_DOCKER_MODELSDIR": "/models",
        "JOBS_PROCESS_MODELSDIR": "",
        "JOBS_DOCKER_PULLPOLICY": "missing",
        "JOBS_DOCKER_MEMORY": "4GiB",
        "JOBS_DOCKER_CPUS": "1.5",
        "JOBS_DOCKER_PIDS": "500",
        "DOCKER_NETWORK": "calls",
    }


def test_what_is_handed_over_means_the_same_to_another_service(tmp_path: Path) -> None:
    given = {
        "JOBS_PROCESS_RECORDERCOMMAND": '["nice", "recorder"]',
        "JOBS_PROCESS_MEMORYMAX": "2GiB",
        "JOBS_RUNNERIMAGES": '{"a": "b"}',
    }
    missing = tmp_path / "none.toml"
    handed = selftest.environment(read_settings(missing, given))
    # In any case: the testbed's own models would hide those of an image, or of /models; it pulls nothing.
    unnamed = {
        "JOBS_DOCKER_MODELSDIR": "",
        "JOBS_PROCESS_MODELSDIR": "",
        "JOBS_DOCKER_PULLPOLICY": "missing",
    }
    assert handed == handed | unnamed
    assert handed.keys() == given.keys() | unnamed.keys()
    jobs = read_settings(missing, handed).settings.jobs
    assert (jobs.docker.models_dir, jobs.process.models_dir) == ("", "")
    assert jobs.docker.pull_policy == "missing"
    assert jobs.process.recorder_command == ("nice", "recorder")
    assert jobs.process.memory_max_bytes == 2 << 30
    assert jobs.runner_images == {"a": "b"}


def test_the_testbed_knows_none_of_the_services_variables_and_not_its_directory(
    player: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_DATASOURCE", "postgresql://u:secret@db/x")
    monkeypatch.setenv("JOBS_PROCESS_MODELSDIR", "/models")
    assert run(tmp_path, "--short", "--model", "small") == 0
    told = player()
    assert "STORE_DATASOURCE" not in told["environ"]
    assert "secret" not in json.dumps(told)
    assert told["cwd"] == str(tmp_path / "out")
    wish = told["wish"]
    assert (wish["backend"], wish["scenario"], wish["model"]) == ("process", "short", "small")
    assert wish["environment"] == {
        "JOBS_PROCESS_MODELSDIR": "/models",
        "JOBS_DOCKER_MODELSDIR": "",
        "JOBS_DOCKER_PULLPOLICY": "missing",
    }
    assert wish["keep"] is True


@pytest.mark.documents("a-selftest-that-failed")
@pytest.mark.parametrize("code", [1, 2])
def test_a_failed_call_fails_the_command(
    player: Callable[[], Any],
    documented: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: int,
) -> None:
    monkeypatch.setenv("EXIT", str(code))
    assert run(tmp_path) == 1
    error = capfd.readouterr().err
    assert f"({tmp_path}/out)" in error
    documented("a-selftest-that-failed", error.splitlines()[-1])


def test_an_interrupted_call_is_no_failure(
    player: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIT", "130")
    assert run(tmp_path) == 130


@pytest.mark.parametrize("backend", ["kubernetes", "celery"])
def test_jobs_on_other_hosts_are_not_tried_from_here(
    player: Callable[[], Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    backend: str,
) -> None:
    toml = f'jobs.api_type = "{backend}"\njobs.celery.broker_url = "rediss://:pw@h"\n'
    toml += f'secret_key = "{"k" * 32}"\n' if backend == "celery" else ""
    assert run(tmp_path, toml=toml) == 1
    error = capfd.readouterr().err
    assert f"jobs.api_type = {backend}: its jobs run on other hosts" in error, error
    assert run(tmp_path, "--backend", "process", toml=toml) == 0
    assert player()["wish"]["backend"] == "process"


def test_a_configuration_of_no_use_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, toml="jobs.max_concurrent_jobs = []\n") == 1
    assert "jobs.max_concurrent_jobs" in capfd.readouterr().err


@pytest.mark.documents("a-selftest-without-the-testbed")
def test_without_the_testbed_it_says_what_to_run(
    documented: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(tmp_path) == 1
    error = capfd.readouterr().err
    documented("a-selftest-without-the-testbed", error.partition("\n")[0])
    assert "docker run --rm --network host" in error
    assert f"-v {tmp_path}/config.toml:/config.toml:ro" in error
    assert "/calls-testbed:v" in error


@pytest.mark.documents("a-selftest-without-room")
async def test_a_service_without_room_is_left_alone_unless_forced(
    serve: Any, player: Callable[[], Any], documented: Any, tmp_path: Path
) -> None:
    served = await serve(JOBS_MAXCONCURRENTJOBS="1", JOBS_APITYPE="process")
    output = ("--output", str(tmp_path / "out"), "--backend", "process")
    assert (await served.run("selftest", *output)).code == 0
    await served.running.create_job()
    refused = await served.run("selftest", *output)
    assert refused.code == 1
    documented("a-selftest-without-room", refused.err.strip())
    assert (await served.run("selftest", "--force", *output)).code == 0
    assert player()["wish"]["backend"] == "process"

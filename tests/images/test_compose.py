"""deploy/compose.yaml: taken by compose, and what it says works on a real engine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from offloader.settings import load_settings
from offloader.version import BUILD_VERSION
from testbed.ports import Ports

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"


@pytest.fixture(scope="session")
def compose(engine_missing: Callable[[str, str], None]) -> list[str]:
    """The command, `docker compose` or the older `docker-compose`."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
        engine_missing("docker-compose", "install docker-compose, or the plugin of docker")
    return ["docker", "compose"]


def run(compose: list[str], *arguments: str, **variables: str) -> str:
    """What compose prints. Raises CalledProcessError."""
    command = [*compose, "-f", str(FILE), *arguments]
    kept = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
    environment = {**kept, "HOME": "/nonexistent", **variables}
    done = subprocess.run(
        command,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_every_service_is_one_of_our_images_without_privileges(
    image_names: dict[str, str],
) -> None:
    services = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    assert sorted(services) == ["offloader", "sfu"]
    for name, service in services.items():
        registry = "${CALLS_REGISTRY:-calls-native-offloader}"
        version = f"${{CALLS_VERSION:-{BUILD_VERSION}}}"
        assert service["image"] == f"{registry}/calls-{name}:{version}"
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges"]
        assert service["restart"] == "unless-stopped"


@pytest.mark.slow
def test_the_service_takes_what_the_file_gives_it(compose: list[str]) -> None:
    variables = {
        "DOCKER_GID": "999",
        "CALLS_REGISTRY": "registry.example.com/calls",
        "JOBS_NETWORK": "host",
        "MODELS_DIR": "/srv/models",
        "JOBS_SITEURLOVERRIDES": '{"https://chat.example.com": "http://mattermost:8065"}',
        "JOBS_EXTRAHOSTS": '["chat.example.com:10.0.0.5"]',
    }
    service = yaml.safe_load(run(compose, "config", **variables))["services"]["offloader"]
    told = {key: str(value) for key, value in service["environment"].items() if value is not None}
    jobs = load_settings(Path("/nonexistent"), told).jobs
    assert jobs.docker.network == "host"
    assert jobs.docker.models_dir == "/srv/models"
    assert jobs.network.site_url_overrides == {"https://chat.example.com": "http://mattermost:8065"}
    assert jobs.network.extra_hosts == (("chat.example.com", "10.0.0.5"),)
    version = BUILD_VERSION
    assert set(jobs.runner_images.values()) == {
        f"registry.example.com/calls/calls-{name}:{version}" for name in ("recorder", "transcriber")
    }


@pytest.mark.slow
def test_without_the_sockets_group_compose_says_what_to_set(compose: list[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run(compose, "config")
    assert "stat -c %g /var/run/docker.sock" in refused.value.stderr


@pytest.fixture
def project(
    compose: list[str],
) -> Iterator[Callable[..., str]]:
    """Compose commands on a project of its own, gone afterwards."""
    ports = Ports.free()
    name = f"test{secrets.token_hex(4)}"
    variables = {
        "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
        "OFFLOADER_PORT": str(ports.offloader),
        "SFU_PORT": str(ports.sfu),
        "MEDIA_PORT": str(ports.media),
    }

    def do(*arguments: str) -> str:
        return run(compose, "-p", name, *arguments, **variables)

    yield do
    do("down", "-v", "--timeout", "5")


@pytest.mark.slow
@pytest.mark.parametrize("image", ["offloader", "sfu"], indirect=True)
def test_both_services_are_healthy_by_their_own_checks_and_stop_politely(
    image: Any, project: Callable[..., str]
) -> None:
    project("up", "-d", image.name)
    container = project("ps", "-q", image.name).strip()
    client = image.client
    check = client.inspect_container(container)["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    healthy, deadline = False, time.monotonic() + 20
    while not healthy and time.monotonic() < deadline:
        made = client.exec_create(container, check[1:])
        client.exec_start(made)
        healthy = client.exec_inspect(made)["ExitCode"] == 0
    assert healthy, client.logs(container).decode()
    project("stop")
    assert client.inspect_container(container)["State"]["ExitCode"] == 0

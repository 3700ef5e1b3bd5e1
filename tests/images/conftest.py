"""The images of this release on a real engine, looked at once each."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import pytest

ROOT = Path(__file__).parents[2]
HARDENED = {
    "ReadonlyRootfs": True,
    "Tmpfs": {"/tmp": ""},
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
}
"""`docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges`."""


@pytest.fixture(scope="session")
def build_script() -> Path:
    return ROOT / "images" / "build.sh"


@pytest.fixture(scope="session")
def image_names(build_script: Path) -> dict[str, str]:
    """What every image is called, by the name of its Dockerfile."""
    listed = subprocess.run([build_script, "--list"], check=True, capture_output=True, text=True)
    return {re.split("[-:]", name)[-2]: name for name in listed.stdout.split()}


@dataclass
class Image:
    client: docker.APIClient
    name: str
    reference: str

    @cached_property
    def about(self) -> dict[str, Any]:
        inspected: dict[str, Any] = self.client.inspect_image(self.reference)
        return inspected

    @property
    def labels(self) -> dict[str, str]:
        return {**self.about["Config"]["Labels"]}

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        return list(self.client.history(self.reference))

    def output(self, script: str) -> str:
        """What a shell script prints in it, as root and without network."""
        container = self.client.create_container(
            self.reference,
            user="0",
            entrypoint=["/bin/sh", "-euc", script],
            host_config={"NetworkMode": "none", "ReadonlyRootfs": True},
        )
        try:
            self.client.start(container)
            status = self.client.wait(container, timeout=30)["StatusCode"]
            out: bytes = self.client.logs(container, stderr=False)
            assert status == 0, self.client.logs(container, stdout=False).decode()
        finally:
            self.client.remove_container(container, force=True, v=True)
        return out.decode()

    @cached_property
    def bill(self) -> dict[str, Any]:
        """Its bill of materials."""
        document: dict[str, Any] = json.loads(self.output("cat /app/sbom.cdx.json"))
        return document

    def versions(self, kind: str) -> dict[str, str]:
        """What its bill of materials names, by name: `pypi` or `deb`."""
        mark = f"pkg:{kind}/"
        return {c["name"]: c["version"] for c in self.bill["components"] if mark in c["purl"]}


_seen: dict[str, Image] = {}


@pytest.fixture
def image(
    request: pytest.FixtureRequest,
    tiny_images: Any,
    image_names: dict[str, str],
    engine_missing: Callable[[str, str], None],
) -> Image:
    """The one that the test names by an indirect parameter."""
    reference = image_names[request.param]
    if not tiny_images.client.images(reference):
        engine_missing("docker", f"{reference} is not on the engine: run `make images`")
    return _seen.setdefault(request.param, Image(tiny_images.client, request.param, reference))


class Running:
    """A container without any privilege."""

    def __init__(self, client: docker.APIClient, container: str) -> None:
        self.client = client
        self.container = container

    def log(self) -> str:
        text: bytes = self.client.logs(self.container)
        return text.decode()

    def wait_for_line(self, wanted: str, limit_s: float = 20) -> None:
        """Until the log has this text. Raises AssertionError with the log otherwise."""
        deadline = time.monotonic() + limit_s
        while wanted not in self.log():
            state = self.client.inspect_container(self.container)["State"]
            assert state["Running"], f"it has ended with {state['ExitCode']}: {self.log()}"
            assert time.monotonic() < deadline, f"no {wanted!r} in: {self.log()}"
            time.sleep(0.1)

    def run(self, *command: str) -> str:
        """What a command prints in it."""
        made = self.client.exec_create(self.container, list(command))
        out: bytes = self.client.exec_start(made)
        code = self.client.exec_inspect(made)["ExitCode"]
        assert code == 0, out.decode()
        return out.decode()

    def ended_by(self, signal: str, limit_s: float = 20) -> int:
        """Its exit code after this signal."""
        self.client.kill(self.container, signal)
        code: int = self.client.wait(self.container, timeout=limit_s)["StatusCode"]
        return code


@pytest.fixture
def start(image: Image) -> Iterator[Callable[..., Running]]:
    """Starts it as `docker run` with read-only root, a tmpfs at /tmp and no privilege."""
    made: list[str] = []

    def started(
        *command: str,
        environment: dict[str, str] | None = None,
        network: str = "none",
        binds: tuple[str, ...] = (),
    ) -> Running:
        config = {**HARDENED, "NetworkMode": network, "Binds": list(binds)}
        container = image.client.create_container(
            image.reference,
            command=list(command) or None,
            environment=environment or {},
            host_config=config,
        )["Id"]
        made.append(container)
        image.client.start(container)
        return Running(image.client, container)

    yield started
    for container in made:
        image.client.remove_container(container, force=True, v=True)

"""A real engine and a real registry: what was saved is loaded, pushed, and can be pulled again."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def registry(tmp_path: Path, unused_tcp_port: int, engine_missing: Any) -> Iterator[str]:
    """Its name for the engine."""
    program = shutil.which("docker-registry")
    if program is None:
        engine_missing("docker-registry", "apt-get install docker-registry")
    (tmp_path / "config.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{unused_tcp_port}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(tmp_path / "config.yml")], stdout=log, stderr=log
        )
    name = f"localhost:{unused_tcp_port}"
    for _ in range(250):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port}/v2/", timeout=5).close()
            break
        except urllib.error.URLError:
            if process.poll() is not None:
                pytest.fail((tmp_path / "registry.log").read_text())
            subprocess.run(["sleep", "0.1"], check=True)
    yield name
    process.terminate()
    process.wait()


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_images_reach_a_registry_through_the_archive(
    maker: Any, host: Any, tiny_images: Any, registry: str, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    sbom = tmp_path / "sbom"
    sbom.mkdir()
    (sbom / "one.cdx.json").write_text("{}")
    # The session's maker and host have a made-up engine.
    real = replace(maker, directory=tmp_path / "bundles", programs=nothing, _made={})
    host.programs = nothing
    image = tiny_images.image("true")
    content = docker("image", "inspect", "--format", "{{.Id}}", image)
    bundle = real.bundle("v1.0.0", "--images", image, "--sbom", str(sbom))
    docker("image", "rm", image)
    pushed = f"{registry}/calls/{image.rpartition('/')[2]}"
    try:
        done = host.install(bundle, "--mode", "images", "--image-registry", f"{registry}/calls")
        assert done.returncode == 0, done.stderr
        assert docker("image", "inspect", "--format", "{{.Id}}", image) == content
        docker("image", "rm", pushed)
        docker("pull", "--quiet", pushed)
        assert docker("image", "inspect", "--format", "{{.Id}}", pushed) == content
    finally:
        subprocess.run(["docker", "image", "rm", pushed], capture_output=True, check=False)

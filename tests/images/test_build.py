"""How images are built: from the lock file alone, and what the scripts of the build refuse."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from offloader.version import BUILD_VERSION
from testbed.stack_settings import IMAGES, WORKER_IMAGE

ROOT = Path(__file__).parents[2]
IMAGES_DIR = ROOT / "images"
DOCKERFILES = [path for path in sorted(IMAGES_DIR.glob("*.Dockerfile")) if path.stem != "model"]
OURS = "calls-native-offloader"
LOCK = (ROOT / "uv.lock").read_text(encoding="utf-8")


def script(path: Path) -> ModuleType:
    """A program of the build as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_names_every_image_of_this_release(image_names: dict[str, str]) -> None:
    assert sorted(image_names) == [path.stem for path in DOCKERFILES]
    assert set(image_names.values()) == {
        f"calls-native-offloader/calls-{name}:{BUILD_VERSION}" for name in image_names
    }
    assert {*IMAGES, WORKER_IMAGE} <= set(image_names.values())


def test_what_images_have_in_common_is_built_once() -> None:
    """The engine takes steps from its cache as long as all before them are the same, too."""
    common = {
        re.search(r"\nFROM \S+ AS build\n.*?tools\.sh\n", path.read_text("utf-8"), re.S)[0]  # type: ignore[index]  # a file without it shall fail
        for path in DOCKERFILES
    }
    assert len(common) == 1


def test_one_version_of_uv_sets_up_everything() -> None:
    locked = {p["name"]: p["version"] for p in tomllib.loads(LOCK)["package"] if "version" in p}
    assert f"UV_VERSION := {locked['uv']}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_uv_itself_is_installed_by_the_hashes_of_the_lock_file() -> None:
    line = script(IMAGES_DIR / "steps" / "pinned.py").requirement(LOCK, "uv")
    name, *hashes = line.split()
    (uv,) = [package for package in tomllib.loads(LOCK)["package"] if package["name"] == "uv"]
    assert name == f"uv=={uv['version']}"
    assert f"--hash={uv['wheels'][0]['hash']}" in hashes
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes)


def test_a_tool_that_is_not_locked_is_not_installed() -> None:
    with pytest.raises(SystemExit, match=r"uv.lock has 0 packages 'no-such-thing'"):
        script(IMAGES_DIR / "steps" / "pinned.py").requirement(LOCK, "no-such-thing")


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "always==1 \\\n    --hash=sha256:aa\nold-python==2 \\\n    --hash=sha256:bb\n"),
        (
            "aarch64",
            "always==1 \\\n    --hash=sha256:aa\nold-python==2 \\\n    --hash=sha256:bb\n"
            "arm==4 \\\n    --hash=sha256:dd \\\n    --hash=sha256:ee\n",
        ),
    ],
)
def test_a_wheelhouse_has_what_debians_python_needs_whatever_python_fills_it(
    machine: str, expected: str
) -> None:
    exported = (
        "always==1 \\\n    --hash=sha256:aa\n"
        "old-python==2 ; python_full_version < '3.11.3' \\\n    --hash=sha256:bb\n"
        "colours==3 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
        "arm==4 ; platform_machine == 'aarch64' \\\n    --hash=sha256:dd \\\n    --hash=sha256:ee\n"
    )
    assert script(IMAGES_DIR / "for_debian.py").wanted(exported, machine) == expected


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["desktop"], {}, "no image desktop; there are: recorder"),
        (["sfu"], {"MODELS": "huge"}, "images/models/huge/model.bin is missing"),
    ],
)
def test_a_build_that_cannot_be_meant_is_refused_before_it_begins(
    build_script: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    path = {"PATH": "/usr/bin:/bin", "BASE_IMAGE": "none", "SOURCE_DATE_EPOCH": "0"}
    refused = subprocess.run(
        [build_script, *arguments], env={**path, **environment}, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert said in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_inputs_make_the_same_layers(tiny_images: Any, build_script: Path) -> None:
    """The second build has nothing of the first; only what the engine notes of a build differs."""
    tags = [f"test-{secrets.token_hex(4)}" for _ in range(2)]
    looks = []
    try:
        for tag, anew in zip(tags, ({}, {"NO_CACHE": "1"}), strict=True):
            environment = {**os.environ, **anew, "TAG": tag, "BASE": "debootstrap"}
            subprocess.run([build_script, "sfu"], env=environment, check=True, capture_output=True)
            looks.append(tiny_images.client.inspect_image(f"{OURS}/calls-sfu:{tag}"))
    finally:
        for tag in tags:
            (ROOT / f"dist/images/calls-sfu-{tag}.cdx.json").unlink(missing_ok=True)
            removal = ["docker", "image", "rm", f"{OURS}/calls-sfu:{tag}"]
            subprocess.run(removal, check=False, capture_output=True)
    first, second = looks
    assert first["RootFS"]["Layers"] == second["RootFS"]["Layers"]
    for look in looks:
        del look["Config"]["Image"]  # the ID of the step before
    assert first["Config"] == second["Config"]
    # As docs/images.md says of the IDs.
    assert {name for name in first if first[name] != second[name]} >= {"Id", "Created"}


@pytest.mark.slow
def test_each_model_is_a_layer_of_its_own(
    tiny_images: Any, tmp_path: Path, engine_missing: Callable[[str, str], None]
) -> None:
    image = tiny_images.image("/bin/sh", "-c", "cat /models/*/model.bin", own=True)
    for name in ("tiny", "base"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_text(f"{name}\n")
    before = tiny_images.client.inspect_image(image)
    command = [IMAGES_DIR / "add-models.sh", image, tmp_path, "tiny", "base"]
    subprocess.run(command, check=True, capture_output=True)
    after = tiny_images.client.inspect_image(image)
    layers = after["RootFS"]["Layers"]
    assert layers[:-2] == before["RootFS"]["Layers"]
    label = "calls-native-offloader.models"
    assert after["Config"]["Labels"] == {**before["Config"]["Labels"], label: "tiny base"}
    assert after["Config"]["Entrypoint"] == before["Config"]["Entrypoint"]

    subprocess.run([*command[:-2], "base"], check=True, capture_output=True)
    again = tiny_images.client.inspect_image(image)["RootFS"]["Layers"]
    assert again[-1] == layers[-1], "the same model makes the same layer"

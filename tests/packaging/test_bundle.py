"""What is in the archive, and that it is the same each time."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

IMAGE = "calls-native-offloader/calls-recorder:v1.0.0"


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            member.name.partition("/")[2]: tar.extractfile(member).read()
            for member in tar
            if member.isfile()
        }


def test_everything_that_a_host_without_network_needs_is_in_it(maker: Any) -> None:
    files = contents(maker.bundle().archive)
    for name in (
        "install.sh",
        "RELEASE",
        "LICENSE",
        "offloader.sample.toml",
        "docs/airgapped.md",
        "models/tiny/model.bin",
        "systemd/calls-offloader.service",
        "systemd/calls-offloader-worker.service",
        "systemd/calls-sfu.service",
        "wheelhouse/requirements.txt",
        "wheelhouse/calls_native_offloader-1.0.0-py3-none-any.whl",
    ):
        assert name in files, name
    charts = [name for name in files if name.startswith("charts/")]
    assert sorted(name.rpartition("-")[0] for name in charts) == [
        "charts/mattermost-calls-offloader",
        "charts/mattermost-rtcd",
    ]
    charts.sort()
    with tarfile.open(fileobj=io.BytesIO(files[charts[0]])) as chart:
        assert "mattermost-calls-offloader/Chart.yaml" in chart.getnames()


def test_every_file_has_its_checksum(maker: Any) -> None:
    files = contents(maker.bundle().archive)
    sums = dict(
        reversed(line.split("  ./", 1)) for line in files.pop("SHA256SUMS").decode().splitlines()
    )
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_each_model_gets_a_manifest(maker: Any) -> None:
    files = contents(maker.bundle().archive)
    digest = hashlib.sha256(files["models/tiny/model.bin"]).hexdigest()
    assert files["models/tiny/SHA256SUMS"].decode() == f"{digest}  model.bin\n"


def test_models_that_lead_out_of_their_directory_are_refused(maker: Any, tmp_path: Path) -> None:
    """As caches of downloads have them: on the other side they would lead nowhere."""
    tree = tmp_path / "tree"
    shutil.copytree(maker.bundle().directory.parent / "tree", tree, symlinks=True)
    (tmp_path / "blob").write_text("weights")
    (tree / "models/small").mkdir()
    (tree / "models/small/model.bin").symlink_to(tmp_path / "blob")
    done = maker.run(
        tree, "--sign-key", "signer@example.com", "--no-images", "--output", str(tmp_path)
    )
    assert done.returncode == 1
    assert "links lead out of it, and would lead nowhere" in done.stderr
    assert "./small/model.bin" in done.stderr


def test_whoever_unpacks_it_may_read_it(maker: Any, tmp_path: Path) -> None:
    """The service has a user of its own; models may have been kept for oneself."""
    tree = tmp_path / "tree"
    shutil.copytree(maker.bundle().directory.parent / "tree", tree, symlinks=True)
    (tree / "models/tiny/model.bin").chmod(0o600)
    options = ("--sign-key", "signer@example.com", "--no-images", "--output", str(tmp_path))
    assert maker.run(tree, *options).returncode == 0
    assert (tmp_path / maker.bundle().archive.name).read_bytes() == (
        maker.bundle().archive.read_bytes()
    )


def test_images_and_their_bills_of_materials_are_in_it(maker: Any) -> None:
    files = contents(maker.with_images().archive)
    assert files["images/images.tar.gz"][:2] == b"\x1f\x8b"
    assert "sbom/calls-recorder-v1.0.0.cdx.json" in files
    assert f"images={IMAGE}\n" in files["RELEASE"].decode()


def test_the_same_sources_make_the_same_bytes(maker: Any, tmp_path: Path) -> None:
    first = maker.bundle()
    tree = tmp_path / "tree"
    shutil.copytree(first.directory.parent / "tree", tree, symlinks=True)
    options = ("--sign-key", "signer@example.com", "--no-images", "--output", str(tmp_path))
    assert maker.run(tree, *options).returncode == 0
    assert (tmp_path / first.archive.name).read_bytes() == first.archive.read_bytes()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--no-images"], "--sign-key (SIGN_KEY=…) is missing"),
        (["--no-images", "--sign-key", "nobody@example.com"], "gpg has no such secret key"),
        (
            ["--no-images", "--sign-key", "signer@example.com", "--models", "none"],
            "no such directory",
        ),
        (
            ["--no-images", "--sign-key", "signer@example.com", "--wheelhouse", "none"],
            "make wheelhouse",
        ),
        (
            ["--images", IMAGE, "--sign-key", "signer@example.com", "--arch", "arm64"],
            "is for amd64, not for arm64",
        ),
        (["--frobnicate"], "unknown option --frobnicate"),
        (["--models"], "--models: should be followed by a value"),
    ],
)
def test_what_is_missing_is_named(
    maker: Any, tmp_path: Path, options: list[str], text: str
) -> None:
    tree = maker.bundle().directory.parent / "tree"
    done = maker.run(tree, "--output", str(tmp_path / "out"), *options)
    assert done.returncode == 1
    assert text in done.stderr
    assert not list(tmp_path.glob("out/*.tar"))


@pytest.mark.parametrize(
    "script", ["packaging/install.sh", "packaging/bundle.sh", ".ci/airgapped", ".ci/bare-debian"]
)
def test_shellcheck_finds_nothing(script: str, engine_missing: Any) -> None:
    if shutil.which("shellcheck") is None:
        engine_missing("shellcheck", "apt-get install shellcheck")
    path = Path(__file__).parents[2] / script
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")

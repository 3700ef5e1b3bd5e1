"""Nothing of an archive is used before its signature is verified, and a dry run changes nothing."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def tree_of(directory: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in directory.rglob("*"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 512)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda b: flip(b.archive, 40_000), "not signed by a key of"),
        (lambda b: flip(b.archive, -20_000), "not signed by a key of"),
        (lambda b: append(b.archive), "not signed by a key of"),
        (lambda b: b.archive.with_name(f"{b.archive.name}.sig").unlink(), ".sig: no such file"),
        (lambda b: b.archive.with_name(f"{b.archive.name}.sig").write_bytes(b""), "not signed by"),
        (
            lambda b: (b.directory / "install.sh.sig").rename(f"{b.archive}.sig"),
            "not signed by a key of",
        ),
        (lambda b: b.archive.unlink(), "no calls-native-offloader-*-amd64.tar beside install.sh"),
    ],
    ids=[
        "first bytes",
        "last bytes",
        "longer",
        "no signature",
        "empty",
        "of another file",
        "no archive",
    ],
)
def test_an_archive_that_is_not_as_it_was_signed_is_not_touched(
    host: Any, bundle: Any, spoil: Callable[[Any], object], text: str
) -> None:
    spoil(bundle)
    before = tree_of(host.root)
    done = host.install(bundle)
    assert done.returncode == 1
    assert text in done.stderr
    assert tree_of(host.root) == before


def test_a_signature_of_somebody_else_is_none(host: Any, bundle: Any) -> None:
    done = host.install(bundle, keyring=host.keys.stranger)
    assert done.returncode == 1
    assert "step signature" in done.stderr
    assert "Nothing of it was used" in done.stderr
    assert not host.prefix.exists()


def test_keys_have_to_be_given_in_the_form_that_gpgv_reads(
    host: Any, bundle: Any, tmp_path: Path
) -> None:
    armoured = tmp_path / "key.asc"
    armoured.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    assert "gpg --dearmor" in host.install(bundle, keyring=armoured).stderr
    assert "no such file" in host.install(bundle, keyring=tmp_path / "none").stderr
    command = [str(bundle.directory / "install.sh")]
    done = host.run(*command)
    assert "--keyring is missing" in done.stderr


def test_a_key_that_was_revoked_is_not_trusted(host: Any, bundle: Any) -> None:
    [certificate] = [
        path.read_text().replace("\n:---", "\n---")
        for path in (host.keys.home / "openpgp-revocs.d").iterdir()
        if "signer@" in path.read_text()
    ]
    with tempfile.TemporaryDirectory(prefix="gpg-", ignore_cleanup_errors=True) as home:
        gpg = ["gpg", "--batch", "--quiet", "--homedir", home]
        subprocess.run([*gpg, "--import", str(host.keys.trusted)], check=True)
        subprocess.run([*gpg, "--import"], input=certificate, text=True, check=True)
        revoked = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
    keyring = bundle.directory / "revoked.gpg"
    keyring.write_bytes(revoked)
    done = host.install(bundle, "--verify", keyring=keyring)
    assert (done.returncode, "the key that signed it is revoked" in done.stderr) == (1, True)


def test_nothing_beside_the_archive_is_run_by_python(
    host: Any, bundle: Any, tmp_path: Path
) -> None:
    for name in ("venv", "ensurepip", "platform", "compileall"):
        (bundle.directory / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n"
        )
    host.stands_in = bundle.directory
    done = host.install(bundle, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    lines = [line.partition(" -m ") for line in done.stdout.splitlines() if " -m " in line]
    assert [(head.endswith(" -I"), rest.split()[0]) for head, _, rest in lines] == [
        (True, "venv"),
        (True, "compileall"),
    ]


def test_what_leads_out_of_the_archive_or_has_rights_of_its_own_is_refused(
    host: Any, bundle: Any, tmp_path: Path
) -> None:
    """An archive by another hand, signed all the same."""
    top = bundle.archive.name.removesuffix(".tar")
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(bundle.archive)], check=True)
    (tmp_path / top / "models/base").unlink()
    (tmp_path / top / "models/base").symlink_to("/etc")
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(bundle.archive), top], check=True)
    command = ["gpg", "--homedir", str(host.keys.home), "--batch", "--yes", "--detach-sign"]
    command += ["--local-user", "signer@example.com", "--output", f"{bundle.archive}.sig"]
    subprocess.run([*command, str(bundle.archive)], check=True)
    done = host.install(bundle)
    assert done.returncode == 1
    assert "something else than files and links within it: ./models/base" in done.stderr
    assert list(host.prefix.rglob("*")) == [host.prefix / "releases"]


def test_a_release_of_one_mode_is_not_replaced_by_another(host: Any, maker: Any) -> None:
    """It would run on, unseen, with its port and its jobs."""
    release = host.prefix / "releases/v0.9.0-12345678"
    release.mkdir(parents=True)
    (release / "INSTALLED").write_text("mode=process\nimage=\nnetwork=\n")
    (host.prefix / "current").symlink_to(release)
    done = host.install(maker.with_images(), "--mode", "docker", "--dry-run")
    assert "--mode docker: the release that is installed here is of mode process" in done.stderr
    assert done.returncode == 1


def test_an_installer_of_another_release_is_refused(host: Any, bundle: Any) -> None:
    script = bundle.directory / "install.sh"
    script.write_text(script.read_text() + "# newer\n")
    done = host.install(bundle)
    assert "step archive: this install.sh is not the one in the archive" in done.stderr
    assert not host.prefix.exists()


def test_verifying_alone_installs_nothing(host: Any, bundle: Any) -> None:
    done = host.install(bundle, "--verify")
    assert done.returncode == 0
    assert "v1.0.0 for amd64" in done.stdout
    assert not host.prefix.exists()


@pytest.mark.parametrize("mode", ["process", "docker", "images"])
def test_a_dry_run_prints_every_step_and_changes_nothing(host: Any, maker: Any, mode: str) -> None:
    made = maker.bundle() if mode == "process" else maker.with_images()
    before = tree_of(host.root)
    options = ("--dry-run", "--mode", mode, "--image-registry", "registry.example.com:5000/calls")
    done = host.install(made, *options)
    assert done.returncode == 0, done.stderr
    steps = [
        line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("== ")
    ]
    wanted = {
        "process": "python unpack host program models configuration switch start check",
        "docker": "engine unpack images host program models configuration switch start check",
        "images": "engine unpack images program",
    }
    assert steps == ["signature", "archive", *wanted[mode].split()]
    assert 'jobs.image_registry = "registry.example.com:5000/calls"' in done.stdout
    assert "MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY=registry.example.com:5000/calls" in done.stdout
    assert done.stdout.endswith("Nothing was changed.\n")
    assert tree_of(host.root) == before


def test_images_are_loaded_named_and_pushed(host: Any, maker: Any) -> None:
    made = maker.with_images()
    image = "calls-native-offloader/calls-recorder:v1.0.0"
    said = host.programs / "said"
    said.unlink(missing_ok=True)
    done = host.install(made, "--mode", "images", "--image-registry", "localhost:5000/calls")
    assert done.returncode == 0, done.stderr
    lines = said.read_text().splitlines()
    name = "localhost:5000/calls/calls-recorder:v1.0.0"
    assert [line for line in lines if " load " in line]
    assert f"docker tag {image} {name}" in lines
    assert f"docker push --quiet {name}" in lines
    assert list(host.prefix.glob("releases/v1.0.0-*/charts/*.tgz"))

    # Once more where the same release serves: its environment stays, and the images go out all the same.
    [release] = host.prefix.glob("releases/v1.0.0-*")
    (release / "venv").mkdir()
    (release / "INSTALLED").write_text("mode=process\n")
    (host.prefix / "current").symlink_to(release)
    said.unlink()
    done = host.install(made, "--mode", "images", "--image-registry", "localhost:5000/calls")
    assert done.returncode == 0, done.stderr
    assert f"docker push --quiet {name}" in said.read_text().splitlines()
    assert (release / "venv").is_dir()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--frobnicate"], 2, "unknown option --frobnicate"),
        (["--mode", "podman"], 2, "--mode podman: should be process, docker or images"),
        (["--arch", "sparc"], 2, "--arch sparc: should be amd64 or arm64"),
        (["--arch", "arm64"], 1, "no calls-native-offloader-*-arm64.tar"),
        (["--prefix", "opt"], 2, "opt: should be an absolute path"),
        (["--prefix", "/a b"], 2, "paths: should have"),
        (["--listen", "4545;reboot"], 2, "--listen 4545;reboot: should be host:port"),
        (["--image-registry", "a b"], 2, "--image-registry a b: should be like"),
        (["--wait", "soon"], 2, "--wait soon: should be a whole number"),
        (["--binary", "/nowhere.tar"], 1, "step arguments: /nowhere.tar: no such file"),
        (["--mode", "docker"], 1, "step engine: the archive was made without images"),
        (["--python", "/bin/nothing"], 1, "step python: /bin/nothing is not installed"),
        (["--units"], 2, "--units: the units have the default --prefix"),
        (["--rollback"], 1, "step rollback: "),
    ],
)
def test_what_cannot_be_done_is_named(
    host: Any, maker: Any, options: list[str], code: int, text: str
) -> None:
    command = [str(maker.bundle().directory / "install.sh"), "--keyring", str(host.keys.trusted)]
    user = ["--prefix", str(host.prefix), "--state-dir", str(host.state)]
    environment = {"PATH": f"{host.programs}:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        [*command, *user, *options], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert not host.prefix.exists()

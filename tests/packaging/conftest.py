"""Bundles of a made-up product, small enough to be installed in seconds; the scripts are the real ones."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIGNER = "signer@example.com"

_SETTINGS = """
import tomllib
from types import SimpleNamespace as Names
def read_settings(path, environ):
    address = tomllib.loads(path.read_text())["api"]["http"]["listen_address"]
    address = environ.get("API_HTTP_LISTENADDRESS", address)
    api = Names(listen_address=address, tls=Names(enable=False))
    return Names(settings=Names(api=api))
"""
_PROGRAM = '''
"""Just so much of the job service as its installer sees."""
import json, os, signal, sys, tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
VERSION = "@VERSION@"
state = Path(os.environ.get("STATE_DIRECTORY", "/nowhere"))
def main():
    path = Path(sys.argv[sys.argv.index("--config") + 1])
    document = tomllib.loads(path.read_text())
    jobs = document["jobs"]
    jobs["image_registry"] = os.environ.get("JOBS_IMAGEREGISTRY", jobs["image_registry"])
    http = document["api"]["http"]
    http["listen_address"] = os.environ.get("API_HTTP_LISTENADDRESS", http["listen_address"])
    words = " ".join(word for word in sys.argv[1:3] if not word.startswith("-"))
    if words == "config check":
        if jobs.get("refused_by") == VERSION:
            sys.exit(f"{path}: jobs.refused_by: not with {VERSION}")
    elif words == "config show":
        if (state / "stopped").exists():
            sys.exit("no values for now")
        values = {
            "jobs.image_registry": jobs["image_registry"],
            "store.data_source": str(state / "offloader.db"),
            "api.http.listen_address": document["api"]["http"]["listen_address"],
        }
        print(json.dumps({"values": {name: {"value": value} for name, value in values.items()}}))
    elif words.startswith("status"):
        sys.exit("a call is recorded" if (state / "busy").exists() else 0)
    elif words.startswith("undrain"):
        (state / "draining").unlink()
    elif words.startswith("drain"):
        (state / "draining").touch()
        if (state / "endless").exists():
            sys.exit("still draining")
        (state / "busy").unlink(missing_ok=True)
    else:
        serve(document["api"]["http"]["listen_address"])
def serve(address):
    host, _, port = address.rpartition(":")
    (state / "offloader.db").open("a").write(VERSION + "\\n")
    ready = not (state / "broken").exists()
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answers = {"/healthz": {"status": "ok"}, "/readyz": {"status": "ready"}}
            answer, status = answers.get(self.path, {"buildVersion": VERSION}), 200
            if self.path == "/readyz" and not ready:
                answer, status = {"error": "not ready: broken"}, 503
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())
        def log_message(self, *_):
            pass
    server = HTTPServer((host, int(port)), Handler)
    def stop(*_):
        if (state / "mute").exists():
            (state / "stopped").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(0.05)
'''


def write_wheel(
    path: Path, name: str, version: str, files: dict[str, str], script: str = ""
) -> None:
    info = f"{name}-{version}.dist-info"
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    lines = []
    for member, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{member},sha256={digest.decode()},{len(text.encode())}\n")
    members[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"])
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)


@dataclass
class Keys:
    """A pair that signs, and the files of public keys."""

    home: Path
    trusted: Path
    stranger: Path
    """Somebody else's."""


@pytest.fixture(scope="session")
def keys(
    tmp_path_factory: pytest.TempPathFactory, engine_missing: Callable[[str, str], None]
) -> Iterator[Keys]:
    for program in ("gpg", "gpgv"):
        if shutil.which(program) is None:
            engine_missing("gpg", f"{program} is not installed (apt-get install gnupg gpgv)")
    # Not below pytest's own directory: gpg's socket needs a short path.
    with tempfile.TemporaryDirectory(prefix="gpg-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        environment = {**os.environ, "GNUPGHOME": name}

        def gpg(*arguments: str) -> None:
            command = ["gpg", "--batch", "--quiet", "--passphrase", "", *arguments]
            subprocess.run(command, env=environment, check=True, capture_output=True)

        directory = tmp_path_factory.mktemp("keys")
        for mail in (SIGNER, "stranger@example.com"):
            gpg("--quick-generate-key", mail, "ed25519", "sign", "never")
            gpg("--output", str(directory / mail), "--export", mail)
        yield Keys(home, directory / SIGNER, directory / "stranger@example.com")
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False)


def product_tree(directory: Path, version: str) -> Path:
    """What bundle.sh reads, with a program of a few lines."""
    for name in ("packaging", "helm"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("offloader.sample.toml", "LICENSE", "CHANGELOG.md", "README.md"):
        shutil.copyfile(ROOT / name, directory / name)
    house = directory / "wheelhouse"
    for path in (directory / "offloader", directory / "docs", directory / "models/tiny", house):
        path.mkdir(parents=True)
    (directory / "offloader/version.py").write_text(f'BUILD_VERSION = "{version}"\n')
    (directory / "docs/airgapped.md").write_text("How to.\n")
    (directory / "models/tiny/model.bin").write_text(f"of {version}")
    (directory / "models/base").symlink_to("tiny")
    write_wheel(
        house / "dependency-1.0-py3-none-any.whl", "dependency", "1.0", {"dependency.py": ""}
    )
    digest = hashlib.sha256((house / "dependency-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (house / "requirements.txt").write_text(f"dependency==1.0 --hash=sha256:{digest}\n")
    number = version.removeprefix("v")
    write_wheel(
        house / f"calls_native_offloader-{number}-py3-none-any.whl",
        "calls_native_offloader",
        number,
        {
            "offloader/__init__.py": "",
            "offloader/settings.py": _SETTINGS,
            "offloader/program.py": textwrap.dedent(_PROGRAM).replace("@VERSION@", version),
        },
        script="calls-offloader = offloader.program:main",
    )
    return directory


@dataclass
class Bundle:
    """What is carried to the other side."""

    directory: Path
    version: str

    @property
    def archive(self) -> Path:
        return self.directory / f"calls-native-offloader-{self.version}-amd64.tar"


@dataclass
class Maker:
    """Makes bundles; `programs` come first in PATH."""

    keys: Keys
    directory: Path
    programs: Path
    _made: dict[tuple[str, ...], Bundle] = field(default_factory=dict)

    def run(self, tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "GNUPGHOME": str(self.keys.home),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "SOURCE_DATE_EPOCH": "1767225600",
        }
        command = ["packaging/bundle.sh", "--wheelhouse", "wheelhouse", *options]
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False
        )

    def bundle(self, version: str = "v1.0.0", *options: str) -> Bundle:
        """Made once for all tests; copy it before you change it."""
        options = options or ("--no-images",)
        known = self._made.get((version, *options))
        if known is not None:
            return known
        place = self.directory / str(len(self._made))
        tree = product_tree(place / "tree", version)
        done = self.run(tree, "--sign-key", SIGNER, "--output", str(place / "media"), *options)
        assert done.returncode == 0, done.stderr
        self._made[version, *options] = Bundle(place / "media", version)
        return self._made[version, *options]

    def with_images(self) -> Bundle:
        """One of v1.0.0 with what the made-up engine says are images."""
        sbom = self.directory / "sbom"
        sbom.mkdir(exist_ok=True)
        (sbom / "calls-recorder-v1.0.0.cdx.json").write_text("{}")
        image = "calls-native-offloader/calls-recorder:v1.0.0"
        return self.bundle("v1.0.0", "--images", image, "--sbom", str(sbom))


_DOCKER = """#!/bin/sh
# Tells what it was told, and answers what the scripts ask.
echo "docker $*" >> "$(dirname "$0")/said"
case "$1 $2" in
    "image inspect") [ "$3" = --format ] && echo amd64 ;;
    "save "*) echo layers ;;
    "inspect "*) exit 1 ;;
esac
exit 0
"""


@pytest.fixture(scope="session")
def maker(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    programs = tmp_path_factory.mktemp("programs")
    (programs / "docker").write_text(_DOCKER)
    (programs / "docker").chmod(0o755)
    return Maker(keys, tmp_path_factory.mktemp("bundles"), programs)


@dataclass
class Host:
    """A machine to install on: a directory. `install` runs the installer of a bundle."""

    root: Path
    keys: Keys
    programs: Path
    port: int
    stands_in: Path | None = None
    """Where the installer is called."""

    def install(
        self, bundle: Bundle, *options: str, keyring: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [
            str(bundle.directory / "install.sh"),
            "--keyring",
            str(keyring or self.keys.trusted),
        ]
        return self.run(*command, "--listen", f"127.0.0.1:{self.port}", *options)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        user = subprocess.run(
            ["id", "-un"], capture_output=True, text=True, check=True
        ).stdout.strip()
        places = [
            "--prefix",
            str(self.prefix),
            "--state-dir",
            str(self.state),
            "--user",
            user,
            "--wait",
            "20",
        ]
        environment = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        return subprocess.run(
            [command[0], *places, *command[1:]],
            env=environment,
            cwd=self.stands_in,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def prefix(self) -> Path:
        return self.root / "opt"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def config(self) -> Path:
        return self.prefix / "config.toml"

    def stop(self) -> None:
        try:
            pid = int((self.state / "service.pid").read_text())
            os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):
            pass


@pytest.fixture
def host(maker: Maker, keys: Keys, tmp_path: Path, unused_tcp_port: int) -> Iterator[Host]:
    host = Host(tmp_path, keys, maker.programs, unused_tcp_port)
    yield host
    host.stop()


@pytest.fixture
def bundle(maker: Maker, tmp_path: Path) -> Bundle:
    """One of v1.0.0 without images, to be spoilt."""
    made = maker.bundle()
    shutil.copytree(made.directory, tmp_path / "media")
    return Bundle(tmp_path / "media", made.version)

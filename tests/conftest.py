"""What all tests share."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import structlog

_configure_structlog = structlog.configure


def _configure_uncached(**options: object) -> None:
    """A logger that a test has used must not keep that test's configuration for the next one."""
    _configure_structlog(**{**options, "cache_logger_on_first_use": False})


structlog.configure = _configure_uncached


@pytest.fixture(autouse=True)
def fresh_logs() -> Iterator[None]:
    """Whatever a test configures or binds, the next one does not see."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def engine_missing(name: str, reason: str) -> None:
    """Skip a test that needs an engine; fail it where the variable REQUIRE names the engine, or `all`."""
    required = os.environ.get("REQUIRE", "").replace(",", " ").split()
    if name in required or "all" in required:
        pytest.fail(f"{name} is required: {reason}")
    pytest.skip(f"no {name}: {reason}")


_APPLETS = tuple(
    "cat env grep id kill ln ls mkdir mkfifo printf rm seq setsid sh sleep touch true".split()  # noqa: SIM905
)


class TinyImages:
    """Images of a few KiB on a real engine: a static busybox, and what is to run. Gone after the run."""

    def __init__(self, client: docker.APIClient, busybox: str) -> None:
        self.client = client
        self.run_id = f"test-{secrets.token_hex(4)}"
        """Part of every name on the engine, which others may use too."""
        self.root = _tiny_root(Path(busybox))
        """Their root file system as tar."""
        self._made: dict[tuple[str, ...], str] = {}

    def image(self, *entrypoint: str, own: bool = False) -> str:
        """An image that runs this; `own`: it says that it keeps our job contract."""
        key = (*entrypoint, str(own))
        if key not in self._made:
            name = f"{self.run_id}/calls-recorder:v{len(self._made)}"
            changes = [f"ENTRYPOINT {json.dumps(entrypoint)}", "ENV PATH=/bin"]
            if own:
                changes.append("LABEL calls-native-offloader.job-contract=1")
            repository, tag = name.split(":")
            self.client.import_image_from_data(
                self.root, repository=repository, tag=tag, changes=changes
            )
            self._made[key] = name
        return self._made[key]

    def clean_up(self) -> None:
        for name in self._made.values():
            self.client.remove_image(name, force=True)
        self.client.close()


def _tiny_root(busybox: Path) -> bytes:
    """A root file system as tar: busybox under the names that scripts use, /data of the jobs' user."""
    root = io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as tar:
        for folder, mode, owner in (
            ("bin", 0o755, 0),
            ("etc", 0o755, 0),
            ("data", 0o700, 10001),
            ("tmp", 0o1777, 0),
        ):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, mode
            member.uid = member.gid = owner
            tar.addfile(member)
        files = {"bin/busybox": busybox.read_bytes(), "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
        for applet in _APPLETS:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(member)
    return root.getvalue()


@pytest.fixture(scope="session")
def tiny_images() -> Iterator[TinyImages]:
    """A real Docker Engine with images of this run."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        if address.startswith("unix:"):
            # The SDK would leave its own socket open when nobody answers.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect("/" + address.removeprefix("unix:").lstrip("/"))
        client = docker.APIClient(version="auto", timeout=60, **docker.utils.kwargs_from_env())
    except (docker.errors.DockerException, OSError):
        engine_missing("docker", "no engine answers: install docker.io and start dockerd")
        raise AssertionError from None
    busybox = shutil.which("busybox")
    if busybox is None:
        engine_missing("docker", "no busybox to make images of: install busybox-static")
        raise AssertionError
    images = TinyImages(client, busybox)
    yield images
    images.clean_up()


@pytest.fixture(scope="session", name="engine_missing")
def engine_missing_fixture() -> Callable[[str, str], None]:
    """Call it with the engine's name and the reason: see the function."""
    return engine_missing


class PostgresServer:
    """A real server on a socket in a temporary directory; anybody there is its superuser."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        # It refuses to be root.
        self._user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}

    def start(self) -> None:
        self._directory.chmod(0o755)
        data = self._directory / "data"
        data.mkdir()
        if self._user:
            shutil.chown(self._directory, **self._user)
            shutil.chown(data, **self._user)
        self._run("initdb", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
        self.restart()

    def restart(self) -> None:
        """Every connection is lost."""
        options = f"-k {self._directory} -c listen_addresses='' -c fsync=off -c max_connections=200"
        log = str(self._directory / "log")
        self._run("pg_ctl", "-w", "-m", "immediate", "-o", options, "-l", log, "restart")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Its URL."""
        name = f"test_{secrets.token_hex(4)}"
        self._run("createdb", "-h", str(self._directory), "-U", "postgres", name, data=False)
        return f"postgresql://postgres@/{name}?host={self._directory}"

    def _run(self, program: str, *arguments: str, data: bool = True) -> None:
        where = ["-D", str(self._directory / "data")] if data else []
        command = [str(self._programs / program), *where, *arguments]
        done = subprocess.run(
            command,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            **self._user,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')}"


def _postgres_programs() -> Path | None:
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return newest and newest.parent


@pytest.fixture(scope="session")
def _started_postgres() -> Iterator[Callable[[], PostgresServer | None]]:
    """Start it at the first use only."""
    servers: list[PostgresServer] = []
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as name:

        def start() -> PostgresServer | None:
            programs = _postgres_programs()
            if not servers and programs is not None:
                server = PostgresServer(programs, Path(name))
                server.start()
                servers.append(server)
            return servers[0] if servers else None

        yield start
        for server in servers:
            server.stop()


@pytest.fixture
def postgres(_started_postgres: Callable[[], PostgresServer | None]) -> PostgresServer:
    """A PostgreSQL server of this test run."""
    server = _started_postgres()
    if server is None:
        engine_missing("postgres", "neither on PATH nor below /usr/lib/postgresql")
    assert server is not None
    return server


@pytest.fixture(scope="session", autouse=True)
def no_stray_event_loop() -> Iterator[None]:
    """Own the main thread's default loop: pytest-asyncio would make one and leave it unclosed, which
    fails whatever test happens to run when it is collected."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()

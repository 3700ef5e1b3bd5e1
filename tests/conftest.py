"""What all tests share."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import docker
import hypothesis
import pytest
import structlog

from testbed.brokers import BrokerMissing, RabbitHost, RabbitServer, RedisServer
from testbed.browser import accessibility
from testbed.browser.tab import Tab
from tests.engine_door import EngineDoor

pytest_plugins = ["tests.socket_origins", "tests.turns"]

# Before numpy or a speech engine is loaded: threads that spin for each other's end starve on busy cores.
for _library in ("OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_PR_SET_CHILD_SUBREAPER = 36
with contextlib.suppress(AttributeError):  # only glibc has mallopt(3)
    # A model's and a picture's buffers stay mapped: the kernel would clear them anew for every use.
    ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    ctypes.CDLL(None).mallopt(_M_MMAP_MAX, 0)

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

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


@pytest.fixture(autouse=True)
def no_foster_child() -> Iterator[None]:
    """Whoever adopts orphans in a test (testbed.processes) does not adopt later tests' servers, too."""
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: two for each core, since half of the tests' time is waiting; not where there are many cores:
    each one has all tests to read in."""
    cores = len(os.sched_getaffinity(0))
    return max(cores, min(2 * cores, 16))


def engine_missing(name: str, reason: str) -> None:
    """Skip a test that needs an engine; fail it where the variable REQUIRE names the engine, or `all`."""
    required = os.environ.get("REQUIRE", "").replace(",", " ").split()
    if name in required or "all" in required:
        pytest.fail(f"{name} is required: {reason}")
    pytest.skip(f"no {name}: {reason}")


_SCRIPTS_USE = (
    "cat env grep head id kill ln ls mkdir mkfifo printf rm seq setsid sh sleep touch tr true"
)
_APPLETS = tuple(_SCRIPTS_USE.split())


class TinyImages:
    """Images of a few KiB on a real engine: a static busybox, and what is to run. Gone after the run."""

    def __init__(self, client: docker.APIClient, busybox: str, door: EngineDoor | None) -> None:
        self.client = client
        """The test's own, right at the engine."""
        self.door = door
        """Before the engine, with the service's listed calls; None: it is not on this host."""
        self.environ = {**os.environ, **({"DOCKER_HOST": door.address} if door else {})}
        """A service's, whose way to the engine is through the door."""
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
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyImages]:
    """A real Docker Engine with images of this run; services reach it through a door (engine_door.py)."""
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
    door = None
    if address.startswith("unix:"):
        socket_path = "/" + address.removeprefix("unix:").lstrip("/")
        door = EngineDoor(tmp_path_factory.mktemp("door"), socket_path)
    images = TinyImages(client, busybox, door)
    yield images
    images.clean_up()
    if door is not None:
        door.close()
        assert door.refused == [], "what a service asks of an engine is listed in engine_calls.py"


class LoopClock:
    """The clock of a loop whose time is virtual."""

    def utc_now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


@pytest.fixture
def loop_clock() -> LoopClock:
    return LoopClock()


@pytest.fixture(scope="session")
def tests_in() -> Callable[[str], frozenset[str]]:
    """The names of the tests in a file (its path from here on), for tables of what is proved where."""

    @cache
    def names(file: str) -> frozenset[str]:
        text = (Path(__file__).parent / file).read_text(encoding="utf-8")
        return frozenset(re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE))

    return names


@pytest.fixture
def ipv6() -> None:
    """What a test asks for that needs IPv6 on the loopback interface."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        engine_missing("ipv6", f"::1 cannot be used: {error.strerror}")


@pytest.fixture(scope="session", name="engine_missing")
def engine_missing_fixture() -> Callable[[str, str], None]:
    """Call it with the engine's name and the reason: see the function."""
    return engine_missing


@pytest.fixture(scope="session")
def axe_violations() -> Callable[[Tab], Awaitable[list[str]]]:
    """`await axe_violations(tab)`: what axe-core finds serious or critical in a page, a line each."""
    return lambda tab: accessibility.violations(tab, Path(__file__).parent / "axe" / "axe.min.js")


class PostgresServer:
    """A real server on a socket in a temporary directory; anybody there is its superuser."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self.directory = directory
        """All that it writes."""
        # It refuses to be root.
        self._user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}

    def start(self) -> None:
        self.directory.chmod(0o755)
        data = self.directory / "data"
        data.mkdir()
        if self._user:
            shutil.chown(self.directory, **self._user)
            shutil.chown(data, **self._user)
        self._run("initdb", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
        self.restart()

    def restart(self) -> None:
        """Every connection is lost."""
        options = f"-k {self.directory} -c listen_addresses='' -c fsync=off -c max_connections=200"
        log = str(self.directory / "log")
        self._run("pg_ctl", "-w", "-m", "immediate", "-o", options, "-l", log, "restart")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Its URL."""
        name = f"test_{secrets.token_hex(4)}"
        self._run("createdb", "-h", str(self.directory), "-U", "postgres", name, data=False)
        return f"postgresql://postgres@/{name}?host={self.directory}"

    def _run(self, program: str, *arguments: str, data: bool = True) -> None:
        where = ["-D", str(self.directory / "data")] if data else []
        command = [str(self._programs / program), *where, *arguments]
        done = subprocess.run(
            command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            **self._user,
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


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis of this test's own (its `url`), which may be stopped, frozen and started again."""
    try:
        server = RedisServer(tmp_path / "redis")
    except BrokerMissing as error:
        engine_missing("redis", str(error))
        raise AssertionError from None
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _started_rabbitmq() -> Iterator[Callable[[], RabbitServer]]:
    """Start it at the first use only: it takes seconds."""
    servers: list[RabbitServer] = []
    with tempfile.TemporaryDirectory(prefix="mq-", dir="/tmp", ignore_cleanup_errors=True) as name:

        def start() -> RabbitServer:
            if not servers:
                server = RabbitServer(Path(name))
                servers.append(server)
                server.start()
            return servers[0]

        yield start
        for server in servers:
            server.end()


@pytest.fixture
def rabbitmq(_started_rabbitmq: Callable[[], RabbitServer]) -> Iterator[RabbitHost]:
    """A virtual host of this test's own (its `url`) on a real RabbitMQ of this run. Its tests are `slow`."""
    try:
        server = _started_rabbitmq()
    except BrokerMissing as error:
        engine_missing("rabbitmq", str(error))
        raise AssertionError from None
    host = server.new_host()
    yield host
    host.remove()


@pytest.fixture(scope="session", autouse=True)
def no_stray_event_loop() -> Iterator[None]:
    """Own the main thread's default loop: pytest-asyncio would make one and leave it unclosed, which
    fails whatever test happens to run when it is collected."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


_TROUBLESHOOTING = Path(__file__).parents[1] / "docs" / "troubleshooting.md"


@cache
def documented_texts() -> dict[str, str]:
    """The texts of docs/troubleshooting.md by their entry: the anchor of its heading, with /2, /3 … from the
    second text on. What differs each time is written there as ‹what›."""
    texts: dict[str, str] = {}
    page = _TROUBLESHOOTING.read_text(encoding="utf-8")
    for title, body in re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        found = re.findall(r"^```text\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)
        for number, text in enumerate(found, 1):
            texts[anchor if number == 1 else f"{anchor}/{number}"] = " ".join(text.split())
    return texts


class Documented:
    """Compares what was emitted with what docs/troubleshooting.md says."""

    def __init__(self, entries: frozenset[str]) -> None:
        self.entries = entries
        """Those that the marks of the test name."""
        self.compared: set[str] = set()

    def marked(self, emitted: str) -> None:
        """Compare with whatever the marks of this row of a table name."""
        for entry in self.entries:
            self(entry, emitted)

    def __call__(self, entry: str, emitted: str) -> None:
        """`emitted` is the whole text; white space counts as one space."""
        text = documented_texts()[entry]
        pattern = ".+?".join(re.escape(part) for part in re.split("‹[^›]+›", text))
        assert re.fullmatch(pattern, " ".join(emitted.split()), re.DOTALL), f"{text!r}: {emitted!r}"
        self.compared.add(entry)


@pytest.fixture
def documented(request: pytest.FixtureRequest) -> Documented:
    """`documented(ENTRY, TEXT)`, for each entry of the test's `documents` marks (tests/docs)."""
    marks = request.node.iter_markers("documents")
    return Documented(frozenset(str(entry) for mark in marks for entry in mark.args))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that went well, and compared less than its marks say, did not."""
    result = yield
    here = getattr(item, "funcargs", {}).get("documented")
    left = here.entries - here.compared if here is not None else ()
    assert not left, f"the test was to provoke {sorted(left)} of docs/troubleshooting.md"
    return result


@pytest.fixture(scope="session", name="documented_texts")
def documented_texts_fixture() -> dict[str, str]:
    """See the function."""
    return documented_texts()

"""What the doctor's tests need: contexts by a file and an environment, and being somebody without rights.

Each finding of a step's `look` is noted with what it was found on, for docs/doctor-verdicts.md; a test that
the page names has to find what it says there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytest

from offloader.doctor import examination
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context, Step
from offloader.doctor.steps import all_steps
from offloader.settings import read_settings
from tools.doctor_verdicts import DOUBLE, HOST, KNOWN, OF_THIS_HOST, PAGE, PEER, REAL, Seen, told

NOBODY = 65534
_ON: Final = {
    # What stands for something comes first: a real thing beside it makes such a test no better.
    "monkeypatch": (DOUBLE, "values of the test"),
    "machine_root": (DOUBLE, "files of the test"),
    "selfcheck_told": (DOUBLE, "values of the test"),
    "cards_of": (DOUBLE, "values of the test"),
    "cluster": (PEER, "an API server of the test's own"),
    "rtcd_that": (PEER, "an rtcd of the test's own"),
    "proxy": (PEER, "a proxy of the test's own"),
    "site": (PEER, "a site of the test's own"),
    "served": (REAL, "a TLS server"),
    "program_that": (PEER, "a program of the test's own"),
    "answering": (PEER, "a server of the test's own"),
    "listening": (PEER, "a server of the test's own"),
    "workers_of": (REAL, "Redis, and workers as processes"),
    "redis_server": (REAL, "Redis"),
    "rabbitmq": (REAL, "RabbitMQ"),
    "postgres": (REAL, "PostgreSQL"),
    "registry": (REAL, "Docker Engine and docker-registry"),
    "own_engine": (REAL, "a Docker Engine of its own"),
    "tiny_images": (REAL, "Docker Engine"),
    "coturn": (REAL, "coturn, and the stand-in"),
    "cut": (REAL, "SFU and stand-in, packets dropped by iptables"),
    "meeting": (REAL, "SFU and stand-in"),
    "namespace": (REAL, "a mount namespace of this host"),
    "on_one_core": (REAL, OF_THIS_HOST[1]),
    "few_files": (REAL, OF_THIS_HOST[2]),
    "small_disk": (REAL, "a file system of its own"),
}
"""By the fixture that a test has; without any it is this host."""
_FOUND: list[Finding] = []


def _noted(step: Step) -> None:
    look = step.look

    @functools.wraps(look)
    async def noting(context: Context) -> Sequence[Finding]:
        found = await look(context)
        _FOUND.extend(found)
        return found

    setattr(sys.modules[look.__module__], look.__name__, noting)
    object.__setattr__(step, "look", noting)


_STEPS: Final = all_steps()
for _step in _STEPS:
    _noted(_step)


_run_step = examination._run


async def _noting_run(step: Step, context: Context) -> examination.StepResult:
    """What the examination itself says of a step, such as that it hangs."""
    result = await _run_step(step, context)
    if step.name in [each.name for each in _STEPS]:
        _FOUND.extend(result.findings)
    return result


examination._run = _noting_run


@functools.cache
def _page() -> dict[str, list[Seen]]:
    """Rows by test; without those that depend on the host, and those that no step tells."""
    rows: dict[str, list[Seen]] = {}
    for seen in told(PAGE.read_text(encoding="utf-8")).values():
        if seen.level != HOST and seen not in KNOWN:
            rows.setdefault(seen.test, []).append(seen)
    return rows


def _where(item: pytest.Item) -> tuple[str, str]:
    """Level, and on what. A `monkeypatch` counts where the test itself asks for it."""
    every = set(getattr(item, "fixturenames", ()))
    own = set(item.function.__code__.co_varnames)  # type: ignore[attr-defined]  # of a function's item
    every -= {"monkeypatch"} - own
    return next((place for name, place in _ON.items() if name in every), (REAL, OF_THIS_HOST[0]))


def _name(item: pytest.Item) -> str:
    """File and test; of a row of a table what can stand in one of Markdown."""
    file = item.path.relative_to(item.config.rootpath).as_posix()
    name = re.sub(r"[^\w\[\]./:-]+", "_", item.name)
    return f"{file}::{name}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Note what was found; a test that the page names finds that, on what the page says."""
    _FOUND.clear()
    result = yield
    if not hasattr(item, "function"):
        return result
    name, (level, on) = _name(item), _where(item)
    seen = {Seen(each.code, each.verdict.value, level, on, name) for each in _FOUND}
    if (path := os.environ.get("DOCTOR_VERDICTS")) is not None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(each)) + "\n" for each in sorted(seen))
    else:
        gone = set(_page().get(name, ())) - seen
        assert not gone, (
            f"docs/doctor-verdicts.md says otherwise (tools/doctor_verdicts.py): {gone}"
        )
    return result


@pytest.fixture
def examined(tmp_path: Path) -> Callable[..., Context]:
    """A context: `file` is the configuration's text (None: no file), `environ` the variables."""

    def make(
        file: str | None = None,
        *,
        root: Path = Path("/"),
        quick: bool = False,
        worker: bool = False,
        **environ: str,
    ) -> Context:
        path = tmp_path / "config.toml"
        if file is not None:
            path.write_text(file, encoding="utf-8")
            path.chmod(0o640)
        given = {
            "STORE_DATASOURCE": str(tmp_path / "state" / "offloader.db"),
            "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
            "JOBS_APITYPE": "process",
            "PATH": os.environ["PATH"],
        } | environ
        reading = read_settings(path, given)
        return Context(path, reading, given, root=root, quick=quick, worker=worker)

    return make


@pytest.fixture
def codes() -> Callable[[Sequence[Finding]], list[str]]:
    """Of findings, in their order."""
    return lambda findings: [finding.code for finding in findings]


@pytest.fixture
def one() -> Callable[[Sequence[Finding], str], Finding]:
    """The only finding with a code."""

    def find(findings: Sequence[Finding], code: str) -> Finding:
        found = [finding for finding in findings if finding.code == code]
        assert len(found) == 1, [finding.code for finding in findings]
        return found[0]

    return find


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`hurry(MODULE, _CONNECT_S=0.1)`: nothing but how long is waited."""

    def set_all(module: Any, **limits_s: float) -> None:
        for name, value_s in limits_s.items():
            assert name.endswith("_S")
            assert isinstance(getattr(module, name), float)
            monkeypatch.setattr(module, name, value_s)

    return set_all


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody can look into, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="doctor-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def as_nobody() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """While the block runs, this process has nobody's rights, where it has root's."""

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        groups, gid = os.getgroups(), os.getegid()
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    return change


@pytest.fixture
def machine_root(tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """A directory that stands for /: name of a file to its text."""

    def make(files: Mapping[str, Any]) -> Path:
        root = tmp_path / "root"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(str(text), encoding="utf-8")
        return root

    return make


@pytest.fixture
def small_disk(
    open_dir: Path, engine_missing: Callable[[str, str], None]
) -> Iterator[Callable[[str], Path]]:
    """A file system of its own, in memory, of a size such as `8m`; needs root."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = open_dir / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
        if done.returncode:
            engine_missing(
                "mount", f"no file system can be mounted: {done.stderr.decode().strip()}"
            )
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], timeout=10, check=True)


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def namespace(
    tmp_path: Path, engine_missing: Callable[[str, str], None]
) -> Callable[..., list[Finding]]:
    """`namespace({"/etc/hosts": TEXT}, "--only", "dns", JOBS_APITYPE="process")`: what a real
    `offloader doctor` finds where these files of the host have this content, as they have on other hosts."""

    def run(files: Mapping[str, str], *options: str, **environ: str) -> list[Finding]:
        lines = []
        for number, (path, text) in enumerate(files.items()):
            own, there = tmp_path / f"own{number}" / Path(path).name, Path(path)
            own.parent.mkdir(exist_ok=True)
            own.write_text(text, encoding="utf-8")
            if not there.exists():  # its whole directory, then
                own, there = own.parent, there.parent
            lines.append(f"mount --bind {own} {there}")
        command = ["unshare", "--mount", "sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "offloader", "doctor", "--json", *options],
            env={"PATH": os.environ["PATH"], "JOBS_APITYPE": "process"} | environ,
            capture_output=True,
            timeout=25,
            check=False,
        )
        if done.returncode not in (0, 4, 5):
            engine_missing("mount", f"no files can be mounted: {done.stderr.decode()[-300:]}")
        findings = [
            Finding(**{**each, "verdict": Verdict(each["verdict"]), "fix": tuple(each["fix"])})
            for step in json.loads(done.stdout)["steps"]
            for each in step["findings"]
        ]
        _FOUND.extend(findings)  # of another process: no step has noted them here
        return findings

    return run

"""Step `docker`: the socket with the exact way in, the engine, its options, its images and their registry."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from platform import machine
from typing import Any

import pytest

from offloader.doctor import selfcheck
from offloader.doctor.docker import judge_engine, judge_options, look
from offloader.doctor.docker_images import judge_present, wanted_image
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context

Examined = Callable[..., Context]
One = Callable[[Sequence[Finding], str], Finding]
CONTRACT = {"Config": {"Labels": {"calls-native-offloader.job-contract": "1"}}}


@pytest.fixture
def docked(examined: Examined) -> Callable[..., Context]:
    """A context of the docker backend, on an engine at `path`."""

    def make(path: Path | str, **environ: str) -> Context:
        host = path if isinstance(path, str) else f"unix://{path}"
        return examined(**({"JOBS_APITYPE": "docker", "DOCKER_HOST": host} | environ))

    return make


async def test_where_jobs_are_processes_it_is_skipped(examined: Examined, one: One) -> None:
    assert one(await look(examined()), "docker_not_used").verdict is Verdict.SKIPPED


async def test_a_socket_without_permission_is_told_with_its_group(
    docked: Callable[..., Context], open_dir: Path, as_nobody: Callable[[], Any], one: One
) -> None:
    path = open_dir / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        os.chmod(path, 0o660)
        context = docked(path)
        with as_nobody():
            found = one(await look(context), "docker_socket_denied")
    assert found.verdict is Verdict.FAILURE
    assert found.fix[0] == "sudo usermod -aG root nobody"


async def test_a_socket_that_is_not_there_is_a_failure(
    docked: Callable[..., Context], tmp_path: Path, one: One
) -> None:
    found = one(await look(docked(tmp_path / "none.sock")), "docker_socket_missing")
    assert "sudo systemctl start docker" in found.fix


async def test_a_socket_that_nobody_listens_on_is_a_failure(
    docked: Callable[..., Context], tmp_path: Path, one: One
) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert one(await look(docked(path)), "docker_not_running").verdict is Verdict.FAILURE


async def test_an_engine_that_hangs_holds_up_neither_a_measurement_nor_the_loop(
    docked: Callable[..., Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is given a minute, which is longer than this test may take."""
    monkeypatch.setattr(selfcheck, "_PING_S", 0.2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen()
        context = docked(tmp_path / "docker.sock")
        with pytest.raises(selfcheck.NoSelfcheck, match="takes too long"):
            await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=60)


class NoEngine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


async def test_what_answers_otherwise_is_no_engine_and_plain_tcp_is_told(
    docked: Callable[..., Context], one: One
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoEngine)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    try:
        address = f"tcp://127.0.0.1:{server.server_port}"
        found = await look(docked(address, JOBS_DOCKER_ALLOWPLAINTCP="true"))
    finally:
        server.shutdown()
        server.server_close()
    assert one(found, "docker_unusable").verdict is Verdict.FAILURE
    assert one(found, "docker_plain_tcp").verdict is Verdict.NOTE


INFO = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "LiveRestoreEnabled": True}


def test_an_engine_that_is_too_old_is_a_failure(docked: Callable[..., Context], one: One) -> None:
    old = {"Version": "19.03.1", "ApiVersion": "1.40"}
    found = list(judge_engine(old, INFO, docked("unix:///x")))
    assert one(found, "docker_too_old").verdict is Verdict.FAILURE


def test_limits_that_the_engine_cannot_keep_are_told(
    docked: Callable[..., Context], one: One
) -> None:
    new = {"Version": "20.10.24", "ApiVersion": "1.41"}
    found = list(judge_engine(new, INFO | {"MemoryLimit": False}, docked("unix:///x")))
    assert [f.code for f in found] == ["docker_version", "docker_no_limits"]
    assert found[1].value == "no limits of memory"
    wanted = docked("unix:///x", JOBS_DOCKER_MEMORY="0")
    assert len(list(judge_engine(new, INFO | {"MemoryLimit": False}, wanted))) == 1


@pytest.mark.parametrize(
    ("live", "daemon", "code", "verdict"),
    [
        (True, "", "docker_live_restore", Verdict.OK),
        (False, '{"shutdown-timeout": 330}', "docker_shutdown_timeout", Verdict.NOTE),
        (False, '{"shutdown-timeout": 60}', "docker_no_live_restore", Verdict.WARNING),
        (False, "no json", "docker_no_live_restore", Verdict.WARNING),
    ],
)
def test_what_a_restart_of_the_engine_does_to_jobs_is_told(
    live: bool,
    daemon: str,
    code: str,
    verdict: Verdict,
    examined: Examined,
    machine_root: Callable[..., Path],
) -> None:
    root = machine_root({"etc/docker/daemon.json": daemon})
    found = judge_options({"LiveRestoreEnabled": live}, examined(root=root), local=True)
    assert [(f.code, f.verdict) for f in found] == [(code, verdict)]


def test_room_where_the_engine_keeps_its_volumes_is_told(
    docked: Callable[..., Context], one: One, tmp_path: Path
) -> None:
    info = {"LiveRestoreEnabled": True, "DockerRootDir": str(tmp_path)}
    found = list(judge_options(info, docked("unix:///x", JOBS_MINFREEDISK="1KiB"), local=True))
    assert one(found, "docker_disk").data["free_bytes"] > 0
    found = list(judge_options(info, docked("unix:///x", JOBS_MINFREEDISK="900TiB"), local=True))
    assert one(found, "docker_disk_low").verdict is Verdict.FAILURE


def test_an_image_of_another_architecture_is_a_failure(one: One) -> None:
    found = list(
        judge_present("i", "n", CONTRACT | {"Architecture": "arm64"}, {"Architecture": "x86_64"})
    )
    assert one(found, "docker_image_architecture").verdict is Verdict.FAILURE
    found = list(
        judge_present("i", "n", CONTRACT | {"Architecture": "amd64"}, {"Architecture": "x86_64"})
    )
    assert one(found, "docker_image").verdict is Verdict.OK


def test_an_image_that_is_none_of_ours_is_a_warning(one: One) -> None:
    assert (
        one(list(judge_present("i", "n", {}, {})), "docker_image_foreign").verdict
        is Verdict.WARNING
    )


def test_the_image_of_any_version_is_known_unless_the_plugin_names_it(
    docked: Callable[..., Context],
) -> None:
    assert (
        wanted_image("recorder", docked("unix:///x"))
        == "calls-native-offloader/calls-recorder:v1.0.0"
    )
    mapped = docked("unix:///x", JOBS_RUNNERIMAGES='{"*/calls-recorder:*": "r/x:1"}')
    assert wanted_image("recorder", mapped) == "r/x:1"
    assert wanted_image("recorder", docked("unix:///x", JOBS_USEREFERENCEIMAGES="true")) is None


# On the real engine


@pytest.fixture
def on_engine(tiny_images: Any, examined: Examined) -> Callable[..., Context]:
    """A context on the real engine with images of this run."""
    host = tiny_images.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")

    def make(image: str, **environ: str) -> Context:
        given = {
            "JOBS_APITYPE": "docker",
            "DOCKER_HOST": host,
            "JOBS_RUNNERIMAGES": json.dumps({"*": image}),
        }
        return examined(**(given | environ))

    return make


@pytest.mark.slow
async def test_images_on_the_engine_are_found(
    on_engine: Callable[..., Context], tiny_images: Any, codes: Callable[..., list[str]]
) -> None:
    context = on_engine(tiny_images.image("/bin/true", own=True))
    found = codes(await look(context))
    assert found.count("docker_image") == 2
    assert {"docker_version", "docker_network"} <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "code"),
    [
        ("none", "docker_network_none"),
        ("none-of-that-name", "docker_network_missing"),
        ("host", "docker_network"),
    ],
)
async def test_the_network_has_to_be_there(
    network: str, code: str, on_engine: Callable[..., Context], one: One
) -> None:
    found = await look(on_engine("x/y:1", DOCKER_NETWORK=network, JOBS_DOCKER_PULLPOLICY="never"))
    assert one(found, code)
    assert {f.code for f in found} >= {"docker_image_missing"}


@pytest.mark.slow
async def test_a_site_on_loopback_wants_the_hosts_network(
    on_engine: Callable[..., Context], one: One
) -> None:
    context = replace(
        on_engine("x/y:1", JOBS_DOCKER_PULLPOLICY="never"), site_url="http://localhost:8065"
    )
    assert one(await look(context), "docker_loopback_site").verdict is Verdict.FAILURE


@pytest.mark.slow
async def test_images_that_the_plugin_names_are_not_known_here(
    on_engine: Callable[..., Context], codes: Callable[..., list[str]]
) -> None:
    context = on_engine("x", JOBS_USEREFERENCEIMAGES="true", JOBS_RUNNERIMAGES="{}")
    assert codes(await look(context)).count("docker_image_unknown") == 2


@pytest.fixture
def of_another_processor(tiny_images: Any) -> Iterator[str]:
    """An image for arm64, or where this is one, for amd64."""
    other = "amd64" if machine() == "aarch64" else "arm64"
    layer = b"\0" * 1024  # an empty tar
    digest = hashlib.sha256(layer).hexdigest()
    config = {"architecture": other, "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    name = f"{tiny_images.run_id}/other:1"
    listed = [{"Config": "c.json", "RepoTags": [name], "Layers": ["l.tar"]}]
    files = {"c.json": json.dumps(config).encode(), "l.tar": layer}
    files["manifest.json"] = json.dumps(listed).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    list(tiny_images.client.load_image(archive.getvalue()))
    yield name
    tiny_images.client.remove_image(name, force=True)


@pytest.mark.slow
async def test_images_of_others_and_for_others_are_told(
    on_engine: Callable[..., Context],
    tiny_images: Any,
    of_another_processor: str,
    codes: Callable[..., list[str]],
) -> None:
    foreign = codes(await look(on_engine(tiny_images.image("/bin/true"))))
    assert foreign.count("docker_image_foreign") == 2
    other = codes(await look(on_engine(of_another_processor)))
    assert other.count("docker_image_architecture") == 2


# Debian's registry, which wants a password

PASSWORD = "a password of this test"
HTPASSWD = "probe:$2b$05$5uM18fuYiWdeNMigkyrl4uFmJ43JBbZzZRcZWt7hL7weGRYP40sNm\n"


@pytest.fixture
def registry(
    tmp_path: Path,
    closed_port: int,
    tiny_images: Any,
    engine_missing: Callable[[str, str], None],
) -> Iterator[tuple[str, Path]]:
    """An image in it, and a directory for DOCKER_CONFIG that has the password."""
    program = shutil.which("docker-registry")
    if program is None:
        engine_missing("docker-registry", "apt-get install docker-registry")
        raise AssertionError
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    (tmp_path / "registry.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{closed_port}}}\n"
        f"auth: {{htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log
        )
    try:
        place = f"127.0.0.1:{closed_port}"
        answers(process, place)
        name = f"{place}/calls-recorder"
        tiny_images.client.tag(tiny_images.image("/bin/true"), name, "v1")
        login = {"username": "probe", "password": PASSWORD}
        sent = list(
            tiny_images.client.push(name, "v1", auth_config=login, stream=True, decode=True)
        )
        tiny_images.client.remove_image(f"{name}:v1")
        assert not [each for each in sent if "error" in each], sent
        auth = base64.b64encode(f"probe:{PASSWORD}".encode()).decode()
        (tmp_path / "docker").mkdir()
        auths = json.dumps({"auths": {place: {"auth": auth}}})
        (tmp_path / "docker" / "config.json").write_text(auths)
        yield f"{name}:v1", tmp_path / "docker"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def docker_config(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Where the service's variables have its logins."""
    return lambda directory: monkeypatch.setenv("DOCKER_CONFIG", str(directory))


def answers(process: subprocess.Popen[bytes], place: str) -> None:
    """It wants a login."""
    for _ in range(500):
        assert process.poll() is None
        with contextlib.suppress(OSError), contextlib.closing(HTTPConnection(place)) as asked:
            asked.request("GET", "/v2/")
            assert asked.getresponse().status == 401
            return
        time.sleep(0.02)
    raise AssertionError("the registry does not answer")


@pytest.mark.slow
async def test_the_registry_is_asked_by_the_engine_with_the_services_password(
    registry: tuple[str, Path],
    docker_config: Callable[[Path], None],
    on_engine: Callable[..., Context],
    one: One,
    tmp_path: Path,
) -> None:
    image, with_password = registry
    none = tmp_path / "none"
    none.mkdir()

    async def found(image: str, config: Path) -> list[Finding]:
        docker_config(config)
        every = await look(on_engine(image))
        return [each for each in every if each.what == "image of the recorder"]

    (tmp_path / "wrong").mkdir()
    auth = base64.b64encode(b"probe:another password").decode()
    auths = json.dumps({"auths": {image.partition("/")[0]: {"auth": auth}}})
    (tmp_path / "wrong" / "config.json").write_text(auths)
    for config in (none, tmp_path / "wrong"):
        denied = one(await found(image, config), "docker_registry_denied")
        assert "docker login" in denied.fix[0]
    pulled = await found(image, with_password)
    assert one(pulled, "docker_image_to_pull").verdict is Verdict.NOTE
    assert PASSWORD not in str([each.document() for each in pulled])
    gone = await found(f"{image}9", with_password)
    assert one(gone, "docker_registry_unusable").verdict is Verdict.FAILURE


# An engine of its own


class OwnEngine:
    """Another dockerd, which the others' jobs know nothing of; in a network of its own, for without a bridge
    it would take away the other engine's."""

    def __init__(self, directory: Path, missing: Callable[[str, str], None]) -> None:
        self.socket = directory / "docker.sock"
        self._directory = directory
        self._missing = missing
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def start(self, *options: str, before: str = "") -> None:
        """In namespaces of its own, of mounts and of networks: it removes the bridge that it finds, that of
        the machine's engine. `before`: a line of sh that is run in them first."""
        program = shutil.which("dockerd")
        if program is None or os.geteuid() != 0:
            self._missing("docker", "no dockerd on PATH, or not root: no engine of its own")
            raise AssertionError
        self._starts += 1
        name = f"test-{os.getpid()}-{self._starts}"
        directory = self._directory / name
        command = [program, "--data-root", str(directory / "data"), "--bridge=none"]
        command += ["--exec-root", str(directory / "exec"), "--iptables=false"]
        command += ["--pidfile", str(directory / "pid"), "--storage-driver=vfs"]
        command += ["--containerd-namespace", name, "--containerd-plugins-namespace", f"{name}-p"]
        command += ["--ip-masq=false", "--host", f"unix://{self.socket}", *options]
        script = f'{before or ":"}; exec "$@"'
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *command],
                stdout=log,
                stderr=log,
            )
        for _ in range(1000):
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                probe.settimeout(5)
                probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if b" 200 " in probe.recv(64):
                    return
            time.sleep(0.02)
        raise AssertionError("dockerd does not answer")

    def end(self, *, killed: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
            process.wait(20)


@pytest.fixture
def own_engine(open_dir: Path, engine_missing: Callable[[str, str], None]) -> Iterator[OwnEngine]:
    engine = OwnEngine(open_dir, engine_missing)
    yield engine
    engine.end()


@pytest.mark.slow
async def test_an_engine_is_judged_by_its_options_and_told_when_it_is_gone(
    own_engine: OwnEngine,
    docked: Callable[..., Context],
    open_dir: Path,
    as_nobody: Callable[[], Any],
    one: One,
    codes: Callable[..., list[str]],
) -> None:
    own_engine.start("--live-restore")
    quick = {"JOBS_DOCKER_PULLPOLICY": "never", "JOBS_MINFREEDISK": "1KiB"}
    context = docked(own_engine.socket, **quick)
    found = await look(context)
    assert codes(found)[:3] == ["docker_version", "docker_live_restore", "docker_disk"]
    full = await look(docked(own_engine.socket, **quick | {"JOBS_MINFREEDISK": "900TiB"}))
    assert one(full, "docker_disk_low").verdict is Verdict.FAILURE
    with as_nobody():
        denied = one(await look(context), "docker_socket_denied")
    assert denied.fix[0].startswith("sudo usermod -aG ")

    own_engine.end(killed=True)
    assert one(await look(context), "docker_not_running").verdict is Verdict.FAILURE

    daemon = open_dir / "etc/docker/daemon.json"
    daemon.parent.mkdir(parents=True)
    daemon.write_text('{"shutdown-timeout": 330}')
    own_engine.start("--config-file", str(daemon))
    patient = replace(docked(own_engine.socket, **quick), root=open_dir)
    assert one(await look(patient), "docker_shutdown_timeout").verdict is Verdict.NOTE
    assert one(await look(context), "docker_no_live_restore").verdict is Verdict.WARNING

    own_engine.end()
    assert one(await look(context), "docker_socket_missing").verdict is Verdict.FAILURE


@pytest.mark.slow
async def test_limits_of_memory_that_an_engine_cannot_keep_are_a_warning(
    own_engine: OwnEngine, docked: Callable[..., Context], one: One, open_dir: Path
) -> None:
    """As where control groups are not delegated: this engine sees none for memory."""
    (open_dir / "controllers").write_text("cpuset cpu io pids\n")
    groups = "/sys/fs/cgroup"
    unified = f"mount --bind {open_dir}/controllers {groups}/cgroup.controllers"
    own_engine.start(
        before=f"if [ -e {groups}/cgroup.controllers ]; then {unified}; else umount {groups}/memory; fi"
    )
    found = await look(docked(own_engine.socket, JOBS_DOCKER_PULLPOLICY="never"))
    assert one(found, "docker_no_limits").value == "no limits of memory"


async def test_an_engine_on_another_host_without_tls_is_a_warning(
    docked: Callable[..., Context], one: One
) -> None:
    found = await look(docked(f"tcp://{own_address()}:1", JOBS_DOCKER_ALLOWPLAINTCP="true"))
    assert one(found, "docker_plain_tcp").verdict is Verdict.WARNING
    assert one(found, "docker_unusable").verdict is Verdict.FAILURE


def own_address() -> str:
    """One that is not loopback, if there is any; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "192.0.2.1"
        return str(probe.getsockname()[0])

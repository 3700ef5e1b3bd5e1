"""The service as a real process on a real port: start, adoption after kill -9, polite end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

AUTH = ("plugin", "k" * 32)
JOB = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "max_duration_sec": 600,
    "input_data": {"call_id": "c", "post_id": "p", "auth_token": "hidden-token"},
}
SCRIPT = (
    "trap 'echo polite; exit 4' TERM; echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done"
)


@dataclass
class Service:
    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
    log: list[str]

    async def line(self, text: str) -> str:
        """The next log line that holds `text`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(25):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if text in line:
                    return line
        raise AssertionError(f"ended without {text!r}: {self.log}")

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        async with asyncio.timeout(25):
            self.log += (await self.process.stderr.read()).decode().splitlines()
            return await self.process.wait()

    async def job_until(self, job_id: str, wanted: Callable[[dict[str, object]], bool]) -> None:
        async with asyncio.timeout(25):
            while not wanted((await self.http.get(f"/jobs/{job_id}", auth=AUTH)).json()):
                await asyncio.sleep(0.05)

    async def log_until(self, job_id: str, text: str) -> None:
        async with asyncio.timeout(25):
            while text not in (await self.http.get(f"/jobs/{job_id}/logs", auth=AUTH)).text:
                await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[Service]]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def environment(directory: Path, port: int, **changes: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "API_HTTP_LISTENADDRESS": f"127.0.0.1:{port}",
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "STORE_DATASOURCE": f"{directory}/store.db",
        "JOBS_APITYPE": "process",
        "JOBS_PROCESS_JOBSDIR": f"{directory}/jobs",
        "JOBS_PROCESS_RECORDERCOMMAND": json.dumps(["/bin/sh", "-c", SCRIPT]),
        "LOGGER_ENABLEFILE": "false",
        "LOGGER_CONSOLEJSON": "true",
        **changes,
    }


async def run(
    directory: Path,
    variables: dict[str, str],
    *arguments: str,
    stdout: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offloader", *arguments),
        env=variables,
        cwd=directory,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    services: list[Service] = []

    async def start_one(scheme: str = "http", verify: ssl.SSLContext | bool = True, **changes: str):
        port = free_port()
        process = await run(tmp_path, environment(tmp_path, port, **changes), "serve")
        url = f"{scheme}://127.0.0.1:{port}"
        service = Service(process, httpx.AsyncClient(base_url=url, verify=verify), [])
        services.append(service)
        await service.line("offloader: listening on")
        return service

    yield start_one
    for service in services:
        await service.http.aclose()
        if service.process.returncode is None:
            await service.end(signal.SIGTERM)
    for path in (tmp_path / "jobs").glob("*/data"):
        (path / "go").touch()  # also those that nobody supervises any more


async def test_a_job_runs_ends_and_leaves_its_log(start: Start, tmp_path: Path) -> None:
    service = await start()
    created = await service.http.post("/jobs", json=JOB, auth=AUTH)
    assert created.status_code == 200
    job_id = created.json()["id"]
    await service.log_until(job_id, "ready")
    assert "stop_at" not in (await service.http.get(f"/jobs/{job_id}", auth=AUTH)).json()
    (tmp_path / "jobs" / job_id / "data" / "go").touch()
    await service.job_until(job_id, lambda job: "stop_at" in job)
    assert (await service.http.delete(f"/jobs/{job_id}", auth=AUTH)).status_code == 200
    assert not (tmp_path / "jobs" / job_id).exists()
    assert await service.end(signal.SIGTERM) == 0
    assert "hidden-token" not in "".join(service.log)


async def test_a_job_survives_kill_9_of_the_service_and_is_adopted(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    job_id = (await first.http.post("/jobs", json=JOB, auth=AUTH)).json()["id"]
    await first.log_until(job_id, "ready")
    await first.end(signal.SIGKILL)
    second = await start()
    await second.log_until(job_id, "ready")
    refused = await second.http.delete(f"/jobs/{job_id}", auth=AUTH)
    assert refused.json()["error"] == "job is running"
    (tmp_path / "jobs" / job_id / "data" / "go").touch()
    await second.job_until(job_id, lambda job: "stop_at" in job)


async def test_a_job_that_ended_while_nobody_watched_is_known_after_the_restart(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    job_id = (await first.http.post("/jobs", json=JOB, auth=AUTH)).json()["id"]
    await first.log_until(job_id, "ready")
    await first.end(signal.SIGKILL)
    (tmp_path / "jobs" / job_id / "data" / "go").touch()
    second = await start()
    finished = json.loads(await second.line("job.finished"))
    assert (finished["stop_reason"], finished["exit_code"]) == ("completed", 0)


async def test_a_polite_end_stops_the_jobs_and_waits_for_them(start: Start, tmp_path: Path) -> None:
    service = await start()
    job_id = (await service.http.post("/jobs", json=JOB, auth=AUTH)).json()["id"]
    await service.log_until(job_id, "ready")
    assert await service.end(signal.SIGTERM) == 0
    assert (tmp_path / "jobs" / job_id / "job.log").read_text() == "ready\npolite\n"
    finished = [json.loads(line) for line in service.log if "job.finished" in line]
    assert [(line["stop_reason"], line["exit_code"]) for line in finished] == [("requested", 4)]


async def test_the_local_socket_serves_the_commands_and_is_removed_at_the_end(
    start: Start, tmp_path: Path
) -> None:
    service = await start()
    path = tmp_path / "store.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    variables = environment(tmp_path, 0)
    status = await run(tmp_path, variables, "status", "--safe", stdout=asyncio.subprocess.PIPE)
    out, err = await status.communicate()
    assert (status.returncode, err) == (0, b"")
    assert b"safe to restart:      yes" in out
    assert await service.end(signal.SIGTERM) == 0
    assert not path.exists()
    gone = await run(tmp_path, variables, "status")
    _, complaint = await gone.communicate()
    assert gone.returncode == 3
    assert f"the service has no socket {path}" in complaint.decode()


async def test_a_second_service_on_the_same_store_leaves_the_first_ones_socket_alone(
    start: Start, tmp_path: Path
) -> None:
    await start()
    second = await start()
    warned = [line for line in second.log if "admin_socket.unusable" in line]
    assert len(warned) == 1
    assert await second.end(signal.SIGTERM) == 0
    assert (tmp_path / "store.sock").exists()


async def test_a_taken_port_is_an_error_that_names_port_and_setting(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        process = await run(tmp_path, environment(tmp_path, port))
        _, complaint = await process.communicate()
    assert process.returncode == 1
    text = complaint.decode()
    for part in ("offloader", str(port), "api.http.listen_address", "API_HTTP_LISTENADDRESS"):
        assert part in text
    assert "Traceback" not in text


async def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    tls = {"API_HTTP_TLS_ENABLE": "1", "API_HTTP_TLS_CERTFILE": "c", "API_HTTP_TLS_CERTKEY": "k"}
    process = await run(tmp_path, environment(tmp_path, free_port(), **tls), "serve")
    _, complaint = await process.communicate()
    assert process.returncode == 1
    assert "api.http.tls: certificate c or key k cannot be used" in complaint.decode()
    assert "Traceback" not in complaint.decode()


async def test_https_and_the_log_file_as_configured(start: Start, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key)
    service = await start(
        "https",
        ssl.create_default_context(cafile=str(cert)),
        API_HTTP_TLS_ENABLE="true",
        API_HTTP_TLS_CERTFILE=str(cert),
        API_HTTP_TLS_CERTKEY=str(key),
        LOGGER_ENABLEFILE="true",
        LOGGER_FILELOCATION="logs/service.log",
    )
    assert (await service.http.get("/version")).status_code == 200
    path = tmp_path / "logs" / "service.log"
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert any(event.startswith("offloader: listening on") for event in events)
    made = {path, path.parent, *_found(tmp_path, "store.db*"), *_found(tmp_path, "**/jobs")}
    assert len(made) > 3
    for each in made:
        assert each.stat().st_mode & 0o077 == 0, each
    about = Path(f"/proc/{service.process.pid}")
    assert "\nUmask:\t0077\n" in (about / "status").read_text()
    core = next(line for line in (about / "limits").read_text().splitlines() if "core" in line)
    assert core.split()[-3:-1] == ["0", "0"], "a dump would hold tokens"


def make_certificate(cert: Path, key: Path) -> None:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "offloader")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, plain))


def _found(directory: Path, pattern: str) -> list[Path]:
    return list(directory.glob(pattern))


@pytest.mark.slow
async def test_a_running_service_takes_over_what_changes_and_refuses_what_is_bad(
    start: Start, tmp_path: Path
) -> None:
    for name in ("cert", "next"):
        make_certificate(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    trust.load_verify_locations(cafile=str(tmp_path / "next.pem"))
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text("[jobs]\nmax_concurrent_jobs = 1\n")
    service = await start(
        "https",
        trust,
        API_HTTP_TLS_ENABLE="true",
        API_HTTP_TLS_CERTFILE=str(tmp_path / "cert.pem"),
        API_HTTP_TLS_CERTKEY=str(tmp_path / "cert.key"),
        JOBS_ADMISSIONWAITS="0",
    )

    async def metrics() -> str:
        return (await service.http.get("/metrics")).text

    good = 'calls_offloader_config_last_reload_successful{part="configuration"} '
    assert f"{good}1.0" in await metrics()
    config.write_text("[jobs]\nmax_concurrent_jobs = 0\n")
    service.process.send_signal(signal.SIGHUP)
    refused = json.loads(await service.line("config.not_reloaded"))
    assert "jobs.max_concurrent_jobs" in refused["reason"]
    text = await metrics()
    assert f"{good}0.0" in text
    assert "calls_offloader_max_concurrent_jobs 1.0" in text

    config.write_text(
        "[jobs]\nmax_concurrent_jobs = 3\n[logger]\nconsole_level = 'debug'\nconsole_json = false\n"
    )
    (tmp_path / "next.pem").rename(tmp_path / "cert.pem")
    (tmp_path / "next.key").rename(tmp_path / "cert.key")
    key_file = tmp_path / "store.db.key"
    key_file.write_text("n" * 32 + "\n" + key_file.read_text())
    await service.line('"part": "certificate"')  # nobody had to ask
    log = "".join(service.log)
    assert '"settings": ["logger.console_json"]' not in log, "the environment goes before the file"
    for part in ("configuration", "secret_keys"):
        assert f'"part": "{part}"' in log, log
    text = await metrics()
    assert f"{good}1.0" in text
    assert "calls_offloader_max_concurrent_jobs 3.0" in text
    records = [
        json.loads(line) for line in (tmp_path / "store.audit.jsonl").read_text().splitlines()
    ]
    changes = {r["part"]: r["changed"] for r in records if r["action"] == "config.changed"}
    assert changes["configuration"] == "jobs.max_concurrent_jobs,logger.console_level"
    assert "n" * 32 not in log
    assert await service.end(signal.SIGTERM) == 0

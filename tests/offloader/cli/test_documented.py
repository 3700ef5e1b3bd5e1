"""What ends a start, and what commands fail with, provoked and held against docs/troubleshooting.md."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from offloader.cli.main import main
from offloader.listen import bind_local
from offloader.setting_keys import KEYS

SECRET = "s" * 32
ADMIN = {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": SECRET}


@pytest.fixture
def refusal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """The line on standard error with which `offloader serve` ends."""
    for key in KEYS.values():
        monkeypatch.delenv(key.env or "", raising=False)

    def serve(**environ: str) -> str:
        given = {
            "API_HTTP_LISTENADDRESS": "127.0.0.1:0",
            "API_ADMINSOCKET": "",
            "STORE_DATASOURCE": f"{tmp_path}/store.db",
            "JOBS_APITYPE": "process",
            "JOBS_PROCESS_JOBSDIR": f"{tmp_path}/jobs",
            "LOGGER_ENABLEFILE": "false",
        }
        for name, value in (given | environ).items():
            monkeypatch.setenv(name, value)
        code = main(["serve", "--config", str(tmp_path / "none.toml")])
        last = capfd.readouterr().err.splitlines()[-1]
        assert code == 1, last
        return last

    return serve


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.documents("the-port-is-taken", "the-address-is-not-this-hosts")
def test_addresses_that_cannot_be_had(refusal: Any, documented: Any, taken_port: int) -> None:
    text = refusal(API_HTTP_LISTENADDRESS=f"127.0.0.1:{taken_port}")
    documented("the-port-is-taken", text)
    text = refusal(API_HTTP_LISTENADDRESS="192.0.2.1:4545")
    documented("the-address-is-not-this-hosts", text)


@pytest.mark.documents("another-service-has-the-socket", "a-socket-path-that-is-too-long")
def test_a_socket_that_cannot_be_had(refusal: Any, documented: Any, tmp_path: Path) -> None:
    path = tmp_path / "offloader.sock"
    with bind_local(path):
        text = refusal(API_ADMINSOCKET=str(path))
    documented("another-service-has-the-socket", text)
    text = refusal(API_ADMINSOCKET=f"{tmp_path}/{'x' * 120}")
    documented("a-socket-path-that-is-too-long", text)


TLS = {"API_HTTP_TLS_ENABLE": "true", "API_HTTP_TLS_CERTKEY": "/nonexistent/key.pem"}


@pytest.mark.documents("certificate-or-key-cannot-be-used", "the-log-file-cannot-be-written")
def test_files_that_cannot_be_used(refusal: Any, documented: Any) -> None:
    text = refusal(**TLS, API_HTTP_TLS_CERTFILE="/nonexistent/cert.pem")
    documented("certificate-or-key-cannot-be-used", text)
    text = refusal(
        API_HTTP_TLS_ENABLE="false", LOGGER_ENABLEFILE="true", LOGGER_FILELOCATION="/proc/x/log"
    )
    documented("the-log-file-cannot-be-written", text)


STORES = [
    ("the-database-cannot-be-opened", {"STORE_DATASOURCE": "/proc/x/store.db"}),
    ("an-unknown-kind-of-database", {"STORE_DATASOURCE": "mysql://host/calls"}),
    ("no-database-url", {"STORE_DATASOURCE": "postgresql://[host/calls"}),
    ("a-database-server-that-is-away", {"STORE_DATASOURCE": "postgresql://u:p@127.0.0.1:1/calls"}),
    ("a-secret-key-that-is-too-short", {"OFFLOADER_SECRET_KEY": "short"}),
]


@pytest.mark.parametrize(
    ("name", "environ"),
    [pytest.param(*row, marks=pytest.mark.documents(row[0]), id=row[0]) for row in STORES],
)
def test_stores_that_cannot_be_used(
    refusal: Any, documented: Any, name: str, environ: dict[str, str]
) -> None:
    documented(name, refusal(**environ))


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> Any:
    """Run a command that fails; its sentence on standard error."""
    for key in KEYS.values():
        monkeypatch.delenv(key.env or "", raising=False)
    monkeypatch.setenv("STORE_DATASOURCE", f"{tmp_path}/store.db")

    def run(*arguments: str, code: int, **environ: str) -> str:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        assert main([*arguments, "--config", str(tmp_path / "none.toml")]) == code
        return capfd.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.documents(
    "the-service-has-no-socket", "a-url-without-the-admins-key", "nobody-answers-there"
)
def test_ways_that_lead_to_no_service(command: Any, documented: Any, taken_port: int) -> None:
    documented("the-service-has-no-socket", command("status", code=3))
    text = command("status", "--url", "http://127.0.0.1:1", code=1)
    documented("a-url-without-the-admins-key", text)
    text = command("status", "--url", "http://127.0.0.1:1", code=3, **ADMIN)
    documented("nobody-answers-there", text)


@pytest.mark.documents("a-configuration-with-problems", "a-configuration-that-cannot-be-shown")
def test_a_configuration_with_problems(command: Any, documented: Any, tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text("[jobs]\nmax_concurrent_jobs = 0")
    documented("a-configuration-with-problems", command("config", "check", code=1))
    documented("a-configuration-that-cannot-be-shown", command("config", "show", code=1))


@pytest.mark.documents("no-directory-of-models", "a-directory-of-models-that-is-not-there")
def test_models_that_are_not_there(command: Any, documented: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("MODELS_DIR", raising=False)
    documented("no-directory-of-models", command("models", "list", code=1))
    text = command("models", "list", "--models-dir", "/nonexistent", code=1)
    documented("a-directory-of-models-that-is-not-there", text)


@pytest.mark.documents("a-selftest-of-jobs-on-other-hosts")
def test_a_selftest_of_jobs_on_other_hosts(command: Any, documented: Any) -> None:
    text = command("selftest", code=1, JOBS_APITYPE="kubernetes")
    documented("a-selftest-of-jobs-on-other-hosts", text)


@pytest.mark.documents("a-ca-file-that-cannot-be-read", "a-key-file-that-cannot-be-read")
def test_files_of_commands(command: Any, documented: Any) -> None:
    arguments = ("status", "--url", "https://127.0.0.1:1", "--ca-cert", "/nonexistent/ca.pem")
    documented("a-ca-file-that-cannot-be-read", command(*arguments, code=1, **ADMIN))
    arguments = ("clients", "add", "plugin", "--key-file", "/nonexistent/key")
    documented("a-key-file-that-cannot-be-read", command(*arguments, code=1))


HTTP = ("--url", "http://127.0.0.1:1")
OPTIONS = [
    ("a-way-to-the-service-of-another-form", 2, ("status", "--socket", "s", *HTTP)),
    ("a-way-to-the-service-of-another-form/2", 2, ("status", "--url", "host:4545")),
    ("a-way-to-the-service-of-another-form/3", 2, ("status", "--url", "http://host/path")),
    ("a-way-to-the-service-of-another-form/4", 2, ("status", *HTTP, "--ca-cert", "ca.pem")),
    ("options-of-the-doctor-that-cannot-be", 2, ("doctor", "--site-url", "chat.example.com")),
    (
        "options-of-the-doctor-that-cannot-be/2",
        2,
        ("doctor", "--token", "t", "--token-file", "/nonexistent/token"),
    ),
    ("options-of-the-doctor-that-cannot-be/3", 1, ("doctor", "--token-file", "/nonexistent/token")),
    (
        "a-token-file-of-no-use",
        1,
        ("jobs", "republish", "0123456789ab", *HTTP, "--token-file", "/nonexistent/token"),
    ),
    (
        "a-token-file-of-no-use/2",
        1,
        ("jobs", "republish", "0123456789ab", *HTTP, "--token-file", "/dev/null"),
    ),
    (
        "a-token-without-publishing",
        2,
        ("jobs", "retranscribe", "0123456789ab", *HTTP, "--token-file", "/dev/null"),
    ),
    (
        "a-file-of-engine-options-of-no-use",
        1,
        ("jobs", "retranscribe", "0123456789ab", *HTTP, "--engine-options", "/nonexistent/options"),
    ),
    (
        "a-file-of-engine-options-of-no-use/2",
        1,
        ("jobs", "retranscribe", "0123456789ab", *HTTP, "--engine-options", "/dev/null"),
    ),
    (
        "a-place-to-fetch-files-to-that-is-none",
        2,
        ("jobs", "artifacts", "0123456789ab", "a", *HTTP, "--output", "/nonexistent"),
    ),
    (
        "a-place-to-fetch-files-to-that-is-none/2",
        1,
        ("jobs", "artifacts", "0123456789ab", "a", *HTTP, "--output", "/proc"),
    ),
]


@pytest.mark.parametrize(
    ("name", "code", "arguments"),
    [pytest.param(*row, marks=pytest.mark.documents(row[0]), id=row[0]) for row in OPTIONS],
)
def test_options_that_cannot_be(
    command: Any, documented: Any, name: str, code: int, arguments: tuple[str, ...]
) -> None:
    documented(name, command(*arguments, code=code, **ADMIN))


def _models(*problems: list[str]) -> str:
    rows = [
        {"name": f"m{number}", "path": "/srv/m", "problems": found, "manifest": ""}
        | {"size_bytes": 1, "stored_as": "int8"}
        for number, found in enumerate(problems)
    ]
    return json.dumps({"models": rows})


MODELS = [
    ("a-model-that-should-not-be-used", "verify", (_models([], ["is damaged"]), "", 1)),
    ("a-model-that-should-not-be-used/2", "convert", (_models(["is damaged"]), "", 1)),
    ("a-directory-without-models", "verify", (_models(), "", 0)),
    ("models-where-no-transcriber-is", "verify", ("", "No module named 'numpy'", 1)),
    ("models-that-cannot-be-looked-at", "verify", ("", "", -9)),
]


@pytest.mark.parametrize(
    ("name", "what", "ended"),
    [pytest.param(*row, marks=pytest.mark.documents(row[0]), id=row[0]) for row in MODELS],
)
def test_models_of_no_use(
    command: Any,
    documented: Any,
    tmp_path: Path,
    monkeypatch: Any,
    name: str,
    what: str,
    ended: Any,
) -> None:
    """What the transcriber's program says of real models: tests/jobs/transcriber/model_files."""
    out, err, code = ended
    done = SimpleNamespace(stdout=out, stderr=err, returncode=code)
    monkeypatch.setattr("offloader.cli.models.subprocess.run", lambda *_, **__: done)
    source = [str(tmp_path)] if what == "convert" else []
    arguments = ("models", what, *source, "--models-dir", str(tmp_path))
    documented(name, command(*arguments, code=1))


@pytest.mark.documents(
    "a-client-that-is-registered-already",
    "a-client-that-is-not-there",
    "a-clients-name-of-another-form",
    "a-clients-name-of-another-form/2",
)
async def test_clients_that_cannot_be(served: Any, documented: Any) -> None:
    await served.run("clients", "add", "plugin")
    for name, arguments in (
        ("a-client-that-is-registered-already", ("add", "plugin")),
        ("a-client-that-is-not-there", ("rotate", "nobody")),
        ("a-clients-name-of-another-form", ("add", "")),
        ("a-clients-name-of-another-form/2", ("add", "a:b")),
    ):
        result = await served.run("clients", *arguments)
        assert (result.code, result.err.count("\n")) == (1, 1)
        documented(name, result.err)


@pytest.mark.documents(
    "not-safe-to-restart",
    "a-drain-takes-longer-than-asked",
    "a-job-that-is-not-there",
    "a-key-of-no-use",
)
async def test_what_a_running_service_refuses(served: Any, documented: Any, tmp_path: Path) -> None:
    await served.running.create_job()
    result = await served.run("status", "--safe")
    documented("not-safe-to-restart", result.err.splitlines()[-1])
    result = await served.run("drain", "--wait", "--timeout", "1")
    documented("a-drain-takes-longer-than-asked", result.err.splitlines()[-1])
    result = await served.run("jobs", "show", "0123456789ab")
    documented("a-job-that-is-not-there", result.err.splitlines()[-1])
    (tmp_path / "key").write_text("short")
    result = await served.run("clients", "add", "plugin", "--key-file", str(tmp_path / "key"))
    documented("a-key-of-no-use", result.err.splitlines()[-1])


@pytest.mark.documents("the-key-is-not-the-running-services", "no-job-service-answers-there")
async def test_other_services(
    serve: Any, documented: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    served = await serve()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<html>" if b"html" in marks else b'{"error":"authentication failed","code":"401"}'
        status = b"200 OK" if b"html" in marks else b"401 Unauthorized"
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    marks: set[bytes] = set()
    for name, value in ADMIN.items():
        monkeypatch.setenv(name, value)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        url = f"http://127.0.0.1:{port}"
        result = await _with_url(served, url)
        documented("the-key-is-not-the-running-services", result)
        marks.add(b"html")
        documented("no-job-service-answers-there", await _with_url(served, url))


async def _with_url(served: Any, url: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        await asyncio.to_thread(main, ["status", "--url", url])
    return out.getvalue().splitlines()[-1]

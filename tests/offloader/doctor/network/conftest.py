"""Sites of a few lines that behave as asked, certificates of every kind, and a meeting of real processes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from offloader.doctor.finding import Finding
from offloader.doctor.step import Context, Step
from offloader.settings import read_settings
from testbed.browser.meeting import Meeting, started_meeting
from testbed.certificates import certificate_builder, common_name

PLUGIN = "/plugins/com.mattermost.calls"
LOOPBACK = "127.0.0.1"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Findings:
    """What a step found, by code."""

    all: list[Finding]

    def __getitem__(self, code: str) -> Finding:
        return next(finding for finding in self.all if finding.code == code)

    @property
    def codes(self) -> list[str]:
        return [finding.code for finding in self.all]

    @property
    def verdicts(self) -> dict[str, str]:
        return {finding.code: finding.verdict.value for finding in self.all}


Look = Callable[..., Awaitable[Findings]]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """`await look(STEP, site_url=…, JOBS_APITYPE=…)`: small letters are the context's, the others variables.
    Every finding that is not good has a cause, every failure a fix, and none the token."""

    async def run(step: Step, **options: Any) -> Findings:
        environ = {"JOBS_APITYPE": "process"}
        environ |= {name: options.pop(name) for name in list(options) if name.isupper()}
        reading = read_settings(tmp_path / "none.toml", environ)
        assert not reading.problems
        options.setdefault("ca_file", reading.settings.jobs.network.ca_cert_file)
        context = Context(tmp_path / "none.toml", reading, environ, **options)
        async with asyncio.timeout(step.timeout_s):
            found = list(await step.look(context))
        for finding in found:
            if finding.verdict.badness or finding.verdict == "skipped":
                assert finding.cause, finding
            if finding.verdict.badness:
                assert finding.fix, finding
            if context.token:
                assert context.token not in str(finding.document())
        return Findings(found)

    return run


@dataclass
class Site:
    """A Mattermost of a few lines. What it answers is in its attributes."""

    url: str = ""
    answers: dict[str, web.Response | Any] = field(default_factory=dict)
    """By path: status and body for JSON, or a function of the request."""
    hello: dict[str, Any] | None = field(
        default_factory=lambda: {"event": "hello", "data": {"server_version": "11.0.0"}}
    )
    hello_after_s: float = 0.0
    clock_ahead_s: float = 0.0
    """Of its `Date` and `server_time`."""
    upload_takes_s: float = 0.0
    """From its data to the answer."""
    received: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path, bytes of the body."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        size = len(await request.read())
        self.received.append((request.method, request.path, size))
        if request.path == "/api/v4/websocket":
            return await self._socket(request)
        if request.path.endswith("u" * 26):
            await asyncio.sleep(self.upload_takes_s)
        made = self.answers.get(request.path, (404, {}))
        response = made(request, size) if callable(made) else made
        if isinstance(response, tuple):
            response = web.json_response(response[1], status=response[0])
        date = formatdate(time.time() + self.clock_ahead_s, usegmt=True)
        response.headers["Date"] = date
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        await asyncio.sleep(self.hello_after_s)
        if self.hello is not None and "Authorization" in request.headers:
            await opened.send_json(self.hello)
        async for message in opened:
            if message.type is WSMsgType.TEXT:
                told = round((time.time() + self.clock_ahead_s) * 1000)
                await opened.send_json({"seq_reply": 1, "data": {"server_time": told}})
        return opened


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site over plain HTTP that is as it should be."""
    served = Site()
    served.answers = {
        "/api/v4/system/ping": (200, {"status": "OK"}),
        f"{PLUGIN}/version": (200, {"version": "1.12.2", "rtcd_version": "v1.2.6"}),
        f"{PLUGIN}/config": (200, client_config()),
        "/api/v4/config": (403, {}),
    }
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    host, port = runner.addresses[0][:2]
    served.url = f"http://{host}:{port}"
    yield served
    await runner.cleanup()


def client_config(**changes: Any) -> dict[str, Any]:
    """What the plugin tells clients."""
    return {
        "EnableRecordings": True,
        "EnableTranscriptions": True,
        "EnableLiveCaptions": True,
        "MaxRecordingDuration": 60,
        "MaxCallParticipants": 0,
        "AllowScreenSharing": True,
        "EnableSimulcast": False,
        "sku_short_name": "enterprise",
        "ICEServersConfigs": [],
        "NeedsTURNCredentials": False,
    } | changes


@pytest.fixture(name="client_config")
def client_config_fixture() -> Callable[..., dict[str, Any]]:
    return client_config


@pytest.fixture
async def listening() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """`await listening(handler, tls)`: a TCP server on loopback; its port."""
    servers: list[asyncio.Server] = []
    open_writers: set[asyncio.StreamWriter] = set()

    async def start(handler: Serve, tls: ssl.SSLContext | None = None) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_writers.add(writer)
            try:
                await handler(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                open_writers.discard(writer)
                writer.close()

        server = await asyncio.start_server(handle, LOOPBACK, 0, ssl=tls)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()
    for writer in [*open_writers]:
        writer.transport.abort()
    await asyncio.sleep(0)


@dataclass
class Proxy:
    """A reverse proxy before a site."""

    url: str
    body_limit_bytes: int = 1 << 40
    strips_upgrade: bool = False
    holds_upgrade: bool = False


@pytest.fixture
async def proxy(site: Site, listening: Callable[..., Awaitable[int]]) -> Proxy:
    """Passes requests on to the site as its attributes say, one per connection."""
    made = Proxy("")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")[:-2]
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines[1:])}
        if int(headers.get("content-length", 0)) > made.body_limit_bytes:
            writer.write(
                b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.5):  # as nginx lingers, so that the answer is read
                    while await reader.read(1 << 16):
                        pass
            return
        if "upgrade" in headers and made.holds_upgrade:
            await asyncio.sleep(30)
        if made.strips_upgrade:
            lines = [
                line for line in lines if not line.lower().startswith(("upgrade:", "connection:"))
            ]
        if "upgrade" not in headers:
            lines.append("Connection: close")
        port = int(site.url.rpartition(":")[2])
        to, back = await asyncio.open_connection(LOOPBACK, port)
        back.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await asyncio.wait(
            [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(to, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        back.close()

    made.url = f"http://{LOOPBACK}:{await listening(handle)}"
    return made


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()


@dataclass
class Authority:
    """A CA of the tests."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    file: Path

    def server(
        self,
        directory: Path,
        *,
        names: tuple[str, ...] = (LOOPBACK,),
        begins: float,
        ends: float,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> ssl.SSLContext:
        """A server's context; `begins` and `ends` in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
            for name in names
        ]
        certificate = (
            certificate_builder(
                common_name(names[0]),
                issuer=self.name,
                key=key,
                begins=timedelta(days=begins),
                ends=timedelta(days=ends),
            )
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = directory / f"{names[0]}-{ends}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return _authority(tmp_path, "Test Authority")


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    return _authority(tmp_path, "Another Authority")


def _authority(directory: Path, title: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name(title)
    certificate = (
        certificate_builder(
            name, issuer=name, key=key, begins=-timedelta(days=30), ends=timedelta(days=3650)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{title}.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, name, file)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def meeting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Meeting]:
    """The bundled SFU and the stand-in as processes."""
    async with started_meeting(tmp_path_factory.mktemp("meeting")) as running:
        yield running

"""The service behind a real port, plain and with TLS, and headers to knock with."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from foundation.clock import ManualClock
from offloader.app import Offloader, running_offloader
from offloader.backends.stub import StubBackend
from offloader.http_server import HttpServer
from offloader.settings import TlsSettings, load_settings

KEY = "k" * 32
ADMIN_KEY = "a" * 32


@dataclass
class Served:
    """A service that listens, and a client of it."""

    offloader: Offloader
    backend: StubBackend
    clock: ManualClock
    http: httpx.AsyncClient
    address: tuple[str, int]
    server: HttpServer

    @staticmethod
    def basic(client: str, key: str = KEY) -> dict[str, str]:
        token = base64.b64encode(f"{client}:{key}".encode()).decode()
        return {"Authorization": f"Basic {token}"}

    async def check(self) -> None:
        await self.offloader.supervisor.check()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A plain connection that says nothing yet."""
        return await asyncio.open_connection(*self.address)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    """Self-signed, for 127.0.0.1, ten years."""
    directory = tmp_path_factory.mktemp("tls")
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "offloader")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(private, hashes.SHA256())
    )
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return TlsSettings(True, str(cert), str(key))


@pytest.fixture(scope="session")
def serve(certificate: TlsSettings) -> Serve:
    """`async with serve(directory, tls=True, API_…="…") as served`."""

    @asynccontextmanager
    async def serve_one(
        directory: Path, *, tls: bool = False, **environ: str
    ) -> AsyncIterator[Served]:
        here = {
            "STORE_DATASOURCE": str(directory / "store.db"),
            "JOBS_PROCESS_JOBSDIR": str(directory / "jobs"),
            "API_SECURITY_ALLOWSELFREGISTRATION": "true",
            "JOBS_ADMISSIONWAITS": "0",
            "JOBS_MAXCONCURRENTJOBS": "100",
        }
        settings = load_settings(directory / "none.toml", here | environ)
        backend, clock = StubBackend(), ManualClock()
        sock = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio holds answers back for 40 ms
        sock.bind(("127.0.0.1", 0))
        sock.listen(2048)
        async with running_offloader(
            settings, environ={}, clock=clock, backend=backend
        ) as offloader:
            server = HttpServer(offloader.app, tls=certificate if tls else None)
            serving = asyncio.create_task(server.serve([sock]))
            while not server.started:
                await asyncio.sleep(0.005)
            host, port = sock.getsockname()[:2]
            verify = ssl.create_default_context(cafile=certificate.cert_file)
            url = f"{'https' if tls else 'http'}://{host}:{port}"
            try:
                async with httpx.AsyncClient(base_url=url, verify=verify, timeout=20) as http:
                    yield Served(offloader, backend, clock, http, (host, port), server)
            finally:
                offloader.events.close()
                server.should_exit = True
                await serving

    return serve_one

"""How long the plugin's quickest requests take while others do their worst: /version and TLS handshakes.

One JSON line per case. The service is a process of its own, and so is whoever loads it: nobody, clients that
list jobs and read metrics, or an attacker with 1000 wrong logins at once, again and again. Bounds: p99 of
`/version` below 50 ms, of a handshake below 300 ms (the Go client gives up after 1 s).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import multiprocessing
import os
import platform
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

KEY: Final = "k" * 32
HOST: Final = "127.0.0.1"
Address = tuple[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=600, help="requests measured per case")
    parser.add_argument("--handshakes", type=int, default=200, help="handshakes per case")
    options = parser.parse_args()
    loads: dict[str, Callable[[Address, bool], None] | None] = {
        "idle": None,
        "lists and metrics": busy_clients,
        "1000 wrong logins": wrong_logins,
    }
    with tempfile.TemporaryDirectory() as directory:
        make_certificate(Path(directory))
        for tls in (False, True):
            for name, load in loads.items():
                with service(Path(directory), tls=tls) as address, loaded(load, address, tls):
                    scheme = "https" if tls else "http"
                    taken_ms = measure_versions(address, tls, options.versions)
                    report(f"version, {scheme}, {name}", taken_ms)
                    if tls:
                        taken_ms = measure_handshakes(address, options.handshakes)
                        report(f"handshake, {name}", taken_ms)


def measure_versions(address: Address, tls: bool, count: int) -> list[float]:
    """One connection, one request after the other with pauses of 5 ms."""
    connection = (
        http.client.HTTPSConnection(*address, context=client_context(), timeout=30)
        if tls
        else http.client.HTTPConnection(*address, timeout=30)
    )
    taken_ms = []
    for number in range(count + 20):
        began_s = time.perf_counter()
        connection.request("GET", "/version")
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        if number >= 20:
            taken_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(0.005)
    connection.close()
    return taken_ms


def measure_handshakes(address: Address, count: int) -> list[float]:
    """From an open TCP connection to the end of the handshake, without resumption."""
    taken_ms = []
    for _ in range(count):
        with socket.create_connection(address, timeout=30) as plain:
            began_s = time.perf_counter()
            with client_context().wrap_socket(plain):
                taken_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(0.01)
    return taken_ms


def report(case: str, taken_ms: list[float]) -> None:
    ordered = sorted(taken_ms)
    line = {
        "bench": "offloader_api",
        "case": case,
        "count": len(ordered),
        "median_ms": round(ordered[len(ordered) // 2], 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(ordered[-1], 2),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(line), flush=True)


@contextlib.contextmanager
def service(directory: Path, *, tls: bool) -> Iterator[Address]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        address: Address = sock.getsockname()
    with tempfile.TemporaryDirectory() as state:
        environ = {
            "PATH": os.environ["PATH"],
            "API_HTTP_LISTENADDRESS": f"{HOST}:{address[1]}",
            "API_HTTP_TLS_ENABLE": str(tls).lower(),
            "API_HTTP_TLS_CERTFILE": str(directory / "cert.pem"),
            "API_HTTP_TLS_CERTKEY": str(directory / "key.pem"),
            "API_SECURITY_ALLOWSELFREGISTRATION": "true",
            "STORE_DATASOURCE": f"{state}/store.db",
            "STATE_DIRECTORY": state,
            "JOBS_APITYPE": "process",
            "JOBS_PROCESS_JOBSDIR": f"{state}/jobs",
            "LOGGER_ENABLEFILE": "false",
        }
        command = [sys.executable, "-m", "offloader"]
        root = Path(__file__).resolve().parent.parent
        with subprocess.Popen(command, cwd=root, env=environ, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(address)
                asyncio.run(ask(address, tls, request("POST", "/register", client_body(KEY))))
                yield address
            finally:
                process.terminate()
                process.wait(30)


@contextlib.contextmanager
def loaded(
    load: Callable[[Address, bool], None] | None, address: Address, tls: bool
) -> Iterator[None]:
    if load is None:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=load, args=(address, tls), daemon=True
    )
    process.start()
    time.sleep(2)  # until it is at it
    try:
        yield
    finally:
        process.terminate()
        process.join()


def busy_clients(address: Address, tls: bool) -> None:
    async def one() -> None:
        while True:
            for path in ("/jobs", "/metrics", "/capacity"):
                await ask(address, tls, request("GET", path, authorization=basic(KEY)))

    async def several() -> None:
        await asyncio.gather(*(one() for _ in range(4)))

    asyncio.run(several())


def wrong_logins(address: Address, tls: bool) -> None:
    async def attack() -> None:
        for attempt in range(1_000_000):
            texts = (f"{attempt:08d}{number:024d}" for number in range(1000))
            requests = (request("GET", "/jobs", authorization=basic(text)) for text in texts)
            await asyncio.gather(
                *(ask(address, tls, one) for one in requests), return_exceptions=True
            )

    asyncio.run(attack())


def request(method: str, path: str, body: bytes = b"", *, authorization: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
    head += f"Content-Length: {len(body)}\r\n" + (
        f"Authorization: {authorization}\r\n" if authorization else ""
    )
    return head.encode() + b"\r\n" + body


async def ask(address: Address, tls: bool, wanted: bytes) -> bytes:
    context = client_context() if tls else None
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        writer.write(wanted)
        return await reader.read()
    finally:
        writer.close()


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"plugin:{key}".encode()).decode()


def client_body(key: str) -> bytes:
    return json.dumps({"clientID": "plugin", "authKey": key}).encode()


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def wait_for(address: Address) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit("the service does not listen")


def make_certificate(directory: Path) -> None:
    """RSA with 2048 bits: what most admins have, and the slowest to shake hands with."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "offloader")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), False)
        .sign(private, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


if __name__ == "__main__":
    main()

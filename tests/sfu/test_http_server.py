"""The HTTP server's limits in time and in TLS (rtcd.md 1.4)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sfu.http_server import MAX_HEAD_BYTES, HttpServer, Timing, listen, tls_context

QUICK = Timing(read_s=0.05, write_s=0.1, idle_s=0.05)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers `/` once the body is there, `/slow` never."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        continue
    if scope["path"] == "/slow":
        await asyncio.sleep(3600)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def served(
    *, timing: Timing = QUICK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = HttpServer(app, tls=tls, timing=timing)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield port
    finally:
        server.should_exit = server.force_exit = True
        await serving


async def conversation(port: int, *parts: bytes) -> bytes:
    """Everything that comes back until the server closes; each part is sent after some answer to the last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(25):
            for part in parts[:-1]:
                writer.write(part)
                received += await reader.read(65536)
            writer.write(parts[-1])
            with contextlib.suppress(ConnectionResetError):
                while data := await reader.read(65536):
                    received += data
    finally:
        writer.close()
    return received


GET = b"GET / HTTP/1.1\r\nHost: sfu\r\n\r\n"


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: s", id="half a head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\nhalf", id="half a body"
        ),
    ],
)
async def test_a_request_that_does_not_come_to_its_end_loses_its_connection(part: bytes) -> None:
    async with served() as port:
        assert await conversation(port, part) == b""


async def test_a_head_without_end_loses_its_connection_long_before_its_time() -> None:
    async with served(timing=Timing()) as port:
        head = b"GET / HTTP/1.1\r\n" + b"X-Name: value\r\n" * (MAX_HEAD_BYTES // 10)
        assert await conversation(port, head) == b""


async def test_a_long_body_is_no_long_head() -> None:
    body = bytes(2 * MAX_HEAD_BYTES)
    head = b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with served(timing=Timing(idle_s=0.05)) as port:
        assert (await conversation(port, head + body)).count(b"200 OK") == 1


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    async with served() as port:
        assert (await conversation(port, GET, GET)).count(b"200 OK") == 2


async def test_a_later_request_that_does_not_come_to_its_end_loses_its_connection() -> None:
    timing = Timing(read_s=0.05, write_s=5, idle_s=30)
    async with served(timing=timing) as port:
        assert (await conversation(port, GET, b"GET / HT")).count(b"200 OK") == 1


async def test_an_answer_that_takes_too_long_is_cut_off() -> None:
    async with served() as port:
        assert await conversation(port, b"GET /slow HTTP/1.1\r\nHost: s\r\n\r\n") == b""


async def test_requests_in_one_go_are_all_answered() -> None:
    async with served(timing=Timing(idle_s=0.05)) as port:
        assert (await conversation(port, GET * 5)).count(b"200 OK") == 5


async def _handshake(port: int, client: ssl.SSLContext) -> tuple[str | None, bytes]:
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(25):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            writer.write(GET)
            version = writer.get_extra_info("ssl_object").version()
            return version, await reader.readuntil(b"ok")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken_over_p_256(certificate_files, version) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.minimum_version = client.maximum_version = version
    client.set_ecdh_curve("prime256v1")
    context = tls_context(*map(str, certificate_files))
    async with served(tls=context, timing=Timing()) as port:
        spoken, answer = await _handshake(port, client)
    assert spoken == version.name.replace("_", ".")
    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_no_other_curve_is_spoken(certificate_files) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.set_ecdh_curve("secp384r1")
    async with served(tls=tls_context(*map(str, certificate_files)), timing=Timing()) as port:
        with pytest.raises(OSError):  # an alert, or the connection is reset
            await _handshake(port, client)


@pytest.mark.parametrize("secure", [False, True])
async def test_after_the_end_nobody_is_served(certificate_files, secure: bool) -> None:
    tls = tls_context(*map(str, certificate_files)) if secure else None
    async with served(tls=tls) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


def test_no_older_tls_is_spoken(certificate_files) -> None:
    assert tls_context(*map(str, certificate_files)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_without_a_host_both_families_are_listened_on() -> None:
    with listen("", 0) as listener:
        port = listener.getsockname()[1]
        hosts = ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        for host in hosts:
            with socket.create_connection((host, port), timeout=5):
                pass


def test_a_taken_port_cannot_be_had() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", listener.getsockname()[1])

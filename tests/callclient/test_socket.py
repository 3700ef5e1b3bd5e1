"""The WebSocket is opened through TLS and proxies, and failures say what to change."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from callclient.signaling.proxies import proxy_for
from callclient.signaling.socket import Endpoint, SocketLost, WebSocketOpener
from testbed.certificates import Certificates, make_certificates


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "made", address="127.0.0.1")


@dataclass
class Site:
    url: str
    headers: list[dict[str, str]] = field(default_factory=list)


@asynccontextmanager
async def site(certificates: Certificates | None = None) -> AsyncIterator[Site]:
    """A server that says `hi` to everybody."""
    context = None
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates.certificate, certificates.key)
    started = Site("")

    async def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        started.headers.append({k.lower(): v for k, v in socket.request.headers.raw_items()})
        await socket.send("hi")
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        started.url = f"{'https' if certificates else 'http'}://127.0.0.1:{port}"
        yield started


@dataclass
class Proxy:
    url: str
    status: str
    heads: list[str] = field(default_factory=list)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handler: Handler) -> AsyncIterator[int]:
    """A server by hand, its port; everything is closed and awaited in the end."""
    handling: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if handling:
            await asyncio.wait(handling)


@asynccontextmanager
async def proxy(status: str = "200 Connection established") -> AsyncIterator[Proxy]:
    """An HTTP proxy that can CONNECT and nothing else."""
    started = Proxy("", status)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        started.heads.append(head)
        writer.write(f"HTTP/1.1 {started.status}\r\n\r\n".encode())
        if not started.status.startswith("200"):
            return
        host, _, port = head.split(" ")[1].rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        await there_writer.wait_closed()

    async with tcp_server(handle) as port:
        started.url = f"http://127.0.0.1:{port}"
        yield started


async def says_hi(endpoint: Endpoint) -> None:
    socket = await WebSocketOpener()(endpoint, 5)
    try:
        assert await socket.receive() == "hi"
    finally:
        await socket.close()


async def failure(endpoint: Endpoint, timeout_s: float = 5) -> str:
    with pytest.raises(SocketLost) as caught:
        await WebSocketOpener()(endpoint, timeout_s)
    return str(caught.value)


@pytest.mark.documents("mattermosts-certificate-is-not-trusted")
async def test_a_private_ca_is_trusted_when_it_is_named(
    certificates: Certificates, documented
) -> None:
    async with site(certificates) as there:
        await says_hi(Endpoint(there.url, "token", certificates.ca))
        reason = await failure(Endpoint(there.url, "token"))
    documented("mattermosts-certificate-is-not-trusted", reason)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    assert str(path) in await failure(Endpoint("https://127.0.0.1:9", "token", path))


async def test_the_ca_file_is_not_read_again_for_a_reconnect(
    certificates: Certificates, tmp_path: Path
) -> None:
    copy = tmp_path / "ca.pem"
    copy.write_bytes(certificates.ca.read_bytes())
    opener = WebSocketOpener()
    async with site(certificates) as there:
        for _ in range(2):
            socket = await opener(Endpoint(there.url, "token", copy), 5)
            await socket.close()
            copy.unlink(missing_ok=True)


@pytest.mark.parametrize("secure", [False, True])
async def test_the_way_through_a_proxy_is_asked_for_with_its_password_and_the_token_stays_inside(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    async with site(certificates if secure else None) as there, proxy() as between:
        with_password = between.url.replace("//", "//user:p%40ss@")
        monkeypatch.setenv("HTTPS_PROXY" if secure else "HTTP_PROXY", with_password)
        await says_hi(Endpoint(there.url, "token", certificates.ca))
    [head] = between.heads
    assert head.startswith(f"CONNECT {there.url.split('//')[1]} HTTP/1.1\r\n")
    credentials = base64.b64encode(b"user:p@ss").decode()
    assert f"Proxy-Authorization: Basic {credentials}\r\n" in head
    assert "token" not in head
    [headers] = there.headers
    assert headers["authorization"] == "Bearer token"
    assert "proxy-authorization" not in headers
    assert "origin" not in headers


@pytest.mark.parametrize("excluded", ["127.0.0.1", "*", "example.com,127.0.0.1"])
async def test_who_is_excluded_from_the_proxy_is_reached_directly(
    monkeypatch: pytest.MonkeyPatch, excluded: str
) -> None:
    async with site() as there, proxy() as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        monkeypatch.setenv("NO_PROXY", excluded)
        await says_hi(Endpoint(there.url, "token"))
    assert between.heads == []


async def test_a_proxy_for_https_is_not_asked_for_a_plain_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with site() as there, proxy() as between:
        monkeypatch.setenv("HTTPS_PROXY", between.url)
        await says_hi(Endpoint(there.url, "token"))
    assert between.heads == []


@pytest.mark.documents("the-proxy-refuses")
async def test_a_proxy_that_refuses_is_told_with_its_status(
    monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    async with site() as there, proxy("407 Proxy Authentication Required") as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        documented("the-proxy-refuses", await failure(Endpoint(there.url, "token")))


@pytest.mark.documents("a-proxy-that-is-no-http-proxy")
async def test_a_proxy_setting_that_cannot_be_used_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://user:secret@proxy")
    reason = await failure(Endpoint("http://127.0.0.1:9", "token"))
    documented("a-proxy-that-is-no-http-proxy", reason)
    assert "secret" not in reason


@pytest.mark.parametrize(
    ("site_url", "environment", "expected"),
    [
        ("http://h:80", {"HTTPS_PROXY": "http://s:1"}, None),
        ("http://h:80", {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://s:1"}, "http://p:1"),
        ("https://h", {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://s:1"}, "http://s:1"),
        ("https://h", {"ALL_PROXY": "http://a:1"}, "http://a:1"),
        ("https://h", {"HTTPS_PROXY": "s:1"}, "http://s:1"),
        ("https://h.corp", {"HTTPS_PROXY": "http://s:1", "NO_PROXY": ".corp"}, None),
        ("https://h:8443", {"HTTPS_PROXY": "http://s:1", "NO_PROXY": "h:8443"}, None),
        ("https://h", {}, None),
    ],
)
def test_the_proxy_is_the_one_that_http_requests_to_the_site_use(
    monkeypatch: pytest.MonkeyPatch,
    site_url: str,
    environment: dict[str, str],
    expected: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(site_url) == expected


@pytest.mark.documents(
    "mattermosts-name-does-not-resolve", "mattermost-answers-the-websocket-with-an-error"
)
async def test_nobody_there_a_name_unknown_and_a_wrong_answer_are_told_apart(
    unused_tcp_port_factory: Callable[[], int], documented
) -> None:
    port = unused_tcp_port_factory()
    refused = await failure(Endpoint(f"http://127.0.0.1:{port}", "token"))
    unknown = await failure(Endpoint("http://no-such-host.invalid", "token"))
    assert "onnect" in refused
    documented("mattermosts-name-does-not-resolve", unknown)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    async with tcp_server(answer) as port:
        wrong = await failure(Endpoint(f"http://127.0.0.1:{port}", "token"))
    documented("mattermost-answers-the-websocket-with-an-error", wrong)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """With the token or without: whoever answers could send the job to any address."""
    async with site() as other:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            place = other.url.replace("http", "ws")
            head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {place}/\r\nContent-Length: 0\r\n\r\n"
            writer.write(head.encode())

        async with tcp_server(answer) as port:
            reason = await failure(Endpoint(f"http://127.0.0.1:{port}", "token"))
        assert f"HTTP {status}" in reason
        assert other.headers == []


@pytest.mark.documents("mattermost-does-not-answer")
async def test_a_server_that_does_not_answer_is_given_up(documented) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(hang) as port:
        reason = await failure(Endpoint(f"http://127.0.0.1:{port}", "token"), 0.1)
    documented("mattermost-does-not-answer", reason)


async def test_an_end_by_the_server_is_told_with_its_code() -> None:
    async def go(socket: ServerConnection) -> None:
        await socket.close(4001)

    async with serve(go, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        socket = await WebSocketOpener()(Endpoint(f"http://127.0.0.1:{port}", "token"), 5)
        with pytest.raises(SocketLost, match="code 4001"):
            await socket.receive()
        with pytest.raises(SocketLost, match="code 4001"):
            await socket.send("x")
        await socket.close()

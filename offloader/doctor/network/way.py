"""The way that jobs take to the site: its URL after our overrides, the proxy, and whom they trust."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx

from offloader.doctor.finding import Finding, skipped
from offloader.doctor.network.rtcd_wire import bracketed
from offloader.doctor.step import Context
from offloader.setting_groups import NetworkSettings

PLUGIN_PATH: Final = "/plugins/com.mattermost.calls"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 10.0
NO_SITE: Final = "no site was given: --site-url https://chat.example.com"


@dataclass(frozen=True, slots=True)
class Way:
    """Where to, and how."""

    given_url: str
    """As the plugin calls the site."""
    url: str
    """As jobs call it: after `jobs.site_url_overrides`."""
    scheme: str
    host: str
    port: int
    path: str
    """Empty for every site that the Calls plugin can work with."""
    proxy: str = field(repr=False)
    """Empty: direct."""
    proxy_key: str
    """The setting that names it."""
    ca_file: Path | None

    @classmethod
    def of(cls, context: Context) -> Way | None:
        """None where no site was given."""
        if not context.site_url:
            return None
        network = context.settings.jobs.network
        url = network.site_url_for_jobs(context.site_url).rstrip("/")
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        key = f"jobs.{parts.scheme}_proxy"
        proxy = _proxy(network, parts.scheme, host, port)
        return cls(
            context.site_url,
            url,
            parts.scheme,
            host,
            port,
            parts.path,
            proxy,
            key,
            context.ca_file,
        )

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def place(self) -> str:
        """`host:port`."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def proxy_shown(self) -> str:
        """Without its password."""
        parts = urlsplit(self.proxy)
        user = f"{parts.username}:***@" if parts.username else ""
        return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}"

    def context(self) -> ssl.SSLContext:
        """Whom jobs trust: the system's authorities and our CA file. Blocks. Raises OSError."""
        return trusting(self.ca_file)

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A TCP connection to the site, through the proxy where there is one; no TLS yet.

        Raises:
            OSError: no connection; TimeoutError is one, and so is NoTunnel.
        """
        host, port = self.host, self.port
        if self.proxy:
            parts = urlsplit(self.proxy)
            host, port = parts.hostname or "", parts.port or 80
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port)
        try:
            if self.proxy:
                async with asyncio.timeout(ANSWER_S):
                    await self._tunnel(reader, writer)
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)

    def http(self, *, token: str = "", timeout_s: float = ANSWER_S) -> httpx.AsyncClient:
        """A client for the site's routes; follows no redirect. Blocks a moment (CA file). Raises OSError."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            verify=self.context() if self.tls else True,
            proxy=self.proxy or None,
            trust_env=False,
            follow_redirects=False,
        )

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.proxy)
        lines = [f"CONNECT {self.place} HTTP/1.1", f"Host: {self.place}"]
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise NoTunnel("the proxy does not speak HTTP") from error
        status = head.split(b" ", 2)[1:2]
        if status != [b"200"]:
            code = b"".join(status).decode(errors="replace")
            raise NoTunnel(f"the proxy answers CONNECT with HTTP {code}")


class NoTunnel(OSError):
    """The proxy is there and lets nobody through; the text says what it answered."""


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities and those of the file, as in jobs. Raises OSError naming the file."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # SSLError is one
            reason = error.strerror or "it holds no certificate"
            raise OSError(f"{ca_file}: {reason}") from error
    return context


async def unreached(way: Way | None) -> Finding | None:
    """A finding when there is no site, or no way to it: other steps tell why, and one telling is enough."""
    if way is None:
        return skipped("no_site_url", "Mattermost", NO_SITE)
    try:
        async with way.stream() as (_, writer):
            if way.tls:
                async with asyncio.timeout(ANSWER_S):
                    await writer.start_tls(way.context(), server_hostname=way.host)
    except OSError:
        return skipped(
            "site_unreached", way.url, "no usable connection: the steps dns, tcp and tls say why"
        )
    return None


def reason_of(error: Exception) -> str:
    """In plain words, without anything secret."""
    match error:
        case socket.gaierror():
            return "the name does not resolve"
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError() | httpx.TimeoutException():
            return "no answer in time"
        case NoTunnel():
            return str(error)
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}"


def json_object(response: httpx.Response) -> Mapping[str, Any]:
    """Its body as an object, whatever the content type says (calls-plugin.md trap 52); else an empty one."""
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _proxy(network: NetworkSettings, scheme: str, host: str, port: int) -> str:
    """By the settings that jobs get as HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
    proxy = network.https_proxy if scheme == "https" else network.http_proxy
    no_proxy = {"no": network.no_proxy}
    if not proxy or urllib.request.proxy_bypass_environment(f"{host}:{port}", no_proxy):  # type: ignore[attr-defined]  # typeshed leaves it out
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"

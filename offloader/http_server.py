"""The HTTP server: uvicorn with this service's protocol, limits and, for HTTPS, its own door."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from foundation.layered_config import ConfigError
from offloader.http_guard import MOST_CONNECTIONS, GuardedProtocol
from offloader.settings import TlsSettings
from offloader.tls_door import Address, TlsDoor

KEEP_ALIVE_S: Final = 75
"""Longer than the pause between a recording's and its transcription's request, so that TLS is paid once."""
OPEN_REQUESTS_S: Final = 5
"""How long requests that are being answered may still take when everything else has ended."""
_FILES_BESIDES: Final = 512


class HttpServer(uvicorn.Server):
    """`serve(sockets)` until `should_exit`. Signals belong to the service, which has jobs to end first."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        tls: TlsSettings | None = None,
        tls_setting: str = "api.http.tls",
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        """Raises ConfigError: certificate or key cannot be used."""
        self._context = tls_context(tls, tls_setting) if tls is not None and tls.enable else None
        self._new_loop = new_loop
        self._door: TlsDoor | None = None
        config = uvicorn.Config(
            app,
            http=GuardedProtocol,
            ws="none",
            proxy_headers=False,  # see api.proxies; uvicorn would believe whoever is on this host
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=OPEN_REQUESTS_S,
        )
        config.load()
        super().__init__(config)

    def show(self, context: ssl.SSLContext) -> None:
        """Of a server with TLS: new connections get this certificate; those that are open stay."""
        self._context = context
        if self._door is not None:
            self._door.show(context)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; with TLS, the door has the sockets."""
        _allow_open_files(MOST_CONNECTIONS)
        if self._context is None:
            await super().startup(sockets)
            return
        await super().startup([])
        self._door = TlsDoor(
            sockets or (), self._context, adopt=self._adopt, new_loop=self._new_loop
        )
        await self._door.open()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn: answers what is being asked, up to `OPEN_REQUESTS_S`."""
        if self._door is not None:
            await self._door.stop_accepting()
        await super().shutdown(sockets)
        if self._door is not None:
            await self._door.aclose()

    async def _adopt(self, plain: socket.socket, peer: Address) -> None:
        """Serve the plain end of a connection that came through the door."""

        def protocol() -> GuardedProtocol:
            made = GuardedProtocol(config=self.config, server_state=self.server_state, app_state={})
            made.peer = peer
            return made

        if self.should_exit:
            plain.close()
            return
        await asyncio.get_running_loop().connect_accepted_socket(protocol, plain)


def tls_context(tls: TlsSettings, setting: str) -> ssl.SSLContext:
    """What a server shows. Blocks. Raises ConfigError: certificate or key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.cert_key)
    except OSError as error:
        raise ConfigError(
            f"{setting}: certificate {tls.cert_file} or key {tls.cert_key} cannot be used: "
            f"{error.strerror or error}"
        ) from error
    return context


def _allow_open_files(connections: int) -> None:
    """Raise the soft limit, where the hard one allows: with TLS a connection takes three descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + _FILES_BESIDES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""Around every request: an ID, one log line, its latency, and who sent it.

Logged are the route's template, the path without its query, ids and counts; never headers, queries or bodies.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from clientauth.caller import CALLER, Caller
from clientauth.turns import PEER
from foundation.limited_lines import LimitedLines
from foundation.logs import get_logger
from offloader.api.page_data import PAGE_DATA
from offloader.api.proxies import TrustedProxies

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_QUIET: Final = frozenset({"/version", "/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by monitors."""
_QUIET_READS: Final = frozenset({PAGE_DATA})
"""By an open page as well; what somebody changes there is told."""
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
_SHOWN_PATH: Final = 120
_OF_ONE_STRANGER: Final = 30
_OF_STRANGERS: Final = 120
"""Lines a minute about requests of nobody who is known; a flood must not rotate the log."""

Observer = Callable[[str, str, int, float], None]
"""Called with method, route template (`-` for none), status (0: none was sent) and seconds."""

log = get_logger()


class AccessLog:
    """ASGI middleware; outermost, so that it sees every answer."""

    def __init__(
        self, app: ASGIApp, *, observe: Observer, proxies: TrustedProxies | None = None
    ) -> None:
        self._app = app
        self._observe = observe
        self._proxies = proxies or TrustedProxies()
        self._strangers = LimitedLines(
            "http.request",
            level=logging.INFO,
            of_one_source=_OF_ONE_STRANGER,
            in_all=_OF_STRANGERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._proxies.unwrapped(scope)
        request_id = _request_id(scope)
        status = 0
        sent_bytes = 0

        async def sending(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            sent_bytes += len(message.get("body", b""))
            await send(message)

        began_s = time.perf_counter()
        peer = scope["client"][0] if scope.get("client") else ""
        who = Caller()
        peer_token, caller_token = PEER.set(peer), CALLER.set(who)
        try:
            with bound_contextvars(request_id=request_id):
                try:
                    await self._app(scope, receive, sending)
                finally:
                    seconds = time.perf_counter() - began_s
                    self._tell(scope, status, seconds, sent_bytes, peer, who)
        finally:
            CALLER.reset(caller_token)
            PEER.reset(peer_token)

    def _tell(
        self,
        scope: Scope,
        status: int,
        seconds: float,
        sent_bytes: int,
        peer: str,
        who: Caller,
    ) -> None:
        route = getattr(scope.get("route"), "path", "-")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._observe(method, route, status, seconds)
        often = route in _QUIET or (method == "GET" and route in _QUIET_READS)
        fields = {
            "method": method,
            "route": route,
            "path": scope["path"][:_SHOWN_PATH],
            "status": status,
            "duration_s": round(seconds, 4),
            "sent_bytes": sent_bytes,
            "peer": peer,
        }
        if often and status < 500:
            log.debug("http.request", **fields)
        elif status >= 500 or who.client_id or who.admin:
            log.info("http.request", **fields)
        else:
            self._strangers.tell(peer, **fields)


def _request_id(scope: Scope) -> str:
    """The sender's own, where it has a harmless form."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

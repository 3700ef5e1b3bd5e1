"""Header fields of which a request has one at most, on both services and on workers.

Two parts that a request passes, such as a proxy and this service, might go by different ones of two.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from clientauth.http import error_response

_SINGLE: Final = {
    name.lower().encode(): name
    for name in ("Authorization", "Idempotency-Key", "Host", "Content-Length")
}
"""By their names in ASGI. The last two RFC 9112 wants to be refused (sections 3.2 and 6.3)."""


class SingleFields:
    """ASGI middleware: a request with two of them is answered 400, whatever they hold."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        repeated = _repeated(scope) if scope["type"] in ("http", "websocket") else ""
        if not repeated:
            await self._app(scope, receive, send)
            return
        answer = error_response(400, f"header {repeated} should be there once")
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(answer)
        else:
            await answer(scope, receive, send)


def _repeated(scope: Scope) -> str:
    seen = set()
    for name, _ in scope["headers"]:
        if name in _SINGLE:
            if name in seen:
                return _SINGLE[name]
            seen.add(name)
    return ""

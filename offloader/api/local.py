"""The local socket's door: whoever can open the socket is the admin.

The socket's mode admits its owner and root. Requests that come through it are given this process's own random
key, which is made at the start and never leaves the process.
"""

from __future__ import annotations

import base64

from starlette.types import ASGIApp, Receive, Scope, Send


class LocalAdmin:
    """ASGI wrapper round the application that listens on the network too."""

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self._app = app
        self._header = b"Basic " + base64.b64encode(f"admin:{key}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [(n, v) for n, v in scope["headers"] if n.lower() != b"authorization"]
            scope = {**scope, "headers": [*headers, (b"authorization", self._header)]}
        await self._app(scope, receive, send)

"""What the admin's page may ask of the API: the API's own routes below `/page/api`, by the session's cookie.

The session stands for the admin, as the local socket does (`local.py`). Only what the page shows and does is
let through. A stream ends with its session.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clientauth.http import error_response
from offloader.api.page_files import HEADERS
from offloader.api.page_origin import is_own_origin
from offloader.api.page_sessions import PageSessions, Session

PAGE_DATA: Final = "/page/api/{path:path}"
"""The route's template."""
PAGE_CONTENT: Final = "/page/api/jobs/{job_id}/artifacts/{name:path}"
"""As the log and the metrics have it: who takes a recording along is told there."""
COOKIE: Final = "calls_offloader_page"
BACKGROUND: Final = "x-background"
"""Header of what the page asks by itself: that does not keep a session alive."""
_JOB: Final = r"jobs/[a-z0-9-]{12,63}"
_MAY: Final[Mapping[str, re.Pattern[str]]] = {
    "GET": re.compile(
        rf"jobs|{_JOB}|{_JOB}/logs|{_JOB}/artifacts|events|capacity|readyz|version|admin/status"
    ),
    "POST": re.compile(rf"{_JOB}/(stop|republish)"),
}
_CONTENT: Final = re.compile(rf"{_JOB}/artifacts/.+", re.DOTALL)
_WITHOUT_TOUCH: Final = frozenset({"events"})
"""Its stream begins again by itself."""


@dataclass(frozen=True, slots=True)
class _Template:
    path: str


_DATA_ROUTE: Final = _Template(PAGE_DATA)
_CONTENT_ROUTE: Final = _Template(PAGE_CONTENT)


class PageData:
    """ASGI application of one route with the parameter `path`."""

    def __init__(
        self, routes: ASGIApp, sessions: PageSessions, *, admin_key: str, show_content: bool
    ) -> None:
        """`routes`: the service's. `admin_key`: makes the admin of a request to them."""
        self._routes = routes
        self._sessions = sessions
        self._authorization = b"Basic " + base64.b64encode(f"admin:{admin_key}".encode())
        self._show_content = show_content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        path = scope["path_params"]["path"]
        # For the log and the metrics.
        scope["route"] = _CONTENT_ROUTE if _CONTENT.fullmatch(path) else _DATA_ROUTE
        refusal = self._refusal(request, path)
        if refusal is not None:
            await error_response(*refusal)(scope, receive, sending)
            return
        background = path in _WITHOUT_TOUCH or BACKGROUND in request.headers
        token = request.cookies.get(COOKIE, "")
        session = self._sessions.get(token, touch=not background)
        if session is None:
            await error_response(401, "not logged in")(scope, receive, sending)
            return
        await self._while_it_lasts(session, self._inner(scope, path), receive, sending)

    def _refusal(self, request: Request, path: str) -> tuple[int, str] | None:
        if request.method == "POST" and not is_own_origin(request):
            return 403, "this request does not come from this page"
        may = _MAY.get(request.method)
        if may is not None and may.fullmatch(path):
            return None
        if request.method == "GET" and _CONTENT.fullmatch(path):
            return None if self._show_content else (403, "api.admin.show_content is off")
        return 404, "not found"

    def _inner(self, scope: Scope, path: str) -> Scope:
        dropped = {b"authorization", b"cookie"}
        headers: Iterable[tuple[bytes, bytes]] = (
            (name, value) for name, value in scope["headers"] if name.lower() not in dropped
        )
        inner = {name: value for name, value in scope.items() if name not in ("route", "endpoint")}
        return inner | {
            "path": f"/{path}",
            "raw_path": f"/{path}".encode(),
            "path_params": {},
            "headers": [*headers, (b"authorization", self._authorization)],
        }

    async def _while_it_lasts(
        self, session: Session, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer; a stream that is under way when the session ends is ended with it. A file goes on: its
        length is announced, and whoever got a part of it would take that for a fault."""
        streaming = False
        headed = asyncio.Event()

        async def sending(message: Message) -> None:
            nonlocal streaming
            if message["type"] == "http.response.start":
                streaming = "content-length" not in MutableHeaders(scope=message)
                headed.set()
            await send(message)

        work = asyncio.ensure_future(_run(self._routes, scope, receive, sending))
        ended = asyncio.ensure_future(session.ended.wait())
        beginning = asyncio.ensure_future(headed.wait())
        try:
            while (left_s := self._sessions.left_s(session)) > 0 and not work.done():
                await asyncio.wait(
                    (work, ended), timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
            await asyncio.wait((work, beginning), return_when=asyncio.FIRST_COMPLETED)
            if not streaming:
                await asyncio.wait((work,))
        finally:
            cut = not work.done()
            for task in (work, ended, beginning):
                task.cancel()
            await asyncio.wait((work, ended, beginning))
        if not cut:
            work.result()
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)

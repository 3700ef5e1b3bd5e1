"""The admin's page: `GET /` for browsers, its files, login and logout, and its door to the API.

Nothing of it answers `WWW-Authenticate`: a browser would send a Basic key with every request from then on,
whoever made the browser send it. What is no browser is told of `/` what it ever was: 404.
"""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
import json
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from clientauth.caller import caller
from clientauth.http import error_response
from clientauth.service import AuthError, ClientAuth
from clientauth.turns import PEER, source
from foundation.clock import Clock
from foundation.limited_lines import LimitedLines
from foundation.logs import get_logger
from offloader.api.errors import json_document
from offloader.api.page_data import BACKGROUND, COOKIE, PAGE_DATA, PageData
from offloader.api.page_files import HEADERS, INDEX, PageFiles
from offloader.api.page_origin import is_over_tls, is_own_origin
from offloader.api.page_sessions import LONGEST_S, PageSessions
from offloader.version import BUILD_VERSION

_LONGEST_KEY = 1024
_FOREIGN = (
    "this request does not come from this page; behind a proxy, that has to pass `Host` on as it is"
)

log = get_logger()


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What the settings say of the page, and this process's own admin key."""

    admin_key: str
    show_content: bool


def page_router(
    routes: ASGIApp, auth: ClientAuth, options: PageOptions, *, clock: Clock
) -> APIRouter:
    """`/` and `/page/…`; `routes` are the service's own, which the page's data come from."""
    router = APIRouter(include_in_schema=False)
    files = PageFiles()
    sessions = PageSessions(clock=clock)
    refusals = LimitedLines("page.login_refused", clock=clock)

    @router.get("/")
    async def index(request: Request) -> Response:
        html = "text/html" in request.headers.get("accept", "")
        answer = files.answer(request, INDEX) if html else None
        answer = answer or error_response(404, "not found")
        answer.headers["Vary"] = "Accept"
        return answer

    @router.post("/page/login")
    async def login(request: Request) -> Response:
        if not is_own_origin(request):
            return _secured(error_response(403, _FOREIGN))
        try:
            await auth.check_admin_key(_key_of(await request.body()))
        except AuthError as error:
            refusals.tell(source(), status=error.status, peer=PEER.get())
            return _secured(error_response(error.status, error.text))
        sessions.end(request.cookies.get(COOKIE, ""))
        answer = _secured(json_document(_session_document()))
        answer.set_cookie(
            COOKIE,
            sessions.open(),
            max_age=int(LONGEST_S),
            path="/page",
            secure=is_over_tls(request),
            httponly=True,
            samesite="strict",
        )
        log.info("page.logged_in", sessions=len(sessions))
        return answer

    @router.post("/page/logout")
    async def logout(request: Request) -> Response:
        if not is_own_origin(request):
            return _secured(error_response(403, _FOREIGN))
        token = request.cookies.get(COOKIE, "")
        caller().admin = sessions.get(token, touch=False) is not None
        sessions.end(token)
        answer = _secured(json_document({}))
        answer.delete_cookie(
            COOKIE, path="/page", secure=is_over_tls(request), httponly=True, samesite="strict"
        )
        return answer

    @router.get("/page/session")
    async def session(request: Request) -> Response:
        touch = BACKGROUND not in request.headers
        if sessions.get(request.cookies.get(COOKIE, ""), touch=touch) is None:
            return _secured(json_document({"logged_in": False}))
        return _secured(json_document(_session_document()))

    def _session_document() -> dict[str, object]:
        return {
            "logged_in": True,
            "version": BUILD_VERSION,
            "show_content": options.show_content,
        }

    data = PageData(
        routes, sessions, admin_key=options.admin_key, show_content=options.show_content
    )
    router.routes.append(Route(PAGE_DATA, data, methods=["GET", "POST"]))

    @router.get("/page/{name}")
    async def file(request: Request, name: str) -> Response:
        return files.answer(request, name) or _secured(error_response(404, "not found"))

    return router


def _secured(answer: Response) -> Response:
    answer.headers.update(HEADERS)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _key_of(body: bytes) -> str:
    """Of `{"key"}`. Raises AuthError."""
    try:
        key = json.loads(body)["key"]
        if not isinstance(key, str) or not 0 < len(key.encode()) <= _LONGEST_KEY:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        text = f"the body should be an object with key, a text of 1 to {_LONGEST_KEY} bytes"
        raise AuthError(400, text) from None
    return str(key)

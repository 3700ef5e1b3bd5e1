"""The stand-in's browser page (testbed/web): a participant that is a real browser, and the thread to look at.

Plain HTML and ES modules, so there is nothing to build; whoever can reach the stand-in may log in as anybody.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from testbed.plugin import pictures
from testbed.plugin.guests import NameRefused, add_guest
from testbed.plugin.world import User, World
from testbed.speech.clips import CLIPS_DIRECTORY

_DIRECTORY: Final = Path(__file__).parent.parent / "web"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'{socket}; media-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def web_page(world: World, *, real_models: bool = False) -> APIRouter:
    """The page, its files, the login. `real_models`: jobs have others than the bundled speech model."""
    router = APIRouter(prefix="/testbed")
    names = {p.name for p in _DIRECTORY.iterdir() if p.suffix in _TYPES}
    clips = sorted(p.name for p in CLIPS_DIRECTORY.glob("*.opus"))

    @router.get("/call")
    async def the_call() -> RedirectResponse:
        return RedirectResponse(f"/testbed/call/{world.channel_id}")

    @router.get("/call/{channel_id}")
    async def page(channel_id: str, request: Request) -> FileResponse:
        if channel_id != world.channel_id:
            raise HTTPException(404)
        headers = {"Content-Security-Policy": _policy(request), "Cache-Control": "no-store"}
        return FileResponse(_DIRECTORY / "index.html", media_type="text/html", headers=headers)

    @router.get("/web/{name}")
    async def file(name: str) -> FileResponse:
        if name not in names:
            raise HTTPException(404)
        kind = _TYPES[Path(name).suffix]
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return FileResponse(_DIRECTORY / name, media_type=kind, headers=headers)

    @router.get("/users")
    async def users() -> list[str]:
        """Who can log in."""
        return list(world.users)

    @router.get("/users/{user_id}/image")
    async def image(user_id: str) -> Response:
        """A picture without a token, which an `img` element cannot send."""
        user = world.by_id(user_id)
        if user is None:
            raise HTTPException(404)
        return Response(pictures.initials_png(user), media_type="image/png")

    @router.post("/login")
    async def login(request: Request) -> dict[str, Any]:
        """A token for `{"username"}` of one of the stand-in's people, or a new account for `{"name"}`."""
        user = _log_in(world, await request.body())
        return {"user_id": user.user_id, "token": user.token}

    @router.get("/about")
    async def about() -> dict[str, bool]:
        """What the page tells about the speech models."""
        return {"real_models": real_models}

    @router.get("/speech")
    async def speech() -> list[str]:
        """Sentences that the bundled model knows, for who has no microphone or no other model."""
        return clips

    @router.get("/speech/{name}")
    async def clip(name: str) -> FileResponse:
        if name not in clips:
            raise HTTPException(404)
        return FileResponse(CLIPS_DIRECTORY / name, media_type="audio/ogg")

    return router


def _policy(request: Request) -> str:
    """Not every browser takes a WebSocket to the page's own host for 'self'."""
    scheme = "wss" if request.url.scheme == "https" else "ws"
    try:
        parts = urlsplit(f"//{request.headers.get('host', '')}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host.replace(".", "").replace("-", "").isalnum():
        return _POLICY.format(socket="")
    return _POLICY.format(socket=f" {scheme}://{host}{f':{port}' if port else ''}")


def _log_in(world: World, body: bytes) -> User:
    try:
        wish = json.loads(body)
        return add_guest(world, wish["name"]) if "name" in wish else world.users[wish["username"]]
    except NameRefused as error:
        raise HTTPException(400, str(error)) from None
    except (ValueError, KeyError, TypeError):
        raise HTTPException(400, "there is no such user") from None

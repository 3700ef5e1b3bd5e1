"""The routes /register, /unregister and /login, the same on both services."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clientauth.service import AuthError, ClientAuth

MAX_BODY_BYTES = 1 << 20


def auth_router(auth: ClientAuth) -> APIRouter:
    """The three routes. Other methods than POST must end as 404, which is the application's business."""
    router = APIRouter(tags=["clients"])

    @router.post("/register", status_code=201)
    async def register(request: Request) -> Response:
        """Register a client: `{"clientID","authKey"}`, key of 32 characters or more."""

        authorization = request.headers.get("authorization")

        async def act(body: dict[str, str]) -> Response:
            client_id = body.get("clientID", "")
            await auth.register(client_id, body.get("authKey", ""), authorization=authorization)
            return json_response(201, {"clientID": client_id, "code": "201"})

        return await _answer(request, act, first=lambda: auth.check_may_register(authorization))

    @router.post("/unregister")
    async def unregister(request: Request) -> Response:
        """Forget a client: `{"clientID"}`."""

        authorization = request.headers.get("authorization")

        async def act(body: dict[str, str]) -> Response:
            await auth.unregister(body.get("clientID", ""), authorization=authorization)
            return json_response(200, {"code": "200"})

        return await _answer(request, act, first=lambda: auth.check_may_unregister(authorization))

    @router.post("/login")
    async def login(request: Request) -> Response:
        """A bearer token: `{"clientID","authKey"}`."""

        async def act(body: dict[str, str]) -> Response:
            token = await auth.login(body.get("clientID", ""), body.get("authKey", ""))
            return json_response(200, {"bearerToken": token, "code": "200"})

        return await _answer(request, act)

    return router


def json_response(status: int, body: dict[str, str]) -> Response:
    """A JSON answer with a newline at its end, as the reference writes it."""
    return Response(
        json.dumps(body, separators=(",", ":")) + "\n",
        status_code=status,
        media_type="application/json",
    )


def error_response(status: int, text: str) -> Response:
    """`{"error","code"}`; status and code agree."""
    return json_response(status, {"error": text, "code": str(status)})


async def _answer(
    request: Request,
    act: Callable[[dict[str, str]], Awaitable[Response]],
    *,
    first: Callable[[], Awaitable[object]] | None = None,
) -> Response:
    try:
        if first is not None:
            await first()
        return await act(await _string_map(request))
    except AuthError as error:
        return error_response(error.status, error.text)


async def _string_map(request: Request) -> dict[str, str]:
    """The body as an object of texts. Raises AuthError 400 for anything else, 413 above 1 MiB."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise AuthError(413, "request body is larger than 1 MiB")
    try:
        value = json.loads(bytes(data))
        # A lone surrogate can be escaped in JSON, but neither hashed nor stored.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise AuthError(400, "request body should be a JSON object of texts") from None
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise AuthError(400, "request body should be a JSON object of texts")
    return value

"""How the plugin's HTTP routes read and answer (section 5.1)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from testbed.plugin.jobs import RequestRefused
from testbed.plugin.uploads import UploadRefused
from testbed.plugin.world import User

Handler = Callable[[User, Request], Awaitable[Response]]


async def answer(handler: Handler, user: User, request: Request) -> Response:
    """What `handler` answers, or how it refuses."""
    try:
        return await handler(user, request)
    except RequestRefused as error:
        body = {"message": error.text, "status_code": error.status}
        return to_json(body, status=error.status)
    except UploadRefused as refused:
        body = {
            "id": refused.error_id,
            "message": refused.message,
            "status_code": refused.status,
        }
        return to_json(body, status=refused.status)


async def read_object(request: Request) -> dict[str, Any]:
    """The body. Raises RequestRefused when it is no JSON object."""
    try:
        value = json.loads(await request.body())
    except ValueError:
        raise RequestRefused(400, "invalid body") from None
    if not isinstance(value, dict):
        raise RequestRefused(400, "invalid body")
    return value


def success() -> Response:
    """The result object of 5.1."""
    return to_json({"message": "success", "status_code": 200})


def to_json(value: Any, *, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(json.dumps(value), status_code=status, media_type="application/json")

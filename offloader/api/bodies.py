"""Reads request bodies: at most 1 MiB of JSON, member names in any letter case."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offloader.api.errors import BadRequest

BODY_LIMIT_BYTES: Final = 1024 * 1024
_PREFIX: Final = "failed to decode request body: "
_WHITESPACE: Final = " \t\r\n"

Model = TypeVar("Model", bound=BaseModel)


class BodyLimit:
    """ASGI middleware: reading more than 1 MiB of body ends in 413, on every route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read_bytes = 0
        declared = _declared_bytes(scope)

        async def limited() -> Message:
            nonlocal read_bytes
            if declared > BODY_LIMIT_BYTES:
                raise _too_large()
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > BODY_LIMIT_BYTES:
                raise _too_large()
            return message

        await self._app(scope, limited, send)


async def read_model(request: Request, model: type[Model], *, may_be_empty: bool = False) -> Model:
    """The body as `model`, read as Go's decoder does: the first JSON value counts, members are matched in any
    letter case, unknown ones and `null` leave the default.

    Raises:
        BadRequest: not JSON, or not of the model's form; the text names the member.
    """
    body = await request.body()
    if may_be_empty and not body.strip():
        return model()
    document = parse_json(body)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise BadRequest(f"{_PREFIX}should be a JSON object")
    try:
        return model.model_validate(_with_known_names(document, model))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        member = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{_PREFIX}{member}: {first['msg']}") from error


def parse_json(body: bytes) -> Any:
    """The first JSON value of `body`: no NaN, no text that is not Unicode, no depth that breaks the parser.

    Raises:
        BadRequest: anything else.
    """
    try:
        text = body.decode().lstrip(_WHITESPACE)
        if not text:
            raise BadRequest(f"{_PREFIX}EOF")
        document, _ = _DECODER.raw_decode(text)
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise BadRequest(f"{_PREFIX}should be Unicode text in UTF-8") from error
    except RecursionError as error:
        raise BadRequest(f"{_PREFIX}nested too deeply") from error
    except ValueError as error:
        raise BadRequest(f"{_PREFIX}not JSON: {error}") from error
    return document


def _with_known_names(document: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    names = {name.casefold(): name for name in _wire_names(model)}
    return {
        names[member.casefold()]: value
        for member, value in document.items()
        if member.casefold() in names and value is not None
    }


def _wire_names(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _declared_bytes(scope: Scope) -> float:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else math.inf
    return 0


def _too_large() -> HTTPException:
    return HTTPException(413, f"request body too large: more than {BODY_LIMIT_BYTES} bytes")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)

"""Reads query parameters: each at most once, its value of the wanted form, unknown ones ignored."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from fastapi import Request

from offloader.api.errors import BadRequest

LARGEST_PAGE: Final = 500
_FLAGS: Final = {"1": True, "true": True, "0": False, "false": False}
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

Choice = TypeVar("Choice", bound=StrEnum)


def flag(request: Request, name: str) -> bool:
    """`1`, `true`, `0`, `false`; false when it is not there. Raises BadRequest."""
    text = _one(request, name)
    if text is None:
        return False
    if text not in _FLAGS:
        raise _wrong(name, text, "1, true, 0 or false")
    return _FLAGS[text]


def choice(request: Request, name: str, kinds: type[Choice]) -> Choice | None:
    """A member of `kinds` by its value. Raises BadRequest."""
    text = _one(request, name)
    if text is None:
        return None
    try:
        return kinds(text)
    except ValueError as error:
        raise _wrong(name, text, "one of " + ", ".join(kinds)) from error


def moment(request: Request, name: str) -> datetime | None:
    """ISO 8601 with a time zone, or epoch milliseconds as `start_at` has them. Raises BadRequest."""
    text = _one(request, name)
    if text is None:
        return None
    try:
        if re.fullmatch(r"[0-9]{1,15}", text):
            return _EPOCH + timedelta(milliseconds=int(text))
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is None:
            raise ValueError
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        wanted = "a time such as 2026-01-31T10:00:00Z, or epoch milliseconds"
        raise _wrong(name, text, wanted) from error


def page_size(request: Request, name: str, default: int) -> int:
    """1 to 500. Raises BadRequest."""
    text = _one(request, name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise _wrong(name, text, f"a number from 1 to {LARGEST_PAGE}")
    return int(text)


def text(request: Request, name: str) -> str | None:
    """As it is. Raises BadRequest when it is there twice or holds a NUL character."""
    return _one(request, name)


def _one(request: Request, name: str) -> str | None:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise BadRequest(f"invalid {name} parameter: should be there once")
    if values and "\0" in values[0]:
        raise BadRequest(f"invalid {name} parameter: should not hold a NUL character")
    return values[0] if values else None


def _wrong(name: str, text: str, wanted: str) -> BadRequest:
    return BadRequest(f'invalid {name} parameter: "{text[:100]}": should be {wanted}')

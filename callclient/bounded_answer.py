"""Answers of a site are read up to a bound; of one that is refused, the status alone decides.

Whoever sends more than was asked for, packed or not, is not listened to.
"""

from __future__ import annotations

from typing import Final

import httpx

_REFUSAL_BYTES: Final = 64 << 10
"""Of the body of a refusal, which is read for the server's own text."""
_REASON_LENGTH: Final = 200


class AnswerTooLarge(Exception):
    """A success has a longer body than `most_bytes`."""

    def __init__(self, status: int, most_bytes: int) -> None:
        super().__init__(f"the answer has more than {most_bytes >> 20} MiB")
        self.status = status


async def read_answer(response: httpx.Response, *, most_bytes: int) -> httpx.Response:
    """`response` with its body, unpacked. Of a status from 300 on, no more than 64 KiB, and what came before
    the connection broke off or timed out: it is refused, whatever the body says.

    Raises:
        AnswerTooLarge: a success has more than `most_bytes`.
        httpx.HTTPError: a success does not arrive whole.
    """
    refused = response.status_code >= 300
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if refused and len(body) >= _REFUSAL_BYTES:
                del body[_REFUSAL_BYTES:]
                break
            if len(body) > most_bytes:
                raise AnswerTooLarge(response.status_code, most_bytes)
    except httpx.HTTPError:
        if not refused:
            raise
    headers = [pair for pair in response.headers.multi_items() if pair[0] != "content-encoding"]
    return httpx.Response(
        response.status_code, headers=headers, content=bytes(body), request=response.request
    )


def reason_of(response: httpx.Response) -> str:
    """The server's own text for a refusal, and not too much of it; empty when there is none."""
    try:
        value = response.json()
    except (ValueError, RecursionError):
        return response.text[:_REASON_LENGTH]
    message = value.get("message") if isinstance(value, dict) else None
    return str(message or "")[:_REASON_LENGTH]


def retry_after_s(response: httpx.Response) -> float | None:
    """In its form of seconds; the one with a date depends on two clocks, and is taken as not said."""
    text = response.headers.get("Retry-After", "").strip()
    return float(text) if text.isascii() and text.isdigit() else None

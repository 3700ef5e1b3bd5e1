"""What an `Authorization` header of the Basic scheme holds (RFC 7617)."""

from __future__ import annotations

import base64


def basic_credentials(authorization: str | None) -> tuple[str, str] | None:
    """Client id and key; None: there is no such header, or it is not base64 of UTF-8 with a colon in it."""
    if authorization is None or authorization[:6].lower() != "basic ":
        return None
    try:
        text = base64.b64decode(authorization[6:], validate=True).decode()
    except ValueError:  # not ASCII, not base64 or not UTF-8
        return None
    client_id, colon, key = text.partition(":")
    return (client_id, key) if colon else None

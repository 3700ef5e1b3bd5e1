"""`Authorization: Bearer …` (RFC 6750 section 2.1)."""

from __future__ import annotations

import hmac


def bearer_token(authorization: str | None) -> str:
    """The token of such a header; empty when it is no such header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_bearer_of(authorization: str | None, key: str) -> bool:
    """Whether that header carries `key`, told in constant time."""
    sent = bearer_token(authorization).encode("latin-1", "replace")
    return bool(key) and hmac.compare_digest(sent, key.encode("latin-1", "replace"))

"""`Authorization: Bearer …` (RFC 6750 section 2.1)."""

from __future__ import annotations


def bearer_token(authorization: str | None) -> str:
    """The token of such a header; empty when it is no such header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""

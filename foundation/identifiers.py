"""Random ids as Mattermost writes them."""

from __future__ import annotations

import base64
import uuid

_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_Z_BASE_32 = b"ybndrfg8ejkmcpqxot1uwisza345h769"
_TABLE = bytes.maketrans(_STANDARD, _Z_BASE_32)


def new_id() -> str:
    """26 characters: the z-base-32 of a random UUID (rtcd.md 1.5)."""
    return base64.b32encode(uuid.uuid4().bytes).rstrip(b"=").translate(_TABLE).decode()

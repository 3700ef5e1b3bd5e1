"""TURN servers and short-lived credentials for them (TURN REST API draft, rtcd.md 3.11).

Username is `<unix expiry>:<name>`, password the base64 of HMAC-SHA1 over it with the secret that the TURN
server knows too (coturn: `static-auth-secret`).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from typing import Final

from sfu.ice_settings import IceServer

_WEEK_MINUTES: Final = 7 * 24 * 60
_S_PER_MINUTE: Final = 60


class TurnError(ValueError):
    """Credentials cannot be made; the message names the value."""


def credentials(
    *, secret: str, name: str, expiration_minutes: int, now_s: float
) -> tuple[str, str]:
    """Username and password that work until `now_s` (since the epoch) plus `expiration_minutes`.

    Raises:
        TurnError: no secret, no name, or a lifetime that is not above 0 and at most a week.
    """
    if not secret:
        raise TurnError("invalid secret: should not be empty")
    if not name:
        raise TurnError("invalid username: should not be empty")
    if expiration_minutes <= 0:
        raise TurnError("invalid expiration: should be a positive number of minutes")
    if expiration_minutes > _WEEK_MINUTES:
        raise TurnError("invalid expiration: should be at most 1 week")
    username = f"{int(now_s) + expiration_minutes * _S_PER_MINUTE}:{name}"
    digest = hmac.digest(secret.encode(), username.encode(), "sha1")
    return username, base64.b64encode(digest).decode()


def turn_servers(
    servers: Sequence[IceServer],
    *,
    secret: str,
    expiration_minutes: int,
    session_id: str,
    now_s: float,
) -> list[IceServer]:
    """The TURN servers that a session can use, each with credentials.

    Those with credentials of their own are kept as they are; rtcd leaves them out unless the secret is set
    too (trap 32). Those without any get short-lived ones, or are left out when there is no secret.
    """
    usable = []
    for server in servers:
        if not server.is_turn:
            continue
        if server.username and server.credential:
            usable.append(server)
        elif secret:
            username, password = credentials(
                secret=secret,
                name=session_id,
                expiration_minutes=expiration_minutes,
                now_s=now_s,
            )
            usable.append(IceServer(server.urls, username, password))
    return usable

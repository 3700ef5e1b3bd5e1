"""What several routers ask of a request before they look at it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request

from clientauth.service import ClientAuth, Identity
from offloader.api.errors import BadRequest, Refused
from offloader.errors import JobNotFound
from offloader.models import JOB_ID

_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")


def client_of(auth: ClientAuth, *, may_register: bool) -> Callable[[Request], Awaitable[Identity]]:
    """A dependency: who sends the request. `may_register` on the reference's routes only."""

    async def client(request: Request) -> Identity:
        authorization = request.headers.get("authorization")
        return await auth.authenticate(authorization, may_register=may_register)

    return client


def admin_of(auth: ClientAuth) -> Callable[[Request], Awaitable[Identity]]:
    """A dependency: the admin; 403 for everybody else, 401 for who is nobody."""
    known = client_of(auth, may_register=False)

    async def admin(request: Request) -> Identity:
        identity = await known(request)
        if not identity.admin:
            raise Refused(403, "only the admin may do that")
        return identity

    return admin


async def known_id(job_id: str) -> str:
    """A dependency: a job ID of ours or of the reference's kubernetes mode. Raises JobNotFound."""
    if not JOB_ID.fullmatch(job_id):
        raise JobNotFound(job_id)
    return job_id


def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key` header. Raises BadRequest for one of no use."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        text = "should be 1 to 255 visible ASCII characters"
        raise BadRequest(f"invalid Idempotency-Key header: {text}")
    return key

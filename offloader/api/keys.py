"""The admin's routes about the secret keys: what is stored under which, and storing it anew."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from clientauth.service import ClientAuth, Identity
from offloader.api.deps import admin_of
from offloader.api.errors import json_document
from offloader.store.sql_keys import KeyUse, SqlKeyUse


def key_router(keys: SqlKeyUse, auth: ClientAuth) -> APIRouter:
    """`GET /admin/keys` and `POST /admin/keys/renew`: `{"keys": [{"id", "secrets"}], "unreadable", "renewed",
    "missing"}`, the newest key first."""
    router = APIRouter(prefix="/admin/keys")
    Admin = Annotated[Identity, Depends(admin_of(auth))]

    @router.get("")
    async def show(_admin: Admin) -> Response:
        return json_document(_document(await keys.uses()))

    @router.post("/renew")
    async def renew(_admin: Admin) -> Response:
        return json_document(_document(await keys.renew()))

    return router


def _document(use: KeyUse) -> dict[str, Any]:
    return {
        "keys": [{"id": key_id, "secrets": count} for key_id, count in use.keys],
        "unreadable": use.unreadable,
        "renewed": use.renewed,
        "missing": use.missing,
    }

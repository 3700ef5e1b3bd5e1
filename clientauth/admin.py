"""What the admin does with clients: list, add, give another key, forget."""

from __future__ import annotations

from collections.abc import Sequence

from clientauth.hashing import hash_key, in_pool
from clientauth.names import WRONG_NAME, may_be_named
from clientauth.service import MIN_KEY_LENGTH, AuthError, ClientAuth
from clientauth.store import ClientExists, ClientStore, ClientUnknown


class ClientAdmin:
    """Over the same store as `auth`. Whoever calls has checked that the admin asks.

    Raises AuthError wherever something cannot be done; its text says what would be right.
    """

    def __init__(self, *, store: ClientStore, auth: ClientAuth) -> None:
        self._store = store
        self._auth = auth

    async def ids(self) -> Sequence[str]:
        """Every client, sorted."""
        return await self._store.ids()

    async def add(self, client_id: str, key: str) -> None:
        """Register a client."""
        _check_id(client_id)
        _check_key(key)
        try:
            key_hash = await in_pool(lambda: hash_key(key))
            mark = self._auth.mark(client_id, key)
            former = self._auth.former_marks(client_id, key)
            await self._store.put(client_id, key_hash, registration=mark, former=former)
        except ClientExists:
            text = f"client {client_id} is registered already: rotate gives it another key"
            raise AuthError(409, text) from None

    async def rotate(self, client_id: str, key: str) -> None:
        """Give a client another key; the old one and its session end now, what it owns stays its own."""
        _check_key(key)
        try:
            key_hash = await in_pool(lambda: hash_key(key))
            mark = self._auth.mark(client_id, key)
            await self._store.replace(client_id, key_hash, registration=mark)
        except ClientUnknown:
            raise _unknown(client_id) from None
        await self._auth.end(client_id)

    async def revoke(self, client_id: str) -> None:
        """Forget a client and its session."""
        if await self._store.get(client_id) is None:
            raise _unknown(client_id)
        await self._store.delete(client_id)
        await self._auth.end(client_id)


def _check_id(client_id: str) -> None:
    if not may_be_named(client_id):
        raise AuthError(400, WRONG_NAME)
    if ":" in client_id:
        raise AuthError(
            400, "client id should have no colon: it ends the id in Basic authentication"
        )


def _check_key(key: str) -> None:
    if len(key) < MIN_KEY_LENGTH:
        raise AuthError(400, f"key should have at least {MIN_KEY_LENGTH} characters")


def _unknown(client_id: str) -> AuthError:
    return AuthError(404, unknown_client(client_id))


def unknown_client(client_id: str) -> str:
    """What an admin is told who names a client that is not there."""
    return f"no client {client_id}: see the list of clients"

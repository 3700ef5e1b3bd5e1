"""Who may do what: register, log in, authenticate a request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from clientauth.hashing import hash_key, verify_key
from clientauth.sessions import SessionCache, TokenError
from clientauth.store import ClientExists, ClientStore
from foundation.clock import Clock

MIN_KEY_LENGTH = 32
_VERIFIED_FOR_NS = 60_000_000_000
_VERIFIED_CAPACITY = 1024
_HASHING_AT_ONCE = 2
"""Each hash takes 19 MB and tens of milliseconds of one core; a flood of logins must not take them all."""


class AuthError(Exception):
    """The request is refused: HTTP `status` and the reference's text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request."""

    client_id: str
    """Empty for the admin."""
    admin: bool = False


class ClientAuth:
    """Registration and authentication over a store. Raises AuthError wherever a request is refused."""

    def __init__(
        self,
        *,
        store: ClientStore,
        sessions: SessionCache,
        clock: Clock,
        enable_admin: bool = False,
        admin_secret_key: str = "",
        allow_self_registration: bool = False,
        self_register_on_basic: bool = False,
    ) -> None:
        """`self_register_on_basic`: an unknown client's first Basic request registers it."""
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._enable_admin = enable_admin
        self._admin_secret_key = admin_secret_key
        self._allow_self_registration = allow_self_registration
        self._self_register_on_basic = self_register_on_basic
        self._verified: dict[str, tuple[bytes, int]] = {}
        self._salt = secrets.token_bytes(16)
        self._hashing = asyncio.Semaphore(_HASHING_AT_ONCE)

    async def authenticate(
        self, authorization: str | None, *, may_register: bool = True
    ) -> Identity:
        """Who sent this `Authorization` header.

        `may_register=False` for routes on which an unknown client is never registered.
        """
        if authorization is not None and authorization.startswith("Bearer "):
            try:
                return Identity(self._sessions.client_of(authorization.removeprefix("Bearer ")))
            except TokenError as error:
                raise AuthError(401, f"authentication failed: {error}") from None
        client_id, key = _basic_credentials(authorization)
        if self._is_admin_key(key):
            return Identity("", admin=True)
        if not client_id:
            raise AuthError(401, "authentication failed: unauthorized")
        if self._recently_verified(client_id, key):
            return Identity(client_id)
        await self._authenticate_client(client_id, key, may_register=may_register)
        self._remember(client_id, key)
        return Identity(client_id)

    async def register(self, client_id: str, key: str, *, authorization: str | None) -> None:
        """Add a client. Without self-registration any authenticated client may (rtcd.md 1.5)."""
        if not self._allow_self_registration:
            await self.authenticate(authorization, may_register=False)
        try:
            await self._register(client_id, key)
        except _RegistrationError as error:
            raise AuthError(400, f"registration failed: {error}") from None

    async def unregister(self, client_id: str, *, authorization: str | None) -> None:
        """Forget a client: the admin any, others themselves."""
        identity = await self.authenticate(authorization, may_register=False)
        if not self._enable_admin and not self._allow_self_registration:
            raise AuthError(403, "unregister not enabled")
        if not client_id:
            raise AuthError(400, "client id should not be empty")
        if not identity.admin and identity.client_id != client_id:
            raise AuthError(403, "client id not valid")
        if await self._store.get(client_id) is None:
            raise AuthError(400, "unregister failed: error: not found")
        await self._store.delete(client_id)
        self._sessions.end(client_id)
        self._verified.pop(client_id, None)

    async def login(self, client_id: str, key: str) -> str:
        """A bearer token for the client."""
        key_hash = await self._store.get(client_id) if client_id else None
        if key_hash is None:
            reason = "not found" if client_id else "empty key"
            raise AuthError(400, f"login failed: authentication failed: error: {reason}")
        if not await self._verify(key_hash, key):
            raise AuthError(400, "login failed: authentication failed")
        return self._sessions.create(client_id)

    async def _authenticate_client(self, client_id: str, key: str, *, may_register: bool) -> None:
        key_hash = await self._store.get(client_id)
        if key_hash is not None:
            if not await self._verify(key_hash, key):
                raise AuthError(401, "authentication failed")
            return
        if not (may_register and self._allow_self_registration and self._self_register_on_basic):
            raise AuthError(401, "authentication failed")
        try:
            await self._register(client_id, key)
        except _RegistrationError:
            # Two first requests at once: whoever lost the race is checked as a known client.
            key_hash = await self._store.get(client_id)
            if key_hash is None or not await self._verify(key_hash, key):
                raise AuthError(401, "unauthorized") from None

    async def _register(self, client_id: str, key: str) -> None:
        if not client_id:
            raise _RegistrationError("error: empty key")
        if len(key) < MIN_KEY_LENGTH:
            raise _RegistrationError("key not long enough")
        if await self._store.get(client_id) is not None:
            raise _RegistrationError("already registered")
        async with self._hashing:
            key_hash = await asyncio.to_thread(hash_key, key)
        try:
            await self._store.put(client_id, key_hash)
        except ClientExists:
            raise _RegistrationError("already registered") from None

    async def _verify(self, key_hash: str, key: str) -> bool:
        async with self._hashing:
            return await asyncio.to_thread(verify_key, key_hash, key)

    def _is_admin_key(self, key: str) -> bool:
        return (
            self._enable_admin
            and bool(self._admin_secret_key)
            and hmac.compare_digest(key.encode(), self._admin_secret_key.encode())
        )

    def _recently_verified(self, client_id: str, key: str) -> bool:
        known = self._verified.get(client_id)
        return (
            known is not None
            and self._clock.monotonic_ns() < known[1]
            and hmac.compare_digest(known[0], self._digest(key))
        )

    def _remember(self, client_id: str, key: str) -> None:
        if len(self._verified) >= _VERIFIED_CAPACITY:
            self._verified.pop(next(iter(self._verified)))
        self._verified[client_id] = (
            self._digest(key),
            self._clock.monotonic_ns() + _VERIFIED_FOR_NS,
        )

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._salt).digest()


class _RegistrationError(Exception):
    """Why a client cannot be registered; the reference's text."""


def _basic_credentials(authorization: str | None) -> tuple[str, str]:
    if authorization is None or not authorization.startswith("Basic "):
        raise AuthError(401, "authentication failed: invalid auth header")
    try:
        text = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except ValueError:  # not ASCII, not base64 or not UTF-8
        raise AuthError(401, "authentication failed: invalid auth header") from None
    client_id, colon, key = text.partition(":")
    if not colon:
        raise AuthError(401, "authentication failed: invalid auth header")
    return client_id, key

"""Who may do what: register, log in, authenticate a request."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from clientauth.hashing import hash_key, verify_key
from clientauth.sessions import SessionCache, TokenError
from clientauth.store import ClientExists, ClientStore
from clientauth.turns import HashingTurns, TooManyWaiting
from clientauth.verified import VerifiedKeys
from foundation.clock import Clock

MIN_KEY_LENGTH = 32
_HASHING_AT_ONCE = 2
"""Each hash takes 19 MB and tens of milliseconds of one core; a flood of logins must not take them all."""
_WAITING_EACH = 64
"""Logins of one address that wait for their hash: about a second's worth."""
_TOO_MANY = "too many logins from this address at once: try again in a few seconds"

T = TypeVar("T")


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
        local_admin_key: str = "",
    ) -> None:
        """`self_register_on_basic`: an unknown client's first Basic request registers it.

        `local_admin_key`: a random key of this process that makes the admin whatever the settings say;
        empty: there is none.
        """
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._enable_admin = enable_admin
        self._admin_keys = [admin_secret_key] if enable_admin else []
        self._admin_keys.append(local_admin_key)
        self._allow_self_registration = allow_self_registration
        self._self_register_on_basic = self_register_on_basic
        self._verified = VerifiedKeys(store=store, clock=clock)
        self._turns = HashingTurns(at_once=_HASHING_AT_ONCE, waiting_each=_WAITING_EACH)

    async def authenticate(
        self, authorization: str | None, *, may_register: bool = True
    ) -> Identity:
        """Who sent this `Authorization` header.

        `may_register=False` for routes on which an unknown client is never registered.
        """
        if authorization is not None and authorization.startswith("Bearer "):
            try:
                return Identity(
                    await self._sessions.client_of(authorization.removeprefix("Bearer "))
                )
            except TokenError as error:
                raise AuthError(401, f"authentication failed: {error}") from None
        client_id, key = _basic_credentials(authorization)
        if self._is_admin_key(key):
            return Identity("", admin=True)
        if not client_id:
            raise AuthError(401, "authentication failed: unauthorized")
        if not await self._verified.knows(client_id, key):
            key_hash = await self._authenticate_client(client_id, key, may_register=may_register)
            self._verified.remember(client_id, key, key_hash=key_hash)
        return Identity(client_id)

    async def check_may_register(self, authorization: str | None) -> None:
        """What `register` refuses before it looks at the body."""
        if not self._allow_self_registration:
            await self.authenticate(authorization, may_register=False)

    async def check_may_unregister(self, authorization: str | None) -> Identity:
        """What `unregister` refuses before it looks at the body."""
        if not self._enable_admin and not self._allow_self_registration:
            raise AuthError(403, "unregister not enabled")
        return await self.authenticate(authorization, may_register=False)

    async def register(self, client_id: str, key: str, *, authorization: str | None) -> None:
        """Add a client. Without self-registration any authenticated client may (rtcd.md 1.5)."""
        await self.check_may_register(authorization)
        try:
            await self._register(client_id, key)
        except _RegistrationError as error:
            raise AuthError(400, f"registration failed: {error}") from None

    async def unregister(self, client_id: str, *, authorization: str | None) -> None:
        """Forget a client: the admin any, others themselves."""
        identity = await self.check_may_unregister(authorization)
        if not client_id:
            raise AuthError(400, "client id should not be empty")
        if not identity.admin and identity.client_id != client_id:
            raise AuthError(403, "client id not valid")
        if await self._store.get(client_id) is None:
            raise AuthError(400, "unregister failed: error: not found")
        await self._store.delete(client_id)
        await self.end(client_id)

    async def end(self, client_id: str) -> None:
        """The client is gone, or has another key: nothing it was given counts any more."""
        await self._sessions.end(client_id)
        self._verified.forget(client_id)

    async def login(self, client_id: str, key: str) -> str:
        """A bearer token for the client."""
        self._check_room()
        key_hash = await self._store.get(client_id) if client_id else None
        if key_hash is None:
            reason = "not found" if client_id else "empty key"
            raise AuthError(400, f"login failed: authentication failed: error: {reason}")
        if not await self._verify(key_hash, key):
            raise AuthError(400, "login failed: authentication failed")
        return await self._sessions.create(client_id)

    async def _authenticate_client(self, client_id: str, key: str, *, may_register: bool) -> str:
        """The hash that the key belongs to."""
        may_register = (
            may_register and self._allow_self_registration and self._self_register_on_basic
        )
        if may_register and len(key) < MIN_KEY_LENGTH:
            # The reference tries to register first, so this is its answer to known clients too.
            raise AuthError(401, "unauthorized")
        self._check_room()
        key_hash = await self._store.get(client_id)
        if key_hash is not None:
            if not await self._verify(key_hash, key):
                raise AuthError(401, "authentication failed")
            return key_hash
        if not may_register:
            raise AuthError(401, "authentication failed")
        try:
            return await self._register(client_id, key)
        except _RegistrationError:
            # Two first requests at once: whoever lost the race is checked as a known client.
            key_hash = await self._store.get(client_id)
            if key_hash is None or not await self._verify(key_hash, key):
                raise AuthError(401, "unauthorized") from None
            return key_hash

    async def _register(self, client_id: str, key: str) -> str:
        """The hash that was stored."""
        if len(key) < MIN_KEY_LENGTH:
            raise _RegistrationError("key not long enough")
        if not client_id:
            raise _RegistrationError("error: empty key")
        if "\0" in client_id:
            raise _RegistrationError("client id should not hold a NUL character")
        if await self._store.get(client_id) is not None:
            raise _RegistrationError("already registered")
        key_hash = await self._slowly(lambda: hash_key(key))
        try:
            await self._store.put(client_id, key_hash)
        except ClientExists:
            raise _RegistrationError("already registered") from None
        return key_hash

    async def _verify(self, key_hash: str, key: str) -> bool:
        return await self._slowly(lambda: verify_key(key_hash, key))

    def _check_room(self) -> None:
        try:
            self._turns.check_room()
        except TooManyWaiting:
            raise AuthError(429, _TOO_MANY) from None

    async def _slowly(self, hashing: Callable[[], T]) -> T:
        """Hash in a thread when it is this address's turn."""
        try:
            async with self._turns.turn():
                return await asyncio.to_thread(hashing)
        except TooManyWaiting:
            raise AuthError(429, _TOO_MANY) from None

    def _is_admin_key(self, key: str) -> bool:
        return any(
            admin_key and hmac.compare_digest(key.encode(), admin_key.encode())
            for admin_key in self._admin_keys
        )


class _RegistrationError(Exception):
    """Why a client cannot be registered; the reference's text."""


def _basic_credentials(authorization: str | None) -> tuple[str, str]:
    if authorization is None or authorization[:6].lower() != "basic ":
        raise AuthError(401, "authentication failed: invalid auth header")
    try:
        text = base64.b64decode(authorization[6:], validate=True).decode()
    except ValueError:  # not ASCII, not base64 or not UTF-8
        raise AuthError(401, "authentication failed: invalid auth header") from None
    client_id, colon, key = text.partition(":")
    if not colon:
        raise AuthError(401, "authentication failed: invalid auth header")
    return client_id, key

"""Who may do what: register, log in, authenticate a request.

What a client owns belongs to its registration: id and key, of which `mark` makes a keyed hash that is stored
with both. So whoever registers the same name with another key is somebody else. The right key is known by its
mark at once, however many wrong ones wait for their slow hashes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

from clientauth.caller import caller
from clientauth.credentials import basic_credentials
from clientauth.failures import Failures
from clientauth.hashing import AT_ONCE, hash_key, in_pool, verify_key
from clientauth.names import WRONG_NAME, may_be_named
from clientauth.recent import RecentClients
from clientauth.registration_limits import RegistrationRoom, TooManyRegistrations
from clientauth.self_registration import SelfRegistration
from clientauth.sessions import SessionCache, TokenError
from clientauth.store import ClientExists, ClientStore, StoredClient
from clientauth.turns import PEER, HashingTurns, TooManyWaiting, source
from clientauth.verified import VerifiedKeys
from foundation.clock import Clock
from foundation.limited_lines import LimitedLines

MIN_KEY_LENGTH = 32
_WAITING_EACH = 64
"""Logins of one address that wait for their hash (about a second's worth), and wrong ones that wait for their
answer."""
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
    registration: str = ""
    """Mark of the client's registration: owns what carries the same."""


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
        mark: Callable[[str, str], str] | None = None,
        former_marks: Callable[[str, str], Sequence[str]] | None = None,
        narrowing: SelfRegistration | None = None,
        registrations: RegistrationRoom | None = None,
    ) -> None:
        """`self_register_on_basic`: an unknown client's first Basic request registers it.

        `local_admin_key`: a random key of this process that makes the admin whatever the settings say;
        empty: there is none.
        `mark`: a hash of client id and key that nobody can make without a secret of the service; None:
        nothing here belongs to registrations. `former_marks`: the same by older secrets, which count as well.
        `narrowing`: of self-registration. `registrations`: how many others than the admin may register; None:
        any number.
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
        self._recent = RecentClients(store=store, clock=clock)
        self._mark = mark
        self._former_marks = former_marks
        self._narrowing = narrowing or SelfRegistration()
        self._registrations = registrations
        self._refusals = LimitedLines("client.registration_refused", clock=clock)
        self._turns = HashingTurns(at_once=AT_ONCE, waiting_each=_WAITING_EACH)
        self._failures = Failures(clock=clock, slowed_each=_WAITING_EACH)

    @property
    def has_admin(self) -> bool:
        """Is there a key that makes somebody the admin?"""
        return any(self._admin_keys)

    def narrow(self, narrowing: SelfRegistration) -> None:
        """Whose self-registration is accepted from now on."""
        self._narrowing = narrowing

    async def authenticate(
        self, authorization: str | None, *, may_register: bool = True
    ) -> Identity:
        """Who sent this `Authorization` header.

        `may_register=False` for routes on which an unknown client is never registered.
        """
        identity = await self._identity(authorization, may_register=may_register)
        present = caller()
        present.client_id, present.admin = identity.client_id, identity.admin
        return identity

    async def _identity(self, authorization: str | None, *, may_register: bool) -> Identity:
        if authorization is not None and authorization.startswith("Bearer "):
            return await self._bearer(authorization.removeprefix("Bearer "))
        credentials = basic_credentials(authorization)
        if credentials is None:
            raise AuthError(401, "authentication failed: invalid auth header")
        client_id, key = credentials
        if self._is_admin_key(key):
            return Identity("", admin=True)
        if not client_id:
            raise AuthError(401, "authentication failed: unauthorized")
        client = await self._verified.client_of(client_id, key)
        if client is None:
            client = await self._authenticate_client(client_id, key, may_register=may_register)
            self._verified.remember(client_id, key, client=client)
        return Identity(client_id, registration=client.registration)

    async def check_admin_key(self, key: str) -> None:
        """For logins by the admin's key. The right one passes at once; a wrong one costs a hash in this
        address's turn, so that guessing is slow. Raises AuthError 401: it is wrong or there is none; 429."""
        if self._enable_admin and self._is_admin_key(key):
            caller().admin = True
            return
        self._check_room()
        await self._slowly(lambda: hash_key(key))
        raise await self._wrong(401, "authentication failed")

    def mark(self, client_id: str, key: str) -> str:
        """Of the registration of this id with this key; empty where nothing belongs to registrations."""
        return "" if self._mark is None else self._mark(client_id, key)

    def former_marks(self, client_id: str, key: str) -> Sequence[str]:
        """What `mark` would have been under older secrets of the service."""
        return () if self._former_marks is None else self._former_marks(client_id, key)

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
        by_itself = self._allow_self_registration and not self._sends_admin_key(authorization)
        refusal = by_itself and self._narrowing.why_refused(client_id, PEER.get())
        if refusal:
            self._tell_refusal(refusal)
            raise AuthError(403, f"registration failed: {refusal}")
        try:
            by_admin = self._sends_admin_key(authorization)
            await self._register(client_id, key, by_admin=by_admin)
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
        caller().subject = client_id
        await self._store.delete(client_id)
        await self.end(client_id)

    async def end(self, client_id: str) -> None:
        """The client is gone, or has another key: nothing it was given counts any more."""
        await self._sessions.end(client_id)
        self._verified.forget(client_id)
        self._recent.forget(client_id)

    async def login(self, client_id: str, key: str) -> str:
        """A bearer token for the client."""
        client = await self._find(client_id) if client_id else None
        if client is None:
            reason = "not found" if client_id else "empty key"
            raise await self._wrong(400, f"login failed: authentication failed: error: {reason}")
        if await self._verified_client(client_id, key, client) is None:
            caller().claimed = client_id
            raise await self._wrong(400, "login failed: authentication failed")
        caller().client_id = client_id
        return await self._sessions.create(client_id)

    async def _bearer(self, token: str) -> Identity:
        try:
            client_id = await self._sessions.client_of(token)
        except TokenError as error:
            raise AuthError(401, f"authentication failed: {error}") from None
        if self._mark is None:
            return Identity(client_id)
        client = await self._store.find(client_id)
        if client is None:  # gone between two looks
            raise AuthError(401, "authentication failed: token is invalid")
        return Identity(client_id, registration=client.registration)

    async def _authenticate_client(
        self, client_id: str, key: str, *, may_register: bool
    ) -> StoredClient:
        """The registration that the key belongs to."""
        may_register = (
            may_register and self._allow_self_registration and self._self_register_on_basic
        )
        if may_register and len(key) < MIN_KEY_LENGTH:
            # The reference tries to register first, so this is its answer to known clients too.
            raise await self._wrong(401, "unauthorized")
        found = await self._find(client_id)
        if found is not None:
            verified = await self._verified_client(client_id, key, found)
            if verified is None:
                caller().claimed = client_id
                raise await self._wrong(401, "authentication failed")
            return verified
        if not may_register:
            raise await self._wrong(401, "authentication failed")
        if not may_be_named(client_id):
            self._tell_refusal(WRONG_NAME)
            raise await self._wrong(401, f"unauthorized: {WRONG_NAME}")
        if refusal := self._narrowing.why_refused(client_id, PEER.get()):
            self._tell_refusal(refusal)
            raise await self._wrong(401, "unauthorized")
        try:
            return await self._register(client_id, key)
        except _RegistrationError:
            # Two first requests at once: whoever lost the race is checked as a known client.
            found = await self._store.find(client_id)
            known = found and await self._verified_client(client_id, key, found)
            if known is None:
                raise AuthError(401, "unauthorized") from None
            return known

    async def _register(self, client_id: str, key: str, *, by_admin: bool = False) -> StoredClient:
        """As it was stored."""
        if len(key) < MIN_KEY_LENGTH:
            raise _RegistrationError("key not long enough")
        if not client_id:
            raise _RegistrationError("error: empty key")
        if await self._store.get(client_id) is not None:
            raise _RegistrationError("already registered")
        if not may_be_named(client_id):
            raise _RegistrationError(WRONG_NAME)
        try:
            limits = None if by_admin else self._registrations
            async with limits.place() if limits else nullcontext():
                client = StoredClient(
                    await self._slowly(lambda: hash_key(key)), self.mark(client_id, key)
                )
                await self._store.put(
                    client_id,
                    client.key_hash,
                    registration=client.registration,
                    former=self.former_marks(client_id, key),
                )
        except TooManyRegistrations as error:
            self._tell_refusal(str(error))
            raise await self._wrong(429, f"registration failed: {error}") from None
        except ClientExists:
            raise _RegistrationError("already registered") from None
        self._recent.forget(client_id)
        present = caller()
        present.subject, present.registered = client_id, True
        return client

    async def _find(self, client_id: str) -> StoredClient | None:
        try:
            self._check_room()
        except AuthError:
            return await self._recent.find(client_id)
        return await self._store.find(client_id)

    async def _verified_client(
        self, client_id: str, key: str, client: StoredClient
    ) -> StoredClient | None:
        """`client` as it is stored now if the key is its own, else None."""
        mark = self.mark(client_id, key)
        for known in (mark, *self.former_marks(client_id, key)):
            if known and hmac.compare_digest(known, client.registration):
                return client
        self._check_room()
        if not await self._slowly(lambda: verify_key(client.key_hash, key)):
            return None
        if mark:  # registered when there were no marks, or under another secret of the service
            await self._store.settle(client_id, client, registration=mark)
        return StoredClient(client.key_hash, mark)

    async def _wrong(self, status: int, text: str) -> AuthError:
        """What answers a wrong key, when it is time to answer it."""
        try:
            self._failures.check_room()
        except TooManyWaiting:
            return AuthError(429, _TOO_MANY)
        await self._failures.slow()
        return AuthError(status, text)

    def _tell_refusal(self, cause: str) -> None:
        self._refusals.tell(source(), peer=PEER.get(), cause=cause)

    def _check_room(self) -> None:
        try:
            self._turns.check_room()
            self._failures.check_room()
        except TooManyWaiting:
            raise AuthError(429, _TOO_MANY) from None

    async def _slowly(self, hashing: Callable[[], T]) -> T:
        """Hash in the pool when it is this address's turn."""
        try:
            async with self._turns.turn():
                return await in_pool(hashing)
        except TooManyWaiting:
            raise AuthError(429, _TOO_MANY) from None

    def _sends_admin_key(self, authorization: str | None) -> bool:
        credentials = basic_credentials(authorization)
        return credentials is not None and self._is_admin_key(credentials[1])

    def _is_admin_key(self, key: str) -> bool:
        return any(
            admin_key and hmac.compare_digest(key.encode(), admin_key.encode())
            for admin_key in self._admin_keys
        )


class _RegistrationError(Exception):
    """Why a client cannot be registered; the reference's text."""

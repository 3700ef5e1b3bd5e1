"""Sessions over any store, and keys that were just verified."""

from __future__ import annotations

import base64

import pytest

from clientauth.hashing import hash_key
from clientauth.service import AuthError, ClientAuth, Identity
from clientauth.sessions import MemorySessionStore, SessionCache, TokenError
from clientauth.store import ClientUnknown, FileClientStore, MemoryClientStore, StoredClient
from clientauth.verified import VerifiedKeys
from foundation.clock import ManualClock

KEY = "k" * 32


def basic(client_id: str, key: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{key}".encode()).decode()


class Replicas:
    """Two services over one store of clients and one of sessions."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clients = MemoryClientStore()
        self.sessions = MemorySessionStore(clock=self.clock)
        self.one, self.two = (self._replica() for _ in range(2))

    def _replica(self) -> ClientAuth:
        cache = SessionCache(expiration_minutes=10, clock=self.clock, store=self.sessions)
        return ClientAuth(
            store=self.clients, sessions=cache, clock=self.clock, allow_self_registration=True
        )


async def test_a_token_of_one_replica_is_good_at_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Replicas()
    await replicas.one.register("c", KEY, authorization=None)
    token = await replicas.one.login("c", KEY)
    assert await replicas.two.authenticate(f"Bearer {token}") == Identity("c")
    newer = await replicas.two.login("c", KEY)
    with pytest.raises(AuthError, match="token is invalid"):
        await replicas.one.authenticate(f"Bearer {token}")
    await replicas.one.unregister("c", authorization=f"Bearer {newer}")
    with pytest.raises(AuthError, match="token is invalid"):
        await replicas.two.authenticate(f"Bearer {newer}")


async def test_only_hashes_of_tokens_are_stored() -> None:
    clock = ManualClock()
    store = MemorySessionStore(clock=clock)
    token = await SessionCache(expiration_minutes=1, clock=clock, store=store).create("c")
    assert token not in repr(vars(store))


async def test_an_expired_session_says_so_once_and_is_then_unknown() -> None:
    clock = ManualClock()
    cache = SessionCache(expiration_minutes=1, clock=clock)
    token = await cache.create("c")
    clock.advance(seconds=60)
    for text in ("session is expired", "token is invalid"):
        with pytest.raises(TokenError, match=text):
            await cache.client_of(token)


async def test_a_client_that_another_replica_unregistered_is_out_within_seconds() -> None:
    replicas = Replicas()
    await replicas.one.register("c", KEY, authorization=None)
    assert await replicas.two.authenticate(basic("c", KEY)) == Identity("c")
    await replicas.one.unregister("c", authorization=basic("c", KEY))
    with pytest.raises(AuthError):
        await replicas.one.authenticate(basic("c", KEY))
    replicas.clock.advance(seconds=2)
    with pytest.raises(AuthError):
        await replicas.two.authenticate(basic("c", KEY))


async def test_a_key_that_was_changed_elsewhere_is_out_within_seconds() -> None:
    replicas = Replicas()
    await replicas.one.register("c", KEY, authorization=None)
    await replicas.one.authenticate(basic("c", KEY))
    await replicas.clients.replace("c", hash_key("n" * 32))
    replicas.clock.advance(seconds=2)
    with pytest.raises(AuthError):
        await replicas.one.authenticate(basic("c", KEY))
    assert await replicas.one.authenticate(basic("c", "n" * 32)) == Identity("c")


CLIENT = StoredClient("hash")


class CountingStore(MemoryClientStore):
    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def find(self, client_id: str) -> StoredClient | None:
        self.looks += 1
        return await super().find(client_id)


async def test_a_verified_key_is_looked_up_every_two_seconds_only() -> None:
    clock, store = ManualClock(), CountingStore()
    await store.put("c", "hash")
    verified = VerifiedKeys(store=store, clock=clock)
    assert not await verified.client_of("c", KEY)
    verified.remember("c", KEY, client=CLIENT)
    for _ in range(100):
        assert await verified.client_of("c", KEY)
    assert store.looks == 0
    for _ in range(29):
        clock.advance(seconds=2)
        assert await verified.client_of("c", KEY)
    assert store.looks == 29
    clock.advance(seconds=2)
    assert not await verified.client_of("c", KEY), "a minute is over"


async def test_another_key_is_not_taken_for_the_verified_one() -> None:
    verified = VerifiedKeys(store=MemoryClientStore(), clock=ManualClock())
    verified.remember("c", KEY, client=CLIENT)
    assert not await verified.client_of("c", KEY + " ")
    assert not await verified.client_of("d", KEY)
    verified.forget("c")
    assert not await verified.client_of("c", KEY)


async def test_only_so_many_keys_are_remembered() -> None:
    verified = VerifiedKeys(store=MemoryClientStore(), clock=ManualClock())
    for number in range(1025):
        verified.remember(f"c{number}", KEY, client=CLIENT)
    assert not await verified.client_of("c0", KEY)
    assert await verified.client_of("c1024", KEY)


async def test_the_file_store_can_change_a_key_and_list(tmp_path) -> None:
    store = FileClientStore(tmp_path)
    with pytest.raises(ClientUnknown):
        await store.replace("c", "hash")
    for client_id in ("d", "c"):
        await store.put(client_id, "hash")
    await store.replace("c", "other")
    assert (await FileClientStore(tmp_path).get("c"), await store.ids()) == ("other", ["c", "d"])

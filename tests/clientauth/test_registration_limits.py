"""A flood of registrations meets a bound, and nobody who is registered does."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import pytest

from clientauth.admin import ClientAdmin
from clientauth.failures import FREE
from clientauth.registration_limits import WINDOW_NS, RegistrationLimits, RegistrationRoom
from clientauth.service import AuthError, ClientAuth, Identity
from clientauth.sessions import SessionCache
from clientauth.store import MemoryClientStore, StoredClient
from clientauth.turns import PEER
from foundation.clock import ManualClock

KEY = "k" * 32
ADMIN_KEY = "s" * 32


def basic(client_id: str, key: str = KEY) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{key}".encode()).decode()


class Replica:
    """A service with these limits; several may have one store."""

    def __init__(
        self,
        *,
        per_network: int | None = None,
        total: int | None = None,
        store: MemoryClientStore | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.store = store or MemoryClientStore()
        self.room = RegistrationRoom(
            store=self.store,
            clock=self.clock,
            limits=RegistrationLimits(per_network, total),
        )
        self.auth = ClientAuth(
            store=self.store,
            sessions=SessionCache(expiration_minutes=10, clock=self.clock),
            clock=self.clock,
            enable_admin=True,
            admin_secret_key=ADMIN_KEY,
            allow_self_registration=True,
            self_register_on_basic=True,
            registrations=self.room,
        )

    async def refusal(self, client_id: str, *, by: str = "request") -> str:
        """Why it is not registered, with 429; empty: it is."""
        try:
            if by == "request":
                await self.auth.authenticate(basic(client_id))
            else:
                await self.auth.register(client_id, KEY, authorization=None)
        except AuthError as error:
            if error.status != 429:
                raise
            return error.text
        return ""


@pytest.fixture(autouse=True)
def address() -> Iterator[None]:
    token = PEER.set("192.0.2.1")
    yield
    PEER.reset(token)


@pytest.mark.parametrize("by", ["request", "route"])
async def test_so_many_clients_of_a_network_register_themselves_within_an_hour(by: str) -> None:
    replica = Replica(per_network=2)
    assert not await replica.refusal("a", by=by)
    PEER.set("192.0.2.200")
    assert not await replica.refusal("b", by=by)
    refusal = await replica.refusal("c", by=by)
    assert "2 clients of its network" in refusal
    assert "offloader clients add" in refusal
    assert await replica.store.ids() == ["a", "b"]
    assert replica.room.refused == {"per_network": 1, "total": 0}
    PEER.set("198.51.100.1")
    assert not await replica.refusal("d", by=by)
    PEER.set("192.0.2.1")
    replica.clock.advance(seconds=WINDOW_NS / 1e9)
    assert not await replica.refusal("c", by=by)


async def test_a_network_of_ipv6_is_what_one_customer_has_to_itself() -> None:
    replica = Replica(per_network=1)
    PEER.set("2001:db8:1:1::1")
    assert not await replica.refusal("a")
    PEER.set("2001:db8:1:2::1")
    assert await replica.refusal("b")
    PEER.set("2001:db8:2:1::1")
    assert not await replica.refusal("b")


async def test_so_many_clients_are_registered_in_all_whichever_replica_has_let_them_in() -> None:
    replica = Replica(total=2)
    other = Replica(total=2, store=replica.store)
    assert not await replica.refusal("a")
    assert not await other.refusal("b")
    for each in (replica, other):
        assert "api.security.registration_limits.total" in await each.refusal("c")
    await replica.store.delete("a")
    assert not await other.refusal("c")


async def test_many_at_once_are_no_more_than_there_is_room_for() -> None:
    replica = Replica(total=3)
    refusals = await asyncio.gather(*(replica.refusal(f"client {n}") for n in range(3 + FREE)))
    assert len(await replica.store.ids()) == 3 == refusals.count("")


async def test_whoever_is_registered_passes_and_the_admin_adds_more() -> None:
    replica = Replica(per_network=1, total=1)
    assert not await replica.refusal("known")
    for _ in range(20):
        replica.clock.advance(seconds=61)
        assert await replica.refusal("stranger")
        assert await replica.auth.authenticate(basic("known")) == Identity("known")
    await replica.auth.register("by key", KEY, authorization=basic("", ADMIN_KEY))
    await ClientAdmin(store=replica.store, auth=replica.auth).add("by socket", KEY)
    assert not await replica.refusal("by key")
    assert not await replica.refusal("by socket")


async def test_what_was_not_stored_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(per_network=1, total=1)

    async def broken(*_: object, **__: object) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as patch:
        patch.setattr(replica.store, "put", broken)
        with pytest.raises(OSError, match="no disk"):
            await replica.auth.authenticate(basic("a"))
    assert not await replica.refusal("a")


async def test_refusals_cost_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(total=1)
    await replica.store.put("known", "hash")

    def hashing(_key: str) -> str:
        raise AssertionError("a refused registration was hashed")

    monkeypatch.setattr("clientauth.service.hash_key", hashing)
    assert await replica.refusal("stranger")
    assert await replica.store.find("known") == StoredClient("hash")

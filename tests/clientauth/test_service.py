"""Registration and authentication: the texts and codes that clients compare (rtcd.md 1.5)."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from pathlib import Path

import bcrypt
import pytest

from clientauth.hashing import hash_key, verify_key
from clientauth.self_registration import SelfRegistration
from clientauth.service import AuthError, ClientAuth, Identity
from clientauth.sessions import SessionCache
from clientauth.store import (
    ClientExists,
    ClientStore,
    FileClientStore,
    MemoryClientStore,
    StoredClient,
)
from clientauth.turns import PEER
from foundation.clock import ManualClock

KEY = "k" * 32
OTHER_KEY = "o" * 32


def basic(client_id: str, key: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{key}".encode()).decode()


class Service:
    """A ClientAuth with what a test wants to look at."""

    def __init__(self, **options: object) -> None:
        self.clock = ManualClock()
        self.store = MemoryClientStore()
        self.auth = ClientAuth(
            store=self.store,
            sessions=SessionCache(expiration_minutes=10, clock=self.clock),
            clock=self.clock,
            **options,
        )


async def refused(service: Service, header: str | None, **options: bool) -> tuple[int, str]:
    with pytest.raises(AuthError) as caught:
        await service.auth.authenticate(header, **options)
    return caught.value.status, caught.value.text


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, "authentication failed: invalid auth header"),
        ("", "authentication failed: invalid auth header"),
        ("Digest x", "authentication failed: invalid auth header"),
        ("basic !", "authentication failed: invalid auth header"),
        ("Basic !!!", "authentication failed: invalid auth header"),
        (basic("", KEY), "authentication failed: unauthorized"),
        (basic("nobody", KEY), "authentication failed"),
        ("Bearer nothing", "authentication failed: token is invalid"),
    ],
)
async def test_what_cannot_be_authenticated_is_401_with_the_text_that_clients_know(
    header: str | None, text: str
) -> None:
    assert await refused(Service(allow_self_registration=True), header) == (401, text)


async def test_a_wrong_key_is_refused_even_by_one_trailing_space() -> None:
    service = Service(allow_self_registration=True)
    await service.auth.register("c", KEY, authorization=None)
    assert await refused(service, basic("c", KEY + " ")) == (401, "authentication failed")
    assert await service.auth.authenticate(basic("c", KEY)) == Identity("c")


async def test_the_first_basic_request_of_an_unknown_client_registers_it() -> None:
    service = Service(allow_self_registration=True, self_register_on_basic=True)
    assert await service.auth.authenticate(basic("new", KEY)) == Identity("new")
    assert await refused(service, basic("new", OTHER_KEY)) == (401, "authentication failed")


async def test_a_short_key_does_not_register_itself() -> None:
    service = Service(allow_self_registration=True, self_register_on_basic=True)
    assert await refused(service, basic("new", "short")) == (401, "unauthorized")
    assert await service.store.get("new") is None


async def test_routes_that_never_register_do_not() -> None:
    service = Service(allow_self_registration=True, self_register_on_basic=True)
    assert (await refused(service, basic("new", KEY), may_register=False))[0] == 401


async def test_two_first_requests_at_once_register_one_client_and_both_pass() -> None:
    service = Service(allow_self_registration=True, self_register_on_basic=True)
    results = await asyncio.gather(
        *(service.auth.authenticate(basic("new", KEY)) for _ in range(4))
    )
    assert results == [Identity("new")] * 4


@pytest.mark.parametrize(
    ("client_id", "key", "text"),
    [
        ("c", "k" * 31, "registration failed: key not long enough"),
        ("taken", KEY, "registration failed: already registered"),
        ("", KEY, "registration failed: error: empty key"),
    ],
)
async def test_a_refused_registration_says_why(client_id: str, key: str, text: str) -> None:
    service = Service(allow_self_registration=True)
    await service.auth.register("taken", KEY, authorization=None)
    with pytest.raises(AuthError) as caught:
        await service.auth.register(client_id, key, authorization=None)
    assert (caught.value.status, caught.value.text) == (400, text)


async def test_without_self_registration_only_an_authenticated_client_registers() -> None:
    service = Service(enable_admin=True, admin_secret_key="admin-secret")
    with pytest.raises(AuthError) as caught:
        await service.auth.register("c", KEY, authorization=None)
    assert caught.value.status == 401
    await service.auth.register("c", KEY, authorization=basic("whoever", "admin-secret"))
    await service.auth.register("d", KEY, authorization=basic("c", KEY))


async def test_the_admin_is_the_admin_whatever_the_user_name() -> None:
    service = Service(enable_admin=True, admin_secret_key="admin-secret")
    assert await service.auth.authenticate(basic("x", "admin-secret")) == Identity("", admin=True)
    off = Service(enable_admin=False, admin_secret_key="admin-secret")
    assert (await refused(off, basic("x", "admin-secret")))[0] == 401


async def test_an_empty_admin_key_opens_nothing() -> None:
    service = Service(enable_admin=True, admin_secret_key="")
    assert (await refused(service, basic("x", "")))[0] == 401


@pytest.mark.parametrize(
    ("options", "who", "client_id", "expected"),
    [
        ({}, basic("c", KEY), "c", (403, "unregister not enabled")),
        (
            {"allow_self_registration": True},
            basic("c", KEY),
            "",
            (400, "client id should not be empty"),
        ),
        ({"allow_self_registration": True}, basic("c", KEY), "d", (403, "client id not valid")),
        (
            {"allow_self_registration": True},
            basic("c", "wrong"),
            "c",
            (401, "authentication failed"),
        ),
        ({"allow_self_registration": True}, basic("no", KEY), "no", (401, "authentication failed")),
        (
            {"enable_admin": True, "admin_secret_key": "admin-secret"},
            basic("", "admin-secret"),
            "no",
            (400, "unregister failed: error: not found"),
        ),
    ],
)
async def test_a_refused_unregistration_says_why(
    options: dict[str, object], who: str, client_id: str, expected: tuple[int, str]
) -> None:
    service = Service(**options)
    await service.store.put("c", hash_key(KEY))
    with pytest.raises(AuthError) as caught:
        await service.auth.unregister(client_id, authorization=who)
    assert (caught.value.status, caught.value.text) == expected


async def test_unregistering_ends_the_bearer_session() -> None:
    service = Service(allow_self_registration=True)
    await service.auth.register("c", KEY, authorization=None)
    token = await service.auth.login("c", KEY)
    assert await service.auth.authenticate(f"Bearer {token}") == Identity("c")
    await service.auth.unregister("c", authorization=f"Bearer {token}")
    assert (await refused(service, f"Bearer {token}"))[1] == (
        "authentication failed: token is invalid"
    )
    assert (await refused(service, basic("c", KEY)))[0] == 401


async def test_a_second_login_ends_the_first_token_and_tokens_expire() -> None:
    service = Service(allow_self_registration=True)
    await service.auth.register("c", KEY, authorization=None)
    first = await service.auth.login("c", KEY)
    second = await service.auth.login("c", KEY)
    assert (await refused(service, f"Bearer {first}"))[0] == 401
    service.clock.advance(seconds=601)
    assert (await refused(service, f"Bearer {second}"))[1] == (
        "authentication failed: session is expired"
    )


@pytest.mark.parametrize(
    ("client_id", "key", "text"),
    [
        ("c", "wrong", "login failed: authentication failed"),
        ("no", KEY, "login failed: authentication failed: error: not found"),
    ],
)
async def test_a_failed_login_is_400(client_id: str, key: str, text: str) -> None:
    service = Service(allow_self_registration=True)
    await service.auth.register("c", KEY, authorization=None)
    with pytest.raises(AuthError) as caught:
        await service.auth.login(client_id, key)
    assert (caught.value.status, caught.value.text) == (400, text)


async def test_a_key_that_was_verified_costs_no_second_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(allow_self_registration=True)
    await service.auth.register("c", KEY, authorization=None)
    calls: list[str] = []

    def counting(key_hash: str, key: str) -> bool:
        calls.append(key)
        return verify_key(key_hash, key)

    monkeypatch.setattr("clientauth.service.verify_key", counting)
    for _ in range(5):
        await service.auth.authenticate(basic("c", KEY))
    assert len(calls) == 1
    service.clock.advance(seconds=61)
    await service.auth.authenticate(basic("c", KEY))
    assert len(calls) == 2


def test_bcrypt_hashes_of_the_reference_are_accepted() -> None:
    old = bcrypt.hashpw(KEY.encode(), bcrypt.gensalt(4)).decode()
    assert verify_key(old, KEY)
    assert not verify_key(old, OTHER_KEY)
    assert not verify_key("nonsense", KEY)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ClientStore:
    return MemoryClientStore() if request.param == "memory" else FileClientStore(tmp_path / "db")


async def test_of_ten_concurrent_puts_exactly_one_wins(store: ClientStore) -> None:
    async def put(number: int) -> bool:
        try:
            await store.put("c", f"hash-{number}")
        except ClientExists:
            return False
        return True

    assert (await asyncio.gather(*(put(n) for n in range(10)))).count(True) == 1
    await store.delete("c")
    await store.delete("c")
    assert await store.get("c") is None


async def test_the_file_store_survives_reopening_and_is_private(tmp_path: Path) -> None:
    await FileClientStore(tmp_path).put("c", "hash")
    assert await FileClientStore(tmp_path).get("c") == "hash"
    assert (tmp_path / "clients.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.documents("a-file-of-clients-that-is-damaged", "a-file-of-clients-that-is-damaged/2")
async def test_a_damaged_client_file_is_named(tmp_path: Path, documented) -> None:
    for content, entry in (
        ("{", "a-file-of-clients-that-is-damaged"),
        ("[]", "a-file-of-clients-that-is-damaged/2"),
    ):
        (tmp_path / "clients.json").write_text(content)
        with pytest.raises(ValueError, match=r"clients\.json") as damaged:
            await FileClientStore(tmp_path).get("c")
        documented(entry, str(damaged.value))


def mark(client_id: str, key: str) -> str:
    return f"mark of {client_id} and {key}"


async def test_an_identity_carries_the_mark_of_its_registration() -> None:
    service = Service(allow_self_registration=True, self_register_on_basic=True, mark=mark)
    owner = Identity("c", registration=mark("c", KEY))
    assert await service.auth.authenticate(basic("c", KEY)) == owner
    token = await service.auth.login("c", KEY)
    assert await service.auth.authenticate(f"Bearer {token}") == owner
    await service.auth.unregister("c", authorization=basic("c", KEY))
    again = await service.auth.authenticate(basic("c", OTHER_KEY))
    assert again.registration == mark("c", OTHER_KEY)


async def test_a_client_from_before_the_marks_gets_its_own_with_the_first_right_key() -> None:
    service = Service(allow_self_registration=True, mark=mark)
    key_hash = hash_key(KEY)
    await service.store.put("c", key_hash)
    assert (await refused(service, basic("c", OTHER_KEY)))[0] == 401
    assert await service.store.find("c") == StoredClient(key_hash)
    assert (await service.auth.authenticate(basic("c", KEY))).registration == mark("c", KEY)
    assert await service.store.find("c") == StoredClient(key_hash, mark("c", KEY))


@pytest.mark.looptime
async def test_however_many_wrong_keys_come_from_an_address_the_right_one_passes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not remembered from before, and with as many hashes and answers waiting as may."""
    service = Service(
        allow_self_registration=True, enable_admin=True, admin_secret_key="s" * 32, mark=mark
    )
    await service.auth.register("c", KEY, authorization=None)
    hashing = asyncio.Event()

    async def slow_hash(_: object) -> bool:
        await hashing.wait()
        return False

    monkeypatch.setattr("clientauth.service.in_pool", slow_hash)
    flood = [
        asyncio.create_task(service.auth.authenticate(basic("c", f"{n}" * 32))) for n in range(500)
    ]
    await asyncio.sleep(0.1)
    told = [task.exception() for task in flood if task.done()]
    assert {error.status for error in told} == {429}
    assert len(flood) - len(told) == 66, "two hash, 64 wait"
    began_s = asyncio.get_running_loop().time()
    assert (await service.auth.authenticate(basic("c", KEY))).client_id == "c"
    assert await service.auth.login("c", KEY)
    await service.auth.check_admin_key("s" * 32)
    assert (await service.auth.authenticate(basic("x", "s" * 32))).admin
    assert asyncio.get_running_loop().time() == began_s
    hashing.set()
    assert {error.status for error in await asyncio.gather(*flood, return_exceptions=True)} == {
        *(401, 429)
    }


@pytest.mark.looptime
async def test_wrong_keys_are_answered_ever_later_to_their_source_alone() -> None:
    service = Service(allow_self_registration=True, mark=mark)

    async def answered_after_s(address: str) -> float:
        PEER.set(address)
        began_s = asyncio.get_running_loop().time()
        assert (await refused(service, basic("nobody", KEY)))[0] == 401
        return asyncio.get_running_loop().time() - began_s

    waits = [await answered_after_s("2001:db8::1") for _ in range(16)]
    assert waits == pytest.approx([0.0] * 10 + [0.25, 0.5, 1, 2, 4, 4])
    assert await answered_after_s("2001:db8::2") == pytest.approx(4), "of the same /64"
    assert await answered_after_s("2001:db8:0:1::1") == 0
    assert await answered_after_s("192.0.2.1") == 0
    service.clock.advance(seconds=60)
    assert await answered_after_s("2001:db8::1") == 0, "a minute without is forgiven"


@pytest.mark.looptime
async def test_so_many_answers_to_wrong_keys_wait_and_no_more() -> None:
    service = Service(allow_self_registration=True, mark=mark)
    flood = [
        asyncio.create_task(service.auth.authenticate(basic("nobody", KEY))) for _ in range(1000)
    ]
    await asyncio.sleep(0.01)
    assert sum(not task.done() for task in flood) == 64
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert not service.auth._failures._slowed


@pytest.mark.looptime
async def test_a_flood_reads_what_is_known_of_a_client_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(allow_self_registration=True, mark=mark)
    await service.auth.register("c", KEY, authorization=None)
    flood = [
        asyncio.create_task(service.auth.authenticate(basic("nobody", KEY))) for _ in range(100)
    ]
    await asyncio.sleep(0.01)
    looks: list[str] = []
    find = service.store.find

    async def counting(client_id: str) -> StoredClient | None:
        looks.append(client_id)
        return await find(client_id)

    monkeypatch.setattr(service.store, "find", counting)
    for _ in range(2):
        for _ in range(100):
            assert (await refused(service, basic("c", OTHER_KEY)))[0] == 429
        service.clock.advance(seconds=1)
    assert looks == ["c", "c"]
    await service.auth.end("c")
    assert await service.auth.login("c", KEY)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


NARROWED = SelfRegistration(
    frozenset({"plugin"}), (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
)


@pytest.mark.parametrize(
    ("client_id", "address", "cause"),
    [
        ("plugin", "10.1.2.3", ""),
        ("plugin", "::ffff:10.1.2.3", ""),
        ("plugin", "fd00::5", ""),
        ("stranger", "10.1.2.3", "it is not among api.security.allowed_clients"),
        ("plugin", "10.2.0.1", "its address is not in api.security.allowed_networks"),
        ("plugin", "", "its address is not in api.security.allowed_networks"),
    ],
)
async def test_only_named_clients_of_named_networks_register_themselves(
    client_id: str, address: str, cause: str
) -> None:
    service = Service(
        **{"allow_self_registration": True, "self_register_on_basic": True, "narrowing": NARROWED},
        **{"enable_admin": True, "admin_secret_key": "s" * 32},
    )
    PEER.set(address)
    if not cause:
        assert await service.auth.authenticate(basic(client_id, KEY)) == Identity(client_id)
        PEER.set("192.0.2.1")  # who is registered stays so, wherever it is
        assert await service.auth.authenticate(basic(client_id, KEY)) == Identity(client_id)
        return
    assert await refused(service, basic(client_id, KEY)) == (401, "unauthorized")
    with pytest.raises(AuthError, match=cause) as caught:
        await service.auth.register(client_id, KEY, authorization=None)
    assert caught.value.status == 403
    assert await service.store.find(client_id) is None
    await service.auth.register(client_id, KEY, authorization=basic("admin", "s" * 32))
    assert await service.auth.authenticate(basic(client_id, KEY)) == Identity(client_id)

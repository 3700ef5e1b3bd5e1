"""What a new client may be called, whichever way it comes; who is registered already keeps its name."""

from __future__ import annotations

import base64

import bcrypt
import pytest
import structlog

from clientauth.admin import ClientAdmin
from clientauth.names import WRONG_NAME, may_be_named
from clientauth.service import AuthError, ClientAuth, Identity
from clientauth.sessions import SessionCache
from clientauth.store import MemoryClientStore
from foundation.clock import ManualClock

KEY = "k" * 32
ADMIN_KEY = "a" * 32
BAD = {
    "line end": "a\r\nb",
    "escape": "a\x1b[31mb",
    "override of direction": "a\u202eb",
    "NUL": "a\0b",
    "delete": "a\x7fb",
    "no-break space": "a\u00a0b",
    "line separator": "a\u2028b",
    "zero-width joiner": "a\u200db",
    "space before": " mal",
    "space behind": "mal ",
    "only a space": " ",
    "257 characters": "x" * 257,
}
GOOD = {
    "the plugin's": "g5tw1nodfp8jdgy5yfaeb1ky9h",
    "spaces inside": "Mattermost of the team",
    "other letters": "Mattermost für Łódź 会議 🎙",
    "punctuation": "a/../b?c=%00&d#e'\"<f>",
    "256 characters": "x" * 256,
}


def basic(client_id: str, key: str = KEY) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{key}".encode()).decode()


class Service:
    """A service on which clients register themselves, with an admin."""

    def __init__(self, *, self_registration: bool = True) -> None:
        self.store, clock = MemoryClientStore(), ManualClock()
        self.auth = ClientAuth(
            store=self.store,
            sessions=SessionCache(expiration_minutes=10, clock=clock),
            clock=clock,
            enable_admin=True,
            admin_secret_key=ADMIN_KEY,
            allow_self_registration=self_registration,
            self_register_on_basic=True,
        )
        self.admin = ClientAdmin(store=self.store, auth=self.auth)


def quick_hash(key: str) -> str:
    """The cheapest that is accepted."""
    return bcrypt.hashpw(key.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    for module in ("service", "admin"):
        monkeypatch.setattr(f"clientauth.{module}.hash_key", quick_hash)
    return Service()


def named(names: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client_id", [pytest.param(n, id=k) for k, n in names.items()])


@named(BAD)
async def test_a_first_basic_request_by_a_bad_name_registers_nobody_and_says_why(
    service: Service, client_id: str
) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(AuthError) as caught:
        await service.auth.authenticate(basic(client_id))
    assert (caught.value.status, caught.value.text) == (401, f"unauthorized: {WRONG_NAME}")
    assert await service.store.ids() == []
    assert [line["event"] for line in lines] == ["client.registration_refused"]
    assert client_id not in lines[0].values(), "a bad name is not in the log, either"


@named(BAD)
async def test_nobody_is_registered_by_a_bad_name_in_a_body(
    service: Service, client_id: str
) -> None:
    for authorization in (None, basic("whoever", ADMIN_KEY)):
        with pytest.raises(AuthError) as caught:
            await service.auth.register(client_id, KEY, authorization=authorization)
        text = f"registration failed: {WRONG_NAME}"
        assert (caught.value.status, caught.value.text) == (400, text)
    with pytest.raises(AuthError) as caught:
        await service.admin.add(client_id, KEY)
    assert (caught.value.status, caught.value.text) == (400, WRONG_NAME)
    assert await service.store.ids() == []


@named(GOOD)
async def test_every_other_name_registers_itself_either_way(
    service: Service, client_id: str
) -> None:
    assert await service.auth.authenticate(basic(client_id)) == Identity(client_id)
    await service.store.delete(client_id)
    await service.auth.end(client_id)
    await service.auth.register(client_id, KEY, authorization=None)
    assert await service.store.ids() == [client_id]


@named({name: text for name, text in BAD.items() if name != "NUL"})
async def test_who_is_registered_by_such_a_name_keeps_it(service: Service, client_id: str) -> None:
    await service.store.put(client_id, quick_hash(KEY))
    assert await service.auth.authenticate(basic(client_id)) == Identity(client_id)
    token = await service.auth.login(client_id, KEY)
    assert await service.auth.authenticate(f"Bearer {token}") == Identity(client_id)
    with pytest.raises(AuthError, match=r"^registration failed: already registered$"):
        await service.auth.register(client_id, KEY, authorization=None)
    await service.admin.rotate(client_id, "o" * 32)
    assert await service.auth.authenticate(basic(client_id, "o" * 32)) == Identity(client_id)
    await service.auth.unregister(client_id, authorization=basic(client_id, "o" * 32))
    assert await service.store.ids() == []


async def test_what_the_reference_refuses_first_is_still_refused_first(service: Service) -> None:
    for authorization, text in (
        (basic(" mal", "short"), "unauthorized"),
        (basic("", KEY), "authentication failed: unauthorized"),
    ):
        with pytest.raises(AuthError) as caught:
            await service.auth.authenticate(authorization)
        assert (caught.value.status, caught.value.text) == (401, text)
    for client_id, key, text in (
        (" mal", "short", "registration failed: key not long enough"),
        ("", KEY, "registration failed: error: empty key"),
    ):
        with pytest.raises(AuthError) as caught:
            await service.auth.register(client_id, key, authorization=None)
        assert (caught.value.status, caught.value.text) == (400, text)
    with pytest.raises(AuthError) as caught:
        await service.auth.authenticate(basic(" mal"), may_register=False)
    assert (caught.value.status, caught.value.text) == (401, "authentication failed")
    closed = Service(self_registration=False)
    with pytest.raises(AuthError) as caught:
        await closed.auth.authenticate(basic(" mal"))
    assert (caught.value.status, caught.value.text) == (401, "authentication failed")


def test_a_lone_surrogate_is_no_name() -> None:
    assert not may_be_named("a\ud800b")

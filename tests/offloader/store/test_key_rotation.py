"""Secret keys are changed while replicas and workers run: nothing that is stored or under way is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from clientauth.service import ClientAuth
from clientauth.sessions import SessionCache
from foundation.clock import SystemClock
from offloader.backends.remote.wire import DoorKey, door_key, is_door_key, seal, unseal
from offloader.errors import StoreError
from offloader.registration_mark import former_marks, registration_mark
from offloader.reload_parts import SecretKeyPart
from offloader.store.key_place import KeyPlace
from offloader.store.secret_key import MOST_KEYS, Cipher, keys_in
from offloader.store.stores import Stores, open_stores

OLD = "the old key of more than 32 characters"
NEW = "the new key of more than 32 characters"
SITE = "https://site"
VARIABLE = "OFFLOADER_SECRET_KEY"


@pytest.fixture(autouse=True)
def _a_store_of_this_release(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "store.db")


def opened(directory: Path, *keys: str):
    environ = {VARIABLE: ",".join(keys)}
    return open_stores(str(directory / "store.db"), environ=environ, state_dir=directory)


async def fill(stores: Stores, *jobs: str) -> None:
    for job in jobs:
        await stores.secrets.put_secret(job, "client", f"https://{job}", f"token of {job}")
        await stores.secrets.put_variables(job, {"API_KEY": f"speech of {job}"})


def test_one_key_is_what_it_was_and_several_stand_between_commas_or_line_ends() -> None:
    assert keys_in(f" {OLD}\n") == (OLD,)
    assert keys_in(f"{NEW},{OLD}") == keys_in(f"{NEW}\r\n\n{OLD}\n") == (NEW, OLD)


A = "a" * 64
B = "b" * 40
AS_ONE = (f"{B}\n", f" {B}", f"{B},", "a sentence, with commas, as the key", f"{A}\nabc==\n")
"""What releases that knew one key alone took for it."""


@pytest.mark.parametrize("text", AS_ONE)
def test_a_variable_that_was_one_key_is_that_key_still(tmp_path: Path, text: str) -> None:
    before, now = Cipher(text), KeyPlace({VARIABLE: text}, tmp_path / "key").cipher()
    assert [key.id for key in now.keys] == [key.id for key in before.keys]
    assert door_key(now) == door_key(before), "workers of the release before understand it"


@pytest.mark.parametrize("text", [*AS_ONE, f"{A},{B}", f"{A}\n{A}\n"])
@pytest.mark.parametrize("in_front", ["", f"{NEW},"])
def test_what_was_sealed_by_one_text_is_opened_whatever_is_read_there(
    tmp_path: Path, text: str, in_front: str
) -> None:
    if in_front and "sentence" in text:
        with pytest.raises(StoreError, match="key 2 of 4: 10 characters: should be at least 32"):
            KeyPlace({VARIABLE: in_front + text}, tmp_path / "key").cipher()
        return
    before = Cipher(text)
    sealed = seal(before, {"token": "hush"}, context=("launch", "j1"))
    place = KeyPlace({VARIABLE: in_front + text}, tmp_path / "key")
    now = place.cipher()
    assert unseal(now, sealed, context=("launch", "j1")) == {"token": "hush"}
    assert is_door_key(now, door_key(before))
    assert registration_mark(before, "c", "k") in (
        registration_mark(now, "c", "k"),
        *former_marks(now, "c", "k"),
    )


def test_the_end_of_a_line_in_a_secret_makes_no_other_key(tmp_path: Path) -> None:
    with_end, without = (
        KeyPlace({VARIABLE: text}, tmp_path / "key").cipher() for text in (f"{OLD}\n", OLD)
    )
    for ours, theirs in ((with_end, without), (without, with_end)):
        sealed = seal(ours, {"a": 1}, context=("launch", "j1"))
        assert unseal(theirs, sealed, context=("launch", "j1")) == {"a": 1}
        assert is_door_key(theirs, door_key(ours))


async def test_a_key_that_counts_as_several_now_can_go(tmp_path: Path) -> None:
    whole = f"{A},{B}"
    async with opened(tmp_path, OLD) as stores:
        stores.cipher.use((whole,))
        await fill(stores, "a")
    async with opened(tmp_path, NEW, whole) as stores:
        assert await stores.secrets.secret("a") == "token of a"
        assert (Cipher(whole).keys[0].id, 2) in (await stores.keys.uses()).keys
        assert (await stores.keys.renew()).renewed == 2
        assert len((await stores.keys.uses()).keys) == 3
    async with opened(tmp_path, NEW) as stores:
        assert await stores.secrets.secret("a") == "token of a"


def test_a_key_of_several_lines_is_written_into_no_file_that_would_tear_it(tmp_path: Path) -> None:
    place = KeyPlace({}, tmp_path / "key")
    place.file.write_text(f"{A}\nabc==\n")
    with pytest.raises(OSError, match="Invalid argument"):
        place.write((NEW, *place.read()))
    assert place.file.read_text() == f"{A}\nabc==\n"


def test_a_pruned_key_opens_nothing_more(tmp_path: Path) -> None:
    place = KeyPlace({}, tmp_path / "key")
    place.file.write_text(f"{NEW}\n{OLD}\n")
    cipher = place.cipher()
    place.write((NEW,))
    SecretKeyPart(place, cipher).load().commit()
    for former in (OLD, f"{OLD}\n", f"{NEW}\n{OLD}"):
        assert not is_door_key(cipher, door_key(Cipher(former)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n,\n", marks=pytest.mark.documents("secret-keys-that-are-none")),
        pytest.param(f"{NEW},short", marks=pytest.mark.documents("secret-keys-that-are-none/2")),
        pytest.param(
            "\n".join([NEW] * (MOST_KEYS + 1)),
            marks=pytest.mark.documents("secret-keys-that-are-none/3"),
        ),
    ],
)
def test_a_list_of_keys_that_cannot_be_is_refused_with_the_reason(
    text: str, documented: Any
) -> None:
    with pytest.raises(ValueError, match="should be at") as refused:
        keys_in(text)
    documented.marked(str(refused.value))


@pytest.mark.documents("secret-keys-that-are-none/4")
def test_a_key_file_that_is_no_text_is_named(tmp_path: Path, documented: Any) -> None:
    (tmp_path / "key").write_bytes(b"\xff" * 40)
    with pytest.raises(StoreError) as refused:
        KeyPlace({}, tmp_path / "key").read()
    documented("secret-keys-that-are-none/4", str(refused.value))


def test_what_earlier_releases_encrypted_is_opened_by_its_key_wherever_it_stands() -> None:
    frozen = json.loads((Path(__file__).parent / "sealed_by_earlier_releases.json").read_text())
    for keys in ((frozen["key"],), (NEW, frozen["key"]), (frozen["key"], NEW)):
        cipher = Cipher(*keys)
        token = bytes.fromhex(frozen["token"])
        assert cipher.decrypt(token, context=frozen["context"]) == "token-of-a-bot-session"
        assert unseal(cipher, frozen["sealed"], context=("launch", "j1")) == {"a": 1}
        assert is_door_key(cipher, frozen["door_key"])
        marks = (
            registration_mark(cipher, "client", "k" * 32),
            *former_marks(cipher, "client", "k" * 32),
        )
        assert frozen["mark"] in marks
    assert Cipher(NEW).decrypt(bytes.fromhex(frozen["token"]), context=frozen["context"]) is None


async def test_replicas_with_and_without_the_newest_key_share_a_store(tmp_path: Path) -> None:
    async with opened(tmp_path, OLD) as old, opened(tmp_path, NEW, OLD) as both:
        await fill(old, "a")
        assert await both.secrets.secret("a") == "token of a"
        assert await both.secrets.variables("a") == {"API_KEY": "speech of a"}
        await fill(both, "b")
        with structlog.testing.capture_logs() as lines:
            assert await old.secrets.secret("b") is None, "it counts as absent, and nothing breaks"
            missing = await old.keys.check()
            await old.keys.check()
        newest = both.cipher.keys[0].id
        assert missing == newest
        told = [line for line in lines if line["event"] == "secrets.newest_key_missing"]
        assert [(line["wanted"], line["log_level"]) for line in told] == [(newest, "error")]
        old.cipher.use((NEW, OLD))
        assert await old.keys.check() == ""
        assert await old.secrets.secret("b") == "token of b"


async def test_an_old_key_can_go_when_everything_is_stored_under_the_newest(tmp_path: Path) -> None:
    async with opened(tmp_path, OLD) as stores:
        await fill(stores, *(f"j{number}" for number in range(7)))
        stores.cipher.use((NEW, OLD))
        await fill(stores, "n")
        newest, older = (key.id for key in stores.cipher.keys)
        use = await stores.keys.uses()
        assert (use.keys, use.unreadable) == ([(newest, 2), (older, 14)], 0)
        renewed = await stores.keys.renew()
        assert (renewed.keys, renewed.renewed) == ([(newest, 16), (older, 0)], 14)
    async with opened(tmp_path, NEW) as stores:
        assert await stores.secrets.secret("j6") == "token of j6"
        assert await stores.secrets.variables("j6") == {"API_KEY": "speech of j6"}
        assert (await stores.keys.renew()).renewed == 0


async def test_secrets_of_a_lost_key_are_counted_and_left_as_they_are(tmp_path: Path) -> None:
    async with opened(tmp_path, OLD) as stores:
        await fill(stores, "a")

    def stored() -> list[bytes]:
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            return [row[0] for row in connection.execute("SELECT ciphertext FROM job_secrets")]

    before = stored()
    async with opened(tmp_path, NEW) as stores:
        assert await stores.keys.check() == Cipher(OLD).keys[0].id
        use = await stores.keys.renew()
        assert (use.unreadable, use.renewed, use.missing) == (2, 0, ""), "the lost one is forgotten"
    assert stored() == before


async def test_a_secret_that_is_put_while_others_are_renewed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, OLD) as stores:
        await fill(stores, "a")
        stores.cipher.use((NEW, OLD))
        page = stores.keys._page

        async def then_another_is_put(table, column, after):
            rows = await page(table, column, after)
            if rows and table.name == "job_variables":
                await stores.secrets.put_variables("a", {"API_KEY": "fresh"})
            return rows

        monkeypatch.setattr(stores.keys, "_page", then_another_is_put)
        await stores.keys.renew()
        assert await stores.secrets.variables("a") == {"API_KEY": "fresh"}


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [((NEW, OLD), (OLD,)), ((OLD,), (NEW, OLD)), ((NEW, OLD), (NEW,)), ((NEW,), (NEW, OLD))],
)
def test_service_and_workers_understand_each_other_with_one_key_in_common(
    sender: tuple[str, ...], receiver: tuple[str, ...]
) -> None:
    ours, theirs = Cipher(*sender), Cipher(*receiver)
    sealed = seal(ours, {"token": "hush"}, context=("launch", "j1"))
    assert unseal(theirs, sealed, context=("launch", "j1")) == {"token": "hush"}
    assert unseal(theirs, sealed, context=("launch", "j2")) is None
    assert is_door_key(theirs, door_key(ours))


@pytest.mark.parametrize("token", ["", ".", "x.y", "ключ", "a" * 10_000])
def test_a_wrong_door_key_opens_no_door(token: str) -> None:
    assert not is_door_key(Cipher(NEW, OLD), token)
    assert not is_door_key(Cipher(NEW, OLD), door_key(Cipher("x" * 32)))


async def test_the_next_request_shows_the_door_key_of_the_keys_of_that_moment() -> None:
    cipher, shown = Cipher(OLD), []

    def answer(request: httpx.Request) -> httpx.Response:
        shown.append(request.headers["authorization"])
        return httpx.Response(200)

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), auth=DoorKey(cipher)
    ) as http:
        await http.get("http://worker")
        cipher.use((NEW, OLD))
        await http.get("http://worker")
    assert shown == [f"Bearer {door_key(Cipher(OLD))}", f"Bearer {door_key(Cipher(NEW, OLD))}"]


def auth_of(stores: Stores) -> ClientAuth:
    clock = SystemClock()
    return ClientAuth(
        store=stores.clients,
        sessions=SessionCache(expiration_minutes=60, clock=clock, store=stores.sessions),
        clock=clock,
        allow_self_registration=True,
        mark=lambda client_id, key: registration_mark(stores.cipher, client_id, key),
        former_marks=lambda client_id, key: former_marks(stores.cipher, client_id, key),
    )


async def test_a_clients_registration_outlasts_the_change_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> bool:
        raise AssertionError("its mark was not known: a slow hash was needed")

    key = "k" * 32
    async with opened(tmp_path, OLD) as stores:
        await auth_of(stores).register("client", key, authorization=None)
        registered = await stores.clients.find("client")
        stores.cipher.use((NEW, OLD))
        with monkeypatch.context() as patch:
            patch.setattr("clientauth.service.verify_key", slow)
            await auth_of(stores).login("client", key)
        assert await stores.clients.find("client") == registered, "it owns what it owned"
        # Registered anew with the same key under the new one, it has what the old mark had.
        assert registered is not None
        await stores.secrets.put_secret(
            "j", "client", SITE, "hush", registration=registered.registration
        )
        await stores.clients.delete("client")
        await auth_of(stores).register("client", key, authorization=None)
        anew = registration_mark(stores.cipher, "client", key)
        assert await stores.secrets.newest_secret("client", SITE, registration=anew) == "hush"
        stores.cipher.use((NEW,))
        await auth_of(stores).login("client", key)


def test_the_key_file_is_replaced_whole_and_stays_its_owners_alone(tmp_path: Path) -> None:
    place = KeyPlace({}, tmp_path / "key")
    with pytest.raises(StoreError, match="No such file"):
        place.read()
    place.file.write_text(f"{OLD}\n")
    place.write((NEW, OLD))
    assert place.read() == (NEW, OLD)
    assert place.file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"key", "store.db"}

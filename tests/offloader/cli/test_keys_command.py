"""`offloader keys …`: a key is changed while the service runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from offloader.store.key_place import KeyPlace
from offloader.store.secret_key import SecretKey
from offloader.store.sql_keys import KeyUse, SqlKeyUse


@pytest.fixture
async def key_file(served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one of the running service, which the commands find by the same settings."""
    monkeypatch.setenv("STORE_DATASOURCE", str(tmp_path / "store.db"))
    return tmp_path / "store.db.key"


async def test_a_key_is_added_taken_over_and_the_old_one_pruned(
    served: Any, key_file: Path
) -> None:
    await served.running.create_job()
    [old] = KeyPlace({}, key_file).read()
    added = await served.run("keys", "add", "--json")
    keys = KeyPlace({}, key_file).read()
    assert keys == (keys[0], old)
    assert added.json["id"] == SecretKey(keys[0]).id
    assert not any(key in added.out for key in keys)

    refused = await served.run("keys", "add")
    assert (refused.code, "does not hold the keys" in refused.err) == (1, True), "not taken over"
    served.running.offloader.live.cipher.use(keys)  # as the service does when the file has changed

    listed = (await served.run("keys", "list")).out
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [
        [SecretKey(keys[0]).id, "0"],
        [SecretKey(old).id, "1"],
    ]
    assert "needed" in listed
    pruned = await served.run("keys", "prune")
    assert pruned.code == 0, pruned.err
    assert "stored anew under the newest: 1" in pruned.out
    assert KeyPlace({}, key_file).read() == keys[:1]
    assert "not needed any more" in (await served.run("keys", "list")).out


async def test_a_key_that_others_have_and_this_service_lacks_is_named(
    served: Any, key_file: Path
) -> None:
    [old] = KeyPlace({}, key_file).read()
    cipher = served.running.offloader.live.cipher
    cipher.use(("n" * 32, old))
    assert (await served.run("keys", "renew")).code == 0
    cipher.use((old,))
    listed = (await served.run("keys", "list")).out
    assert (
        f"note: key {SecretKey('n' * 32).id}, which other replicas write with, is missing" in listed
    )


@pytest.mark.documents("secret-keys-in-the-environment")
async def test_keys_of_the_environment_are_left_to_who_set_them(
    served: Any, key_file: Path, monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    monkeypatch.setenv("OFFLOADER_SECRET_KEY", "e" * 32)
    refused = await served.run("keys", "add")
    assert refused.code == 1
    documented("secret-keys-in-the-environment", refused.err)


@pytest.mark.documents("a-key-file-that-the-service-does-not-use")
async def test_a_file_that_is_not_the_services_is_left_alone(
    served: Any, key_file: Path, documented: Any
) -> None:
    KeyPlace({}, key_file).write(("o" * 32,))
    for command in ("add", "prune"):
        refused = await served.run("keys", command)
        assert refused.code == 1
        documented("a-key-file-that-the-service-does-not-use", refused.err)
    assert KeyPlace({}, key_file).read() == ("o" * 32,)


@pytest.mark.documents(
    "a-key-file-that-cannot-be-changed",
    "a-key-file-that-cannot-be-changed/2",
    "too-many-secret-keys",
)
async def test_a_key_file_that_cannot_be_changed_is_named(
    served: Any, key_file: Path, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [str(number) * 32 for number in range(8)]
    KeyPlace({}, key_file).write(keys)
    served.running.offloader.live.cipher.use(keys)
    documented("too-many-secret-keys", (await served.run("keys", "add")).err)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(KeyPlace, "write", full)
        served.running.offloader.live.cipher.use(keys[:1])
        documented("a-key-file-that-cannot-be-changed/2", (await served.run("keys", "prune")).err)
    os.unlink(key_file)
    documented("a-key-file-that-cannot-be-changed", (await served.run("keys", "add")).err)


@pytest.mark.documents("secrets-that-are-not-under-the-newest-key-yet")
async def test_the_old_key_stays_while_another_replica_writes_with_it(
    served: Any, key_file: Path, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old] = KeyPlace({}, key_file).read()
    keys = ("n" * 32, old)
    KeyPlace({}, key_file).write(keys)
    live = served.running.offloader.live
    live.cipher.use(keys)
    await served.running.create_job()
    renew = SqlKeyUse.renew

    async def and_then_another_puts_one(self: SqlKeyUse) -> KeyUse:
        await renew(self)
        live.cipher.use((old,))
        await served.running.create_job(call="c2", post="p2")
        live.cipher.use(keys)
        return await self.uses()

    monkeypatch.setattr(SqlKeyUse, "renew", and_then_another_puts_one)
    refused = await served.run("keys", "prune")
    assert refused.code == 1
    documented("secrets-that-are-not-under-the-newest-key-yet", refused.err)
    assert KeyPlace({}, key_file).read() == keys

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from offloader.errors import StoreError
from offloader.store.key_place import load_cipher
from offloader.store.secret_key import Cipher
from offloader.store.stores import Stores, open_stores

KEY = "an environment's key of 32 characters"
TOKEN = "token-of-a-bot-session"


def opened(directory: Path, **environ: str):
    return open_stores(str(directory / "store.db"), environ=environ, state_dir=directory)


async def put(stores: Stores) -> None:
    await stores.secrets.put_secret("j1", "client", "https://site", TOKEN)


def _files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def test_a_token_is_nowhere_on_disk_in_the_clear(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await put(stores)
        assert await stores.secrets.secret("j1") == TOKEN
        assert TOKEN.encode() not in _files(tmp_path)
    assert TOKEN.encode() not in _files(tmp_path)


async def test_the_key_file_is_the_owners_only_and_is_found_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await put(stores)
    key_file = tmp_path / "store.db.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    key_file.chmod(0o644)
    async with opened(tmp_path) as stores:
        assert await stores.secrets.secret("j1") == TOKEN
    assert key_file.stat().st_mode & 0o777 == 0o600


async def test_a_key_of_the_environment_needs_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path, OFFLOADER_SECRET_KEY=KEY) as stores:
        await put(stores)
    async with opened(tmp_path, OFFLOADER_SECRET_KEY=KEY) as stores:
        assert await stores.secrets.secret("j1") == TOKEN
    assert not (tmp_path / "store.db.key").exists()


async def test_under_another_key_a_token_counts_as_absent_and_is_told_of(tmp_path: Path) -> None:
    async with opened(tmp_path, OFFLOADER_SECRET_KEY=KEY) as stores:
        await put(stores)
    async with opened(tmp_path, OFFLOADER_SECRET_KEY=KEY[::-1]) as stores:
        with structlog.testing.capture_logs() as lines:
            assert await stores.secrets.secret("j1") is None
            assert await stores.secrets.newest_secret("client", "https://site") is None
        await stores.secrets.put_secret("j2", "client", "https://site", "fresh")
        assert await stores.secrets.newest_secret("client", "https://site") == "fresh"
    assert {(line["event"], line["log_level"]) for line in lines} == {
        ("secrets.unreadable", "warning")
    }


async def test_a_token_moved_to_another_job_cannot_be_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await put(stores)
        await stores.secrets.put_secret("j2", "other", "https://site", "theirs")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute(
            "UPDATE job_secrets SET ciphertext = (SELECT ciphertext FROM job_secrets WHERE job_id = 'j1') "
            "WHERE job_id = 'j2'"
        )
        connection.commit()
    async with opened(tmp_path) as stores:
        assert await stores.secrets.secret("j2") is None
        assert await stores.secrets.secret("j1") == TOKEN


async def test_the_token_of_a_forgotten_job_stays_while_it_is_the_newest(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await put(stores)
        await stores.jobs.delete("j1")
        assert await stores.secrets.newest_secret("client", "https://site") == TOKEN
        await stores.secrets.put_secret("j2", "client", "https://site", "newer")
        assert await stores.secrets.secret("j1") is None, "the newer one took its place"
        await stores.secrets.put_secret("j3", "client", "https://else", "elsewhere")
        await stores.jobs.delete("j3")
        assert await stores.secrets.secret("j3") == "elsewhere"


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"OFFLOADER_SECRET_KEY: 5 characters: should be at least"):
        load_cipher({"OFFLOADER_SECRET_KEY": "short"}, key_file=tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 64])
def test_a_key_file_that_is_no_key_is_told_of_and_kept(tmp_path: Path, content: bytes) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(content)
    with structlog.testing.capture_logs() as lines:
        cipher = load_cipher({}, key_file=key_file)
    assert [line["event"] for line in lines] == ["secrets.no_key_file"]
    assert key_file.read_bytes() == content
    assert cipher.decrypt(cipher.encrypt("x", context=["a"]), context=["a"]) == "x"


def test_a_place_for_no_key_file_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as lines:
        load_cipher({}, key_file=tmp_path / "file" / "key")
    assert [line["event"] for line in lines] == ["secrets.no_key_file"]


def test_what_was_encrypted_twice_looks_different_and_cannot_be_changed() -> None:
    cipher = Cipher(KEY)
    first, second = (cipher.encrypt("x", context=["a", "b"]) for _ in range(2))
    assert first != second
    assert cipher.decrypt(first, context=["ab", ""]) is None
    for index in range(len(first)):
        changed = first[:index] + bytes([first[index] ^ 1]) + first[index + 1 :]
        assert cipher.decrypt(changed, context=["a", "b"]) is None
    for size in range(len(first)):
        assert cipher.decrypt(first[:size], context=["a", "b"]) is None

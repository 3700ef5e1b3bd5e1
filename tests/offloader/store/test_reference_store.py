"""The reference's own store beside ours: read, imported once, never touched."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import bcrypt
import pytest
import structlog

from clientauth.hashing import verify_key
from offloader.store.bitcask import read_bitcask
from offloader.store.stores import open_stores

KEY = "k" * 32
HASH = "$2a$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"


def record(key: str, value: str, *, expiry: int | None = 0) -> bytes:
    """As version 1 writes it; `expiry` None: as earlier versions did."""
    data = key.encode() + value.encode()
    head = struct.pack(">IQ", len(key.encode()), len(value.encode()))
    tail = struct.pack(">I", zlib.crc32(value.encode()))
    return head + data + tail + (b"" if expiry is None else struct.pack(">Q", expiry))


def written(directory: Path, *files: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    for number, content in enumerate(files):
        (directory / f"{number:09}.data").write_bytes(content)
    for name in ("config.json", "index", "lock", "meta.json", "ttl_index"):
        (directory / name).write_bytes(b"{}")
    return directory


def state_of(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.iterdir()
        if not path.name.startswith("offloader.db")
    }


async def clients_in(directory: Path) -> list[str]:
    async with open_stores(str(directory), environ={}, state_dir=directory) as stores:
        return list(await stores.clients.ids())


def test_the_layout_is_that_of_the_library() -> None:
    """The digest of the file that its version 1.0.2 wrote for the same calls."""
    content = b"".join(
        [
            record("alice", HASH),
            record("gone", HASH),
            record("job_1", '{"id":"1"}'),
            record("gone", ""),
            record("bob", HASH),
        ]
    )
    assert hashlib.sha256(content).hexdigest() == (
        "59b5b9e1ee8c0936d9d5265efa2bdfa08d79e42666cb138725aca15be6cf781e"
    )


@pytest.mark.parametrize("expiry", [0, None])
def test_the_newest_record_counts_over_all_files(tmp_path: Path, expiry: int | None) -> None:
    def write(key: str, value: str) -> bytes:
        return record(key, value, expiry=expiry)

    written(
        tmp_path,
        write("a", "1") + write("b", "1") + write("c", "1"),
        write("b", "") + write("a", "2"),
        b"",
    )
    content = read_bitcask(tmp_path, now_s=1000)
    assert (content.values, content.problems) == ({b"a": b"2", b"c": b"1"}, [])


@pytest.mark.parametrize("expiry", [0, None])
def test_a_single_record_is_read_in_either_form(tmp_path: Path, expiry: int | None) -> None:
    content = read_bitcask(written(tmp_path, record("a", "1", expiry=expiry)), now_s=1000)
    assert (content.values, content.problems) == ({b"a": b"1"}, [])


def test_what_has_expired_is_gone(tmp_path: Path) -> None:
    written(tmp_path, record("a", "1", expiry=1000) + record("b", "1", expiry=1001))
    assert read_bitcask(tmp_path, now_s=1000).values == {b"b": b"1"}


def test_a_file_is_read_up_to_its_damage(tmp_path: Path) -> None:
    whole = record("a", "1") + record("b", "1") + record("c", "1")
    size = len(whole) // 3
    for cut in range(size, len(whole)):
        content = read_bitcask(written(tmp_path, whole[:cut]), now_s=0)
        assert list(content.values) == [b"a", b"b"][: cut // size]
        assert bool(content.problems) == (cut % size != 0)
    flipped = bytearray(whole)
    flipped[size + 13] ^= 1  # the value of b
    content = read_bitcask(written(tmp_path, bytes(flipped)), now_s=0)
    assert content.values == {b"a": b"1"}
    assert content.problems == ["000000000.data: no record at byte 26 of 78"]


async def test_its_clients_can_go_on_and_its_files_stay_as_they_are(tmp_path: Path) -> None:
    old = bcrypt.hashpw(KEY.encode(), bcrypt.gensalt(4)).decode()
    job = record("job_abc", '{"id":"abc"}')
    directory = written(tmp_path / "db", record("plugin", old) + job + record("ü", HASH))
    before = state_of(directory)
    with structlog.testing.capture_logs() as lines:
        async with open_stores(str(directory), environ={}, state_dir=tmp_path) as stores:
            assert list(await stores.clients.ids()) == ["plugin", "ü"]
            assert verify_key(await stores.clients.get("plugin") or "", KEY)
    assert state_of(directory) == before
    (line,) = [line for line in lines if line["event"] == "store.reference_clients_imported"]
    assert (line["found"], line["imported"]) == (2, 2)


async def test_they_are_imported_once_and_known_clients_win(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir()
    async with open_stores(str(directory), environ={}, state_dir=tmp_path) as stores:
        await stores.clients.put("known", "ours")
    written(directory, record("known", HASH) + record("new", HASH))
    async with open_stores(str(directory), environ={}, state_dir=tmp_path) as stores:
        assert await stores.clients.get("known") == "ours"
        assert await stores.clients.get("new") == HASH
        await stores.clients.delete("new")
    assert await clients_in(directory) == ["known"]


async def test_a_damaged_store_is_told_of_and_gives_what_it_has(tmp_path: Path) -> None:
    directory = written(tmp_path / "db", record("a", HASH) + b"\xff" * 40)
    with structlog.testing.capture_logs() as lines:
        assert await clients_in(directory) == ["a"]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "store.reference_damaged"
    ]


async def test_what_is_no_client_is_not_imported(tmp_path: Path) -> None:
    short = HASH[:-1]
    records = [record("a", short), record("b", "x" + HASH), record("c\0", HASH), record("d", HASH)]
    assert await clients_in(written(tmp_path / "db", b"".join(records))) == ["d"]

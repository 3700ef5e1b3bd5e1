"""Backups are made of a store in use and restored into one that is not, of either kind."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from offloader.errors import StoreError
from offloader.models import Job, JobSpec, JobState, JobType, OutboxEntry, Publication
from offloader.store import backup
from offloader.store.key_place import KeyPlace
from offloader.store.migrate import HEAD
from offloader.store.schema import job_to_row, jobs
from offloader.store.stores import Stores, open_stores

KEY = "k" * 40
JOB = Job(
    id="q1w2e3r4t5z6",
    client_id="plugin",
    spec=JobSpec(JobType.RECORDING, "recorder", 3600, {"site_url": "http://mm.example"}),
    created_at=datetime(2026, 11, 1, 8, 0, tzinfo=UTC),
    state=JobState.FINISHED,
    stopped_at=datetime(2026, 11, 1, 9, 0, tzinfo=UTC),
    unpublished=True,
    outbox=OutboxEntry(Publication.WAITING, attempts=2, detail="d"),
)
Open = Callable[[str], AbstractAsyncContextManager[Stores]]


@pytest.fixture
def key(tmp_path: Path) -> KeyPlace:
    file = tmp_path / "store.db.key"
    file.write_text(KEY)
    return KeyPlace({}, file)


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_one(source: str) -> AsyncIterator[Stores]:
        environ = {"OFFLOADER_SECRET_KEY": KEY}
        async with open_stores(source, environ=environ, state_dir=tmp_path) as stores:
            yield stores

    return open_one


async def fill(stores: Stores) -> None:
    async with stores.database.write() as connection:
        await connection.execute(insert(jobs).values(job_to_row(JOB)))
    await stores.clients.put("plugin", "hash")
    await stores.secrets.put_secret(JOB.id, "plugin", "http://mm.example", "t" * 26)


async def assert_filled(stores: Stores) -> None:
    assert await stores.jobs.get(JOB.id) == JOB
    assert await stores.clients.get("plugin") == "hash"
    assert await stores.secrets.secret(JOB.id) == "t" * 26
    # What comes next gets the next number.
    await stores.secrets.put_secret("q1w2e3r4t5z9", "plugin", "http://mm.example", "u" * 26)
    assert await stores.secrets.newest_secret("plugin", "http://mm.example") == "u" * 26


def source_of(kind: str, tmp_path: Path, request: pytest.FixtureRequest, *, name: str) -> str:
    if kind == "sqlite":
        return str(tmp_path / f"{name}.db")
    return str(request.getfixturevalue("postgres").new_database())


@pytest.mark.parametrize(
    ("made_of", "restored_to"),
    [
        ("sqlite", "sqlite"),
        pytest.param("sqlite", "postgres", marks=pytest.mark.slow),
        pytest.param("postgres", "sqlite", marks=pytest.mark.slow),
    ],
)
async def test_what_a_store_in_use_holds_is_there_again_where_its_backup_is_restored(
    made_of: str,
    restored_to: str,
    tmp_path: Path,
    key: KeyPlace,
    opened: Open,
    request: pytest.FixtureRequest,
) -> None:
    source = source_of(made_of, tmp_path, request, name="one")
    target = source_of(restored_to, tmp_path, request, name="other")
    file = tmp_path / "backup.tar"
    async with opened(source) as stores:
        await fill(stores)
        manifest = await backup.take(source, file, key=None)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (manifest.schema, set(manifest.files)) == (HEAD, {"offloader.db"})
    async with opened(target) as stores:
        await stores.clients.put("replaced", "hash")
    done = await backup.restore(target, file, key=key)
    assert (done.schema, done.key) == (HEAD, "absent")
    async with opened(target) as stores:
        await assert_filled(stores)
        assert await stores.clients.ids() == ["plugin"]
        if restored_to == "postgres":
            query = text(f'SELECT id FROM "{done.replaced.removeprefix("schema ")}".clients')
            async with stores.database.read() as connection:
                assert (await connection.execute(query)).scalars().all() == ["replaced"]
    if restored_to == "sqlite":
        with closing(sqlite3.connect(done.replaced)) as connection:
            assert connection.execute("SELECT id FROM clients").fetchall() == [("replaced",)]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.documents("a-store-in-use-is-not-replaced")
async def test_under_a_running_service_no_file_is_replaced(
    tmp_path: Path, key: KeyPlace, opened: Open, documented
) -> None:
    source = str(tmp_path / "store.db")
    documented("a-store-in-use-is-not-replaced", await refused_in_use(source, key, opened))


@pytest.mark.slow
@pytest.mark.documents("a-servers-store-in-use-is-not-replaced")
async def test_under_a_running_service_nothing_on_a_server_is_replaced(
    key: KeyPlace, opened: Open, request: pytest.FixtureRequest, documented
) -> None:
    source = request.getfixturevalue("postgres").new_database()
    documented("a-servers-store-in-use-is-not-replaced", await refused_in_use(source, key, opened))


async def refused_in_use(source: str, key: KeyPlace, opened: Open) -> str:
    file = key.file.with_name("backup.tar")
    async with opened(source) as stores:
        await fill(stores)
        await backup.take(source, file, key=None)
        with pytest.raises(StoreError, match="in use") as refused:
            await backup.restore(source, file, key=key)
        await assert_filled(stores)
    return str(refused.value)


async def test_the_copy_from_before_a_migration_can_be_restored(
    tmp_path: Path, key: KeyPlace, opened: Open
) -> None:
    file = tmp_path / "store.db.schema-0006"
    stores_dir = Path(__file__).parents[2] / "fixtures" / "store"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((stores_dir / "schema_0006.sql").read_text())
    done = await backup.restore(str(tmp_path / "store.db"), file, key=key)
    assert done == backup.Restored(schema="0006", replaced="", key="absent")
    async with opened(str(tmp_path / "store.db")) as stores:
        assert await stores.jobs.get("q1w2e3r4t5z7") is not None


async def test_with_its_key_a_backup_brings_the_tokens_back_too(
    tmp_path: Path, key: KeyPlace, opened: Open
) -> None:
    source, file = str(tmp_path / "store.db"), tmp_path / "backup.tar"
    async with opened(source) as stores:
        await fill(stores)
    await backup.take(source, file, key=key)
    key.file.write_text("another key that opens nothing of it here")
    assert backup.examine_backup(file, key=key).problems == ()
    done = await backup.restore(source, file, key=key)
    assert (done.key, key.file.read_text()) == ("restored", KEY)
    assert stat.S_IMODE(key.file.stat().st_mode) == 0o600
    kept = [name for name in os.listdir(tmp_path) if name.startswith("store.db.key.replaced-")]
    assert len(kept) == 1
    async with opened(source) as stores:
        await assert_filled(stores)


def spoilt(file: Path, target: Path, *, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive `file` again, after `change` of its members."""
    with tarfile.open(file) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]  # plain files all
    change(members)
    with tarfile.open(target, "w") as archive:
        for name, content in members.items():
            place = target.with_name("member")
            place.write_bytes(content)
            archive.add(place, name)
    return target


def flip(members: dict[str, bytes]) -> None:
    content = bytearray(members["offloader.db"])
    content[len(content) // 2] ^= 1
    members["offloader.db"] = bytes(content)


def later_format(members: dict[str, bytes]) -> None:
    document = json.loads(members["manifest.json"])
    members["manifest.json"] = json.dumps({**document, "format": 2, "release": "v9.0.0"}).encode()


def no_manifest(members: dict[str, bytes]) -> None:
    del members["manifest.json"]


def no_database(members: dict[str, bytes]) -> None:
    document = json.loads(members["manifest.json"])
    members["manifest.json"] = json.dumps({**document, "files": {}}).encode()


def odd_manifest(members: dict[str, bytes]) -> None:
    members["manifest.json"] = b"[]"


CHANGES = {
    "a-backup-that-was-changed": flip,
    "a-backup-of-a-later-release": later_format,
    "a-backup-without-its-manifest": no_manifest,
    "a-backup-without-its-database": no_database,
    "a-backup-whose-manifest-is-none": odd_manifest,
}


@pytest.mark.documents(
    "a-backup-that-was-changed",
    "a-backup-of-a-later-release",
    "a-backup-without-its-manifest",
    "a-backup-without-its-database",
    "a-backup-whose-manifest-is-none",
    "a-backup-that-is-none",
    "a-backup-of-a-later-schema",
)
async def test_what_is_no_sound_backup_of_this_release_replaces_nothing(
    tmp_path: Path, key: KeyPlace, opened: Open, documented
) -> None:
    source, file = str(tmp_path / "store.db"), tmp_path / "backup.tar"
    async with opened(source) as stores:
        await fill(stores)
    await backup.take(source, file, key=None)
    cases = {
        entry: spoilt(file, tmp_path / f"{entry}.tar", change=change)
        for entry, change in CHANGES.items()
    }
    cases["a-backup-that-is-none"] = tmp_path / "none.tar"
    cases["a-backup-that-is-none"].write_bytes(b"nothing of the kind" * 99)
    later = cases["a-backup-of-a-later-schema"] = tmp_path / "later.db"
    with (
        closing(sqlite3.connect(source)) as reading,
        closing(sqlite3.connect(later)) as connection,
    ):
        reading.backup(connection)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    for entry, case in cases.items():
        with pytest.raises(StoreError) as refused:
            await backup.restore(source, case, key=key)
        documented(entry, str(refused.value))
    async with opened(source) as stores:
        await assert_filled(stores)


@pytest.mark.documents("a-backup-that-cannot-be-restored")
async def test_a_plain_file_that_holds_nothing_of_ours_replaces_nothing(
    tmp_path: Path, key: KeyPlace, documented
) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE somebody_s (x)")
    with pytest.raises(StoreError) as refused:
        await backup.restore(str(tmp_path / "store.db"), other, key=key)
    documented("a-backup-that-cannot-be-restored", str(refused.value))
    assert not (tmp_path / "store.db").exists()


@pytest.mark.documents("a-backup-where-a-file-is-already", "a-backup-of-no-store")
async def test_a_backup_overwrites_nothing_and_makes_no_store(tmp_path: Path, documented) -> None:
    file = tmp_path / "backup.tar"
    with pytest.raises(StoreError) as refused:
        await backup.take(str(tmp_path / "store.db"), file, key=None)
    documented("a-backup-of-no-store", str(refused.value))
    assert os.listdir(tmp_path) == []
    file.write_text("an earlier one")
    with pytest.raises(StoreError) as refused:
        await backup.take(str(tmp_path / "store.db"), file, key=None)
    documented("a-backup-where-a-file-is-already", str(refused.value))
    assert file.read_text() == "an earlier one"


@pytest.mark.slow
@pytest.mark.documents("a-backup-by-the-wrong-release")
async def test_a_server_s_store_of_a_later_release_is_left_to_that_release(
    tmp_path: Path, opened: Open, request: pytest.FixtureRequest, documented
) -> None:
    source = source_of("postgres", tmp_path, request, name="one")
    async with opened(source) as stores, stores.database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError) as refused:
        await backup.take(source, tmp_path / "backup.tar", key=None)
    documented("a-backup-by-the-wrong-release", str(refused.value))

"""Step `store`: whether the database can be used, is whole, and lies where it lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from offloader.doctor import store as doctor_store
from offloader.doctor.examination import examine
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context
from offloader.doctor.store import look
from offloader.doctor.store_server import judge_rights, judge_room
from offloader.store.database import open_database
from offloader.store.migrate import HEAD

Examined = Callable[..., Context]
One = Callable[[Sequence[Finding], str], Finding]
Codes = Callable[[Sequence[Finding]], list[str]]


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a store of this release."""
    path = tmp_path_factory.mktemp("made") / "offloader.db"

    async def make() -> None:
        await (await open_database(str(path))).aclose()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(make())
    return path.read_bytes()


@pytest.fixture
def store(tmp_path: Path, made_store: bytes) -> Path:
    """A store in the place where `examined` looks."""
    path = tmp_path / "state" / "offloader.db"
    path.parent.mkdir()
    path.write_bytes(made_store)
    return path


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def spoilt(store: Path, *, whole: bool = False) -> bytes:
    """What is in the file now."""
    content = bytearray(store.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    store.write_bytes(b"no database at all" * 100 if whole else content)
    return store.read_bytes()


async def test_a_store_of_this_release_is_good(examined: Examined, one: One, store: Path) -> None:
    found = await look(examined())
    good = one(found, "store_good")
    assert good.verdict is Verdict.OK
    assert good.data["schema"] == HEAD
    assert one(found, "store_disk").data["free_bytes"] > 0


async def test_looking_leaves_nothing_beside_the_store(examined: Examined, store: Path) -> None:
    await look(examined())
    assert {p.name for p in store.parent.iterdir()} - {"offloader.db-wal", "offloader.db-shm"} == {
        "offloader.db"
    }


async def test_a_store_that_is_not_there_yet_is_a_note(
    examined: Examined, one: One, tmp_path: Path
) -> None:
    assert one(await look(examined()), "store_not_there_yet").verdict is Verdict.NOTE
    assert not (tmp_path / "state").exists()


async def test_a_store_is_not_looked_at_where_the_settings_are_of_no_use(
    examined: Examined, one: One, store: Path
) -> None:
    found = await examine([doctor_store.STORE], examined("[jobs]\npost_call_slots = -1\n"))
    assert one(found.findings, "settings_unusable").verdict is Verdict.SKIPPED


async def test_a_place_that_is_swept_is_a_warning(examined: Examined, one: One) -> None:
    found = one(await look(examined(STORE_DATASOURCE="/tmp/none-of-ours.db")), "store_swept")
    assert found.verdict is Verdict.WARNING
    # The database and what belongs to it, never the directory that it lies in.
    assert [line.split("   #")[0] for line in found.fix if " mv " in line] == [
        "sudo mv /tmp/none-of-ours.db* /var/lib/calls-offloader/"
    ]


async def test_a_directory_that_cannot_be_written_is_a_failure(
    examined: Examined, open_dir: Path, as_nobody: Callable[[], Any], one: One
) -> None:
    context = examined(STORE_DATASOURCE=str(open_dir / "offloader.db"))
    with as_nobody():
        found = one(await look(context), "store_unwritable")
    assert found.verdict is Verdict.FAILURE
    assert str(open_dir) in found.value
    assert found.fix == (f"sudo install -d -m 700 -o calls-offloader {open_dir}",)


async def test_a_damaged_store_is_a_failure_and_stays_as_it_is(
    examined: Examined, one: One, store: Path
) -> None:
    content = spoilt(store)

    assert one(await look(examined()), "store_damaged").verdict is Verdict.FAILURE
    assert content_of(store) == content


async def test_a_file_that_is_no_database_is_a_failure(
    examined: Examined, one: One, store: Path
) -> None:
    spoilt(store, whole=True)
    assert one(await look(examined()), "store_damaged").verdict is Verdict.FAILURE


async def test_a_store_that_somebody_holds_is_a_failure(
    examined: Examined, one: One, store: Path, hurry: Callable[..., None]
) -> None:
    hurry(doctor_store, _BUSY_S=0.2)
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        # A step that is given less time than it takes is told as such.
        found = await examine([replace(doctor_store.STORE, timeout_s=0.05)], examined())
        assert one(found.findings, "step_hangs").verdict is Verdict.FAILURE
        assert "locked" in one(await look(examined()), "store_unusable").value


async def test_the_schema_of_a_later_release_is_a_failure(
    examined: Examined, one: One, store: Path
) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert "9999" in one(await look(examined()), "store_later_schema").value


async def test_an_older_schema_is_a_note(examined: Examined, one: One, store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("DROP TABLE alembic_version")
        connection.commit()
    assert one(await look(examined()), "store_old_schema").verdict is Verdict.NOTE


async def test_sqlite_on_a_network_disk_is_a_failure(
    examined: Examined, one: One, machine_root: Callable[..., Path], tmp_path: Path
) -> None:
    root = machine_root(
        {"proc/mounts": f"/dev/vda1 / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\n"}
    )
    assert "nfs4" in one(await look(examined(root=root)), "store_remote_disk").value


@pytest.mark.parametrize("api_type", ["celery", "kubernetes"])
async def test_sqlite_with_hosts_elsewhere_means_one_replica(
    api_type: str, examined: Examined, one: One, store: Path
) -> None:
    context = examined(JOBS_APITYPE=api_type, K8S_NAMESPACE="calls")
    assert one(await look(context), "store_one_replica").verdict is Verdict.NOTE


@pytest.mark.parametrize(("size", "code"), [("200m", "store_disk_low"), ("8m", "store_disk_low")])
@pytest.mark.slow
async def test_a_disk_that_is_nearly_full_is_told(
    size: str, code: str, examined: Examined, one: One, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk(size)
    found = one(await look(examined(STORE_DATASOURCE=str(disk / "offloader.db"))), code)
    assert found.verdict is (Verdict.WARNING if size == "200m" else Verdict.FAILURE)


async def test_a_key_that_is_too_short_is_a_failure_and_not_told(
    examined: Examined, one: One
) -> None:
    found = one(await look(examined(OFFLOADER_SECRET_KEY="too-short-a-key")), "store_key_short")
    assert found.verdict is Verdict.FAILURE
    assert "too-short-a-key" not in str(found.document())


async def test_a_key_file_that_others_can_read_is_a_warning(
    examined: Examined, one: One, store: Path
) -> None:
    key = store.with_name("offloader.db.key")
    key.write_text("k" * 43)
    key.chmod(0o644)
    assert one(await look(examined()), "store_key_readable").fix == (f"chmod 600 {key}",)

    key.chmod(0o600)
    assert "store_key_readable" not in [f.code for f in await look(examined())]


@pytest.mark.parametrize("port", ["1", "none"])
async def test_a_server_that_is_not_there_is_a_failure_without_its_password(
    port: str, examined: Examined, codes: Codes
) -> None:
    context = examined(STORE_DATASOURCE=f"postgresql://me:hidden-word@127.0.0.1:{port}/calls")
    found = await look(context)
    assert codes(found) == ["store_unreachable", "store_key_own"]
    assert "hidden-word" not in str([each.document() for each in found])


async def test_a_database_without_a_driver_is_a_failure(examined: Examined, one: One) -> None:
    found = one(await look(examined(STORE_DATASOURCE="mysql://h/db")), "store_unreachable")
    assert "no driver" in found.value


@pytest.mark.slow
async def test_a_server_of_this_release_is_good(
    examined: Examined, codes: Codes, postgres: Any
) -> None:
    source = postgres.new_database()
    context = examined(STORE_DATASOURCE=source, OFFLOADER_SECRET_KEY="k" * 32)
    assert codes(await look(context)) == ["store_old_schema", "store_answers"]
    await (await open_database(source)).aclose()
    assert codes(await look(context)) == ["store_good", "store_answers"]


@pytest.mark.slow
async def test_a_user_who_may_not_create_tables_is_a_failure(
    examined: Examined, one: One, postgres: Any
) -> None:
    source = postgres.new_database()
    await _execute(source, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    await _execute(
        source, "REVOKE ALL ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO guest"
    )
    found = await look(examined(STORE_DATASOURCE=source.replace("postgres@", "guest@")))
    assert one(found, "store_no_rights").verdict is Verdict.FAILURE


@pytest.mark.slow
async def test_a_server_tells_of_a_later_release_a_wrong_password_and_too_many_connections(
    examined: Examined, one: One, postgres: Any, tmp_path: Path
) -> None:
    source = postgres.new_database()

    async def found(source: str) -> Sequence[Finding]:
        return await look(examined(STORE_DATASOURCE=source, OFFLOADER_SECRET_KEY="k" * 32))

    await _execute(
        source,
        "CREATE TABLE alembic_version (version_num varchar(32))",
        "INSERT INTO alembic_version VALUES ('9999')",
        "DROP ROLE IF EXISTS guarded",
        "CREATE ROLE guarded LOGIN PASSWORD 'right'",
        "CREATE TEMPORARY TABLE lines (number serial, line text)",
        "INSERT INTO lines (line) VALUES ('local all guarded scram-sha-256'), ('local all all trust'), "
        "('local replication all trust')",
        "DO $$ BEGIN EXECUTE format('COPY (SELECT line FROM lines ORDER BY number) TO %L', "
        "current_setting('hba_file')); END $$",
        "SELECT pg_reload_conf()",
    )
    assert "9999" in one(await found(source), "store_later_schema").value

    wrong = source.replace("postgres@", "guarded:hidden-word@")
    async with asyncio.timeout(10):  # until it has read its file again
        while (refused := (await found(wrong))[0]).code != "store_unreachable":
            pass
    assert "password authentication failed" in refused.value
    assert "hidden-word" not in str(refused.document())

    directory = source.partition("?host=")[2]
    with contextlib.ExitStack() as stack:
        for _ in range(193):
            stack.enter_context(contextlib.closing(connected(f"{directory}/.s.PGSQL.5432")))
        assert one(await found(source), "store_connections").verdict is Verdict.WARNING

    async with far(directory, tmp_path, away_s=0.06):
        slow = await found(source.replace(directory, str(tmp_path)))
    assert one(slow, "store_slow").verdict is Verdict.WARNING


def connected(path: str) -> socket.socket:
    """A client that has logged in and says nothing more (PostgreSQL's protocol 3.0)."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    parameters = b"user\0postgres\0database\0postgres\0\0"
    client.sendall(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
    told = b""
    while b"Z\0\0\0\5" not in told:
        told += client.recv(4096)
    return client


@asynccontextmanager
async def far(directory: str, other: Path, *, away_s: float) -> AsyncIterator[None]:
    """The server of a directory, with a long way to it, in another one."""

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float
    ) -> None:
        while chunk := await reader.read(1 << 16):
            await asyncio.sleep(late_s)
            writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to, back = await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.5432")
        await asyncio.gather(pump(reader, back, 0), pump(to, writer, away_s))

    server = await asyncio.start_unix_server(serve, other / ".s.PGSQL.5432")
    try:
        yield
    finally:
        server.close()


@pytest.mark.slow
async def test_a_real_standby_is_a_failure(examined: Examined, one: One, postgres: Any) -> None:
    source = postgres.new_database()
    with standby_of(postgres, source.partition("?host=")[2]) as directory:
        copied = f"{source.partition('?host=')[0]}?host={directory}"
        found = await look(examined(STORE_DATASOURCE=copied, OFFLOADER_SECRET_KEY="k" * 32))
    assert one(found, "store_standby").verdict is Verdict.FAILURE


@contextlib.contextmanager
def standby_of(server: Any, directory: str) -> Iterator[str]:
    """A copy of a server that follows it; the directory of its socket."""
    copy = f"{directory}/standby"
    login = ("-h", directory, "-U", "postgres")
    server._run("pg_basebackup", *login, "-D", copy, "-R", "-c", "fast", "--no-sync", data=False)
    options = f"-k {copy} -c listen_addresses='' -c fsync=off -c max_connections=200"
    here = ("-D", copy, "-w")
    server._run("pg_ctl", *here, "-o", options, "-l", f"{copy}/log", "start", data=False)
    try:
        yield copy
    finally:
        server._run("pg_ctl", *here, "-m", "immediate", "stop", data=False)


async def _execute(source: str, *statements: str) -> None:
    connection = await asyncpg.connect(source)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def test_a_standby_is_a_failure(one: One) -> None:
    assert one(judge_rights("pg", {"standby": True, "may_create": False}), "store_standby")


def test_few_connections_left_are_a_warning(one: One) -> None:
    found = one(judge_room("pg", {"used": 95, "most": 100}, 0.001), "store_connections")
    assert found.verdict is Verdict.WARNING


def test_a_slow_server_is_a_warning(one: One) -> None:
    assert one(judge_room("pg", {"used": 1, "most": 100}, 0.2), "store_slow").data["round_s"] == 0.2
    assert one(judge_room("pg", {"used": 1, "most": 100}, 0.04), "store_answers")


async def test_whoever_may_not_look_into_the_services_directory_is_told_who_may(
    examined: Examined, open_dir: Path, as_nobody: Callable[[], Any], one: One
) -> None:
    closed = of_daemon(open_dir)
    context = examined(STORE_DATASOURCE=str(closed / "offloader.db"))
    with as_nobody():
        found = one(await look(context), "store_other_user")
    assert "sudo -u daemon offloader doctor" in found.cause


def of_daemon(directory: Path) -> Path:
    """A directory of the user 1."""
    closed = directory / "state"
    closed.mkdir(mode=0o700)
    os.chown(closed, 1, 1)
    return closed

"""A copy follows its directory whatever the store does, and makes it again elsewhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foundation.clock import Clock
from foundation.copies.contents import has_mark, look_into, mark_of, read_copied
from foundation.copies.journal import JournalError, key_of
from foundation.copies.stores import BucketStore, CopyStore, DirectoryStore, StoreError, open_store
from jobs.copies.mirror import INTERVAL_S, Mirror
from jobs.copies.restore import restore

JOB = "j" * 26


class PlayedStore:
    """A store in memory that can be away, or lose an answer."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False
        self.loses_answers = False
        self.meanwhile: Callable[[], object] = lambda: None

    async def put(self, key: str, data: bytes) -> None:
        self._check()
        for _ in range(3):  # while it is under way the job goes on
            await asyncio.sleep(0)
            self.meanwhile()
        self.objects[key] = data
        if self.loses_answers:
            raise StoreError("the answer got lost")

    async def create(self, key: str, data: bytes) -> None:
        raise StoreError("unused")

    async def get(self, key: str) -> bytes:
        self._check()
        return self.objects[key]

    async def start_of(self, key: str, length: int) -> bytes:
        return (await self.get(key))[:length]

    async def names(self, prefix: str) -> list[str]:
        self._check()
        return sorted(
            key.removeprefix(prefix + "/") for key in self.objects if key.startswith(prefix)
        )

    async def remove(self, prefix: str) -> None:
        self._check()
        self.objects = {k: v for k, v in self.objects.items() if not k.startswith(prefix)}

    def _check(self) -> None:
        if self.away:
            raise StoreError("away")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    directory = tmp_path / "host-1" / JOB
    directory.mkdir(parents=True)
    return directory


def mirror_of(store: CopyStore, directory: Path, *, clock: Clock | None = None) -> Mirror:
    return Mirror(store, directory, is_copied=lambda name: not name.endswith(".tmp"), clock=clock)


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.looptime
async def test_a_copy_is_at_most_one_round_old(job: Path, tmp_path: Path) -> None:
    store = PlayedStore()
    running = asyncio.create_task(mirror_of(store, job).run())
    for second in range(12):
        with (job / "recording").open("ab") as file:
            file.write(bytes([second]) * 1000)
        await asyncio.sleep(1)
    running.cancel()
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    (copied,) = files_in(tmp_path / "host-2" / JOB).values()
    assert (job / "recording").read_bytes().startswith(copied)
    assert len(copied) >= (12 - INTERVAL_S) * 1000


@pytest.mark.looptime
async def test_a_store_that_was_away_gets_what_it_missed(
    job: Path, tmp_path: Path, loop_clock: Clock
) -> None:
    store = PlayedStore()
    mirror = mirror_of(store, job, clock=loop_clock)
    running = asyncio.create_task(mirror.run())
    (job / "a").write_bytes(b"one")
    await asyncio.sleep(INTERVAL_S + 1)
    store.away = True
    (job / "a").write_bytes(b"other")
    (job / "b").write_bytes(b"two")
    await asyncio.sleep(300)
    assert mirror.failures > 3
    assert mirror.behind_s > 200
    store.away = False
    await asyncio.sleep(70)
    assert mirror.behind_s < 10
    running.cancel()
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    assert files_in(tmp_path / "host-2" / JOB) == {"a": b"other", "b": b"two"}


async def test_an_answer_that_got_lost_does_no_harm(job: Path, tmp_path: Path) -> None:
    store = PlayedStore()
    mirror = mirror_of(store, job)
    (job / "a").write_bytes(b"one")
    store.loses_answers = True
    with pytest.raises(StoreError):
        await mirror.copy_now()
    store.loses_answers = False
    with (job / "a").open("ab") as file:
        file.write(b" two")
    await mirror.copy_now()
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    assert files_in(tmp_path / "host-2" / JOB) == {"a": b"one two"}


async def test_what_is_larger_than_an_object_is_copied_in_several(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.copies.mirror._MOST_BYTES", 1000)
    store = PlayedStore()
    content = os.urandom(3500)
    (job / "a").write_bytes(content)
    await mirror_of(store, job).copy_now()
    assert len(store.objects) == 4
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    assert files_in(tmp_path / "host-2" / JOB) == {"a": content}


async def test_a_process_that_takes_over_goes_on_with_the_journal(
    job: Path, tmp_path: Path
) -> None:
    store = PlayedStore()
    (job / "a").write_bytes(b"one")
    await mirror_of(store, job).copy_now()
    (job / "b").write_bytes(b"two")
    await mirror_of(store, job).copy_now()
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    assert files_in(tmp_path / "host-2" / JOB) == {"a": b"one", "b": b"two"}


async def test_a_journal_with_a_missing_or_damaged_object_is_refused_by_its_name(
    job: Path, tmp_path: Path
) -> None:
    store = PlayedStore()
    mirror = mirror_of(store, job)
    for text in (b"one", b"two", b"three"):
        (job / "a").write_bytes(text)
        (job / text.decode()).write_bytes(text)
        await mirror.copy_now()
    elsewhere = tmp_path / "host-2" / JOB
    whole = dict(store.objects)
    for missing in (1, 2):
        store.objects = {k: v for k, v in whole.items() if k != key_of(JOB, missing)}
        with pytest.raises(JournalError, match=f"{key_of(JOB, missing)} before it is missing"):
            await restore(store, JOB, elsewhere)
    store.objects = whole | {key_of(JOB, 2): b"CPJ1"}
    with pytest.raises(JournalError, match=key_of(JOB, 2)):
        await restore(store, JOB, elsewhere)
    assert not elsewhere.exists()
    store.objects = whole
    await restore(store, JOB, elsewhere)
    assert files_in(elsewhere) == files_in(job)


async def test_a_file_that_grows_all_the_time_is_one_object_a_round(job: Path) -> None:
    store = PlayedStore()
    (job / "a").write_bytes(b"one")

    def grow() -> None:
        with (job / "a").open("ab") as file:
            file.write(b" more")

    store.meanwhile = grow
    mirror = mirror_of(store, job)
    await mirror.copy_now()
    await mirror.copy_now()
    assert len(store.objects) == 2


@pytest.mark.parametrize("came_to_be", [True, False])
async def test_an_object_of_which_nobody_knows_is_made_up_for_by_the_next_one(
    job: Path, tmp_path: Path, *, came_to_be: bool
) -> None:
    store = PlayedStore()
    mirror = mirror_of(store, job)
    (job / "a").write_bytes(b"one")
    await mirror.copy_now()
    store.loses_answers = True
    with (job / "a").open("ab") as file:
        file.write(b" two")
    with pytest.raises(StoreError):
        await mirror.copy_now()
    store.loses_answers = False
    late = store.objects.pop(key_of(JOB, 2))
    with (job / "a").open("ab") as file:
        file.write(b" three")
    await mirror.copy_now()
    if came_to_be:
        store.objects[key_of(JOB, 2)] = late
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    assert files_in(tmp_path / "host-2" / JOB) == files_in(job)


@pytest.mark.documents("a-store-of-copies-that-hangs")
async def test_a_share_that_hangs_takes_one_thread_and_leaves_the_job_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    free, before = threading.Event(), set(threading.enumerate())
    monkeypatch.setattr(DirectoryStore, "_put", lambda *_: free.wait(60))
    store = DirectoryStore(tmp_path)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await store.put("job/1", b"")
    mine = set(threading.enumerate()) - before
    assert [thread.daemon for thread in mine] == [True]
    given_up = [asyncio.create_task(store.put("job/1", b"")) for _ in range(9)]
    done, _ = await asyncio.wait(given_up, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(StoreError) as busy:
        done.pop().result()
    told = str(busy.value)
    documented("a-store-of-copies-that-hangs", told[told.rindex(": ") + 2 :])
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    free.set()
    async with asyncio.timeout(20):
        while store._thread._waiting:
            await asyncio.sleep(0.01)
    assert await store.names("job") == [], "what nobody waits for any more is not begun"


async def test_what_is_there_already_is_not_restored_over(job: Path) -> None:
    store = PlayedStore()
    (job / "a").write_bytes(b"one")
    await mirror_of(store, job).copy_now()
    with pytest.raises(FileExistsError):
        await restore(store, JOB, job)


@pytest.fixture(scope="module")
def bucket_address(unused_tcp_port_factory) -> Iterator[str]:
    port = unused_tcp_port_factory()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    try:
        while "Running on" not in (line := server.stdout.readline()):
            assert line, "the bucket's server has ended"
        # It tells of every request, and would wait for whoever reads that.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        address = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(f"{address}/copies", method="PUT", data=b"")
        urllib.request.urlopen(request, timeout=10).close()
        yield address
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(
    params=["directory", pytest.param("bucket", marks=[pytest.mark.slow, pytest.mark.timeout(120)])]
)
def real_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CopyStore:
    if request.param == "directory":
        return open_store(f"file://{tmp_path}/a%20claim")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("bucket_address"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return open_store("s3://copies/some/prefix")


async def test_every_store_keeps_what_it_is_given(
    real_store: CopyStore, job: Path, tmp_path: Path
) -> None:
    store = real_store
    assert await store.names(JOB) == []
    assert await store.names("") == []
    with pytest.raises(StoreError):
        await store.get(key_of(JOB, 1))
    (job / "a").write_bytes(b"one")
    (job / "in").mkdir()
    (job / "in/b").write_bytes(os.urandom(100_000))
    mirror = mirror_of(store, job)
    await mirror.copy_now()
    (job / "a").write_bytes(b"other")
    await mirror.copy_now()
    assert await store.names("") == [JOB]
    assert await store.names(JOB) == ["0000000001", "0000000002"]
    await restore(store, JOB, tmp_path / "host-2" / JOB)
    assert files_in(tmp_path / "host-2" / JOB) == files_in(job)
    await store.remove(JOB)
    await store.remove(JOB)
    assert await store.names(JOB) == []


async def test_of_many_who_create_an_object_one_does(real_store: CopyStore) -> None:
    made = await asyncio.gather(
        *(real_store.create(f"{JOB}/claim", b"%d" % n) for n in range(4)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in made) == ["NoneType"] + ["ObjectExists"] * 3
    (winner,) = [n for n, each in enumerate(made) if each is None]
    assert await real_store.get(f"{JOB}/claim") == b"%d" % winner
    assert await real_store.start_of(f"{JOB}/claim", 100) == b"%d" % winner
    assert await real_store.names(JOB) == ["claim"]
    await real_store.remove(JOB)


async def test_what_is_in_a_copy_can_be_read_without_making_it_again(
    real_store: CopyStore, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.copies.mirror._MOST_BYTES", 30_000)
    mirror = mirror_of(real_store, job)
    for number in range(3):
        (job / "whole").write_bytes(os.urandom(1000 + number))
        with (job / "grows").open("ab") as file:
            file.write(os.urandom(40_000))
        (job / f"goes{number}").write_bytes(b"x")
        (job / f"goes{number - 1}").unlink(missing_ok=True)
        await mirror.copy_now()
    contents = await look_into(real_store, JOB)
    here = files_in(job)
    assert {name: file.size_bytes for name, file in contents.files.items()} == {
        name: len(content) for name, content in here.items()
    }
    for name, content in here.items():
        for start in (0, 999, 30_001, len(content)):
            read = [
                c async for c in read_copied(real_store, JOB, contents.files[name], start=start)
            ]
            assert b"".join(read) == content[start:]
    mark = await mark_of(real_store, JOB)
    assert await has_mark(real_store, JOB, mark)
    await real_store.remove(JOB)
    assert not await has_mark(real_store, JOB, mark)
    assert (await look_into(real_store, JOB)).newest == 0


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "claim").write_text("a file")
    with pytest.raises(StoreError, match=f"{tmp_path}/claim"):
        await DirectoryStore(tmp_path / "claim").put("job/1", b"")


async def test_copies_in_a_directory_are_private(tmp_path: Path) -> None:
    await DirectoryStore(tmp_path / "claim").put("job/1", b"speech")
    assert [oct(p.stat().st_mode & 0o077) for p in (tmp_path / "claim").rglob("*")] == ["0o0"] * 2


async def test_a_bucket_that_is_away_is_told_without_secrets(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr("foundation.copies.stores._RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    store = open_store("s3://copies")
    assert isinstance(store, BucketStore)
    with pytest.raises(StoreError) as refused:
        await store.put("job/1", b"speech")
    assert "s3://copies" in str(refused.value)
    assert "secret" not in str(refused.value) + repr(refused.value.__context__.__cause__)


@pytest.mark.parametrize(
    "url", ["", "copies", "file://host/x", "file:", "s3://", "s3://key:secret@b", "http://b/c"]
)
def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="should be file:///DIRECTORY or s3://BUCKET"):
        open_store(url)

"""What is copied of a job's files, what is left at its end, and who waits for whom."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.copies.contents import mark_of
from foundation.copies.stores import DirectoryStore, StoreError
from foundation.logs import configure_logs, get_logger
from jobs import job_directory
from jobs.copies.fence import PublisherUnknown, Verdict, write_identity
from jobs.copies.job_copy import JobCopy
from jobs.copies.restore import restore
from jobs.settings import JobSettings, SettingsError, read_common

ID = "abcdefghijklmnopqrstuvwxy"
ENVIRON = {
    "SITE_URL": "http://127.0.0.1:8065",
    "CALL_ID": ID + "c",
    "POST_ID": ID + "p",
    "RECORDING_ID": ID + "r",
    "AUTH_TOKEN": ID + "s",
}


def settings_in(tmp_path: Path, copies_url: str) -> JobSettings:
    environ = ENVIRON | {"DATA_DIR": str(tmp_path / "data"), "COPIES_URL": copies_url}
    return read_common(environ, job_id_variable="RECORDING_ID")


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    settings = settings_in(tmp_path, f"file://{tmp_path}/claim")
    job_directory.create(settings, base_name="Call")
    return settings


async def copied(settings: JobSettings, tmp_path: Path) -> set[str]:
    target = tmp_path / "restored" / settings.job_id
    await restore(DirectoryStore(tmp_path / "claim"), settings.job_id, target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    await asyncio.to_thread(shutil.rmtree, target)
    return found


async def test_everything_is_copied_but_what_nobody_needs(
    settings: JobSettings, tmp_path: Path
) -> None:
    (settings.directory / "speakers").mkdir()
    (settings.directory / "speakers/a.ogg").write_bytes(b"a")
    (settings.directory / "half.json.tmp").write_bytes(b"{")
    await JobCopy(settings).before_derived()
    assert await copied(settings, tmp_path) == {"job.json", "speakers/a.ogg"}


async def test_whoever_finishes_a_dead_job_adds_the_record_of_the_post_alone(
    settings: JobSettings, tmp_path: Path
) -> None:
    await JobCopy(settings).before_derived()
    (settings.directory / "publication.json").write_text("{}")
    (settings.directory / "large").write_bytes(b"made again")
    await JobCopy(settings, record_only=True).before_derived()
    assert await copied(settings, tmp_path) == {"job.json", "publication.json"}


async def test_a_job_that_left_nothing_leaves_no_copy(
    settings: JobSettings, tmp_path: Path
) -> None:
    copy = JobCopy(settings)
    copy.begin()
    await copy.before_derived()
    copy.release()
    job_directory.remove(settings.directory)
    await copy.finish()
    assert not (tmp_path / "claim" / settings.job_id).exists()


@pytest.mark.parametrize("record_only", [False, True])
async def test_of_a_published_job_its_artifacts_alone_are_left(
    settings: JobSettings, tmp_path: Path, *, record_only: bool
) -> None:
    await JobCopy(settings).before_derived()
    (settings.directory / "artifacts").mkdir()
    (settings.directory / "artifacts/poster.jpg").write_bytes(b"poster")
    copy = JobCopy(settings, record_only=record_only)
    copy.begin()
    copy.release()
    job_directory.remove(settings.directory, keep="artifacts")
    await copy.finish()
    assert await copied(settings, tmp_path) == {"artifacts/poster.jpg"}


async def _is_posted(_file_id: str) -> bool:
    return False


async def test_before_a_post_the_copy_knows_and_the_post_is_ours(
    settings: JobSettings, tmp_path: Path
) -> None:
    copy = JobCopy(settings)
    copy.begin()
    assert await copy.before_post("file", _is_posted) is Verdict.POST
    assert await copied(settings, tmp_path) == {"job.json", "job.log"}
    assert (tmp_path / "claim" / f"{settings.job_id}.publisher" / "0000000001").exists()
    copy.release()
    job_directory.remove(settings.directory)
    await copy.finish()
    assert not any((tmp_path / "claim").iterdir())


async def test_what_the_job_logs_is_in_its_copy(settings: JobSettings, tmp_path: Path) -> None:
    configure_logs()
    copy = JobCopy(settings)
    copy.begin()
    get_logger().info("something.happened", count=7)
    await copy.before_derived()
    await copy.finish()
    get_logger().info("something.later")
    lines = (settings.directory / "job.log").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["something.happened"]
    assert (settings.directory / "job.log").stat().st_mode & 0o777 == 0o600


async def test_a_directory_made_of_a_copy_leaves_that_as_it_is(
    settings: JobSettings, tmp_path: Path
) -> None:
    await JobCopy(settings).before_derived()
    store = DirectoryStore(tmp_path / "claim")
    write_identity(settings.directory, restored_from=await mark_of(store, settings.job_id))
    (settings.directory / "publication.json").write_text("{}")
    copy = JobCopy(settings, record_only=True)
    copy.begin()
    assert await copy.before_post("file", _is_posted) is Verdict.POST
    await copy.finish()
    assert await copied(settings, tmp_path) == {"job.json"}


async def test_a_job_that_was_taken_over_stops_copying(
    settings: JobSettings, tmp_path: Path
) -> None:
    copy = JobCopy(settings)
    copy.begin()
    await copy.before_derived()
    claim = json.dumps({"owner": "other", "files": ["f"], "others": []}).encode()
    store = DirectoryStore(tmp_path / "claim")
    await store.create(f"{settings.job_id}.publisher/0000000001", claim)
    (settings.directory / "more").write_bytes(b"later")
    await copy.before_derived()
    await copy.finish()
    assert await copied(settings, tmp_path) == {"job.json", "job.log"}


class HangingStore:
    """Nothing ever comes back."""

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.Event().wait()

    async def create(self, key: str, data: bytes) -> None:
        await asyncio.Event().wait()

    async def get(self, key: str) -> bytes:
        raise StoreError("unused")

    async def start_of(self, key: str, length: int) -> bytes:
        raise StoreError("unused")

    async def names(self, prefix: str) -> list[str]:
        return []

    async def remove(self, prefix: str) -> None:
        await asyncio.Event().wait()


@pytest.mark.looptime
@pytest.mark.parametrize(("hurry", "most_s"), [(False, 160), (True, 100)])
async def test_a_store_that_hangs_holds_neither_post_nor_end_up(
    settings: JobSettings, *, hurry: bool, most_s: float
) -> None:
    copy = JobCopy(settings, store=HangingStore())
    copy.begin()
    hurried = asyncio.Event()
    if hurry:
        asyncio.get_running_loop().call_later(95, hurried.set)
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(PublisherUnknown, match="no answer within"):
        await copy.before_post("file", _is_posted)
    await copy.finish(hurry=hurried)
    assert asyncio.get_running_loop().time() - began_s <= most_s


async def test_files_that_are_gone_without_the_job_s_word_keep_their_copy(
    settings: JobSettings, tmp_path: Path
) -> None:
    copy = JobCopy(settings)
    copy.begin()
    await copy.before_derived()
    await asyncio.to_thread(shutil.rmtree, settings.directory)  # a disk that was taken away
    await copy.before_derived()
    await copy.finish()
    assert await copied(settings, tmp_path) == {"job.json", "job.log"}


class AwayStore(HangingStore):
    """Nothing can be asked."""

    def __init__(self, *, answered: int = 0) -> None:
        """`answered`: so many objects are written first."""
        self._left = answered

    async def put(self, key: str, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise StoreError("away")

    async def create(self, key: str, data: bytes) -> None:
        raise StoreError("away")

    async def names(self, prefix: str) -> list[str]:
        if self._left <= 0:
            raise StoreError("away")
        return []


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("how", "gone", "waits_s"),
    [
        pytest.param(
            "job", False, 60, marks=pytest.mark.documents("nobody-knows-who-else-publishes")
        ),
        ("job", True, 1800),
        ("vouched", False, 10),
        ("rescue", True, 60),
    ],
    ids=[
        *("others can try later", "its files go with it"),
        *("the service knows of nobody else", "a rescue has the copy still"),
    ],
)
async def test_a_store_that_is_away_delays_a_post_and_costs_none(
    settings: JobSettings, how: str, documented, *, gone: bool, waits_s: float
) -> None:
    settings = replace(settings, files_go_with_job=gone)
    vouched = how == "vouched"
    copy = JobCopy(settings, store=AwayStore(answered=1), record_only=how != "job", vouched=vouched)
    if how == "rescue":
        write_identity(settings.directory, restored_from="1:mark")
    await copy.before_derived()
    if how != "rescue" and (gone or vouched):
        assert await copy.before_post("file", _is_posted) is Verdict.POST
    else:
        with pytest.raises(PublisherUnknown, match="away") as unknown:
            await copy.before_post("file", _is_posted)
        documented("nobody-knows-who-else-publishes", str(unknown.value))
    assert waits_s <= asyncio.get_running_loop().time() < waits_s + 20


@pytest.mark.looptime
async def test_a_store_that_never_worked_delays_nothing(settings: JobSettings) -> None:
    copy = JobCopy(settings, store=AwayStore())
    copy.begin()
    assert await copy.before_post("file", _is_posted) is Verdict.POST
    await copy.finish()
    assert asyncio.get_running_loop().time() < 1


class BrokenStore(HangingStore):
    async def names(self, prefix: str) -> list[str]:
        raise RuntimeError("a library's own")

    async def remove(self, prefix: str) -> None:
        raise RuntimeError("a library's own")


@pytest.mark.parametrize("released", [False, True])
async def test_whatever_is_wrong_with_the_store_the_job_goes_on(
    settings: JobSettings, *, released: bool
) -> None:
    copy = JobCopy(settings, store=BrokenStore())
    copy.begin()
    await copy.before_derived()
    await copy.before_derived()
    if released:
        copy.release()
    await copy.finish()


async def test_who_does_not_hold_the_directory_copies_nothing(
    settings: JobSettings, tmp_path: Path
) -> None:
    copy = JobCopy(settings)
    running = asyncio.create_task(copy.run())
    await copy.finish()
    running.cancel()
    assert not (tmp_path / "claim").exists()


async def test_whoever_finishes_a_job_with_an_impossible_address_goes_without_a_copy(
    settings: JobSettings,
) -> None:
    copy = JobCopy(replace(settings, copies_url="ftp://x"))
    await copy.before_derived()
    assert copy.figures() == {}


async def test_without_an_address_there_is_nothing_to_do(tmp_path: Path) -> None:
    copy = JobCopy(settings_in(tmp_path, ""))
    await copy.before_derived()
    await copy.finish()
    assert copy.figures() == {}


def test_figures_tell_how_much_would_be_lost_now(settings: JobSettings) -> None:
    figures = JobCopy(settings).figures()
    assert set(figures) == {"copy_behind_s", "copy_failures", "copied_bytes"}


def test_an_address_of_another_form_is_refused_by_name_and_without_repeating_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(SettingsError, match=r"COPIES_URL: .*should be file") as refused:
        settings_in(tmp_path, "s3://key:hush@bucket")
    assert "hush" not in str(refused.value)

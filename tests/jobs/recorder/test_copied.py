"""The copy of a recorder's files is as good as the files, at any moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from callclient.events import JobStopRequested
from callclient.plugin_api import ApiError
from foundation.copies.stores import open_store
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.copies import rescue
from jobs.copies.restore import restore
from jobs.harness import JobContext
from jobs.recorder import salvage
from jobs.recorder.job import RecorderJob
from jobs.recorder.outcome import complete_file
from jobs.recorder.settings import MP4_NAME, PART_NAME, RecorderSettings
from jobs.status import StatusReporter
from testbed.analysis.mp4_structure import read_mp4


@pytest.fixture
def settings(settings: RecorderSettings, tmp_path: Path) -> RecorderSettings:
    return replace(settings, copies_url=f"file://{tmp_path}/claim")


@pytest.fixture
async def context(api, settings) -> JobContext:
    return JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )


async def test_from_every_copy_made_on_the_way_comes_a_recording_of_all_until_then(
    peer, api, context, settings, tmp_path
) -> None:
    api.publish_error = ApiError("refused with HTTP 403", status=403, retryable=False)
    store = open_store(settings.copies_url)
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    async with asyncio.timeout(20):
        while not api.statuses:
            await asyncio.sleep(0.01)
    for moment_s in (1.5, 2.5):
        await peer.until_call_s(moment_s)
        on_disk = (settings.directory / PART_NAME).read_bytes()
        await context.copy.before_derived()
        elsewhere = tmp_path / f"after-{moment_s}" / settings.job_id
        await restore(store, settings.job_id, elsewhere)
        assert (elsewhere / PART_NAME).read_bytes().startswith(on_disk)
        made = await asyncio.to_thread(complete_file, elsewhere)
        assert read_mp4(made).video_duration_s > moment_s - 1.5
    peer.emit(JobStopRequested())
    with pytest.raises(ApiError):
        await running
    await context.copy.finish()
    at_the_end = tmp_path / "at-the-end" / settings.job_id
    await restore(store, settings.job_id, at_the_end)
    ours, theirs = settings.directory / MP4_NAME, at_the_end / MP4_NAME
    assert not theirs.exists(), "it is made of what is copied"
    assert (at_the_end / "publication.json").read_bytes() == (
        settings.directory / "publication.json"
    ).read_bytes()
    await asyncio.to_thread(complete_file, at_the_end)
    assert theirs.read_bytes() == ours.read_bytes(), "an upload that was begun goes on"


async def test_a_published_recording_leaves_no_copy(peer, api, context, settings, tmp_path) -> None:
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    await peer.until_call_s(0.5)
    await context.copy.before_derived()
    assert (tmp_path / "claim" / settings.job_id).exists()
    peer.emit(JobStopRequested())
    await running
    await context.copy.finish()
    assert not (tmp_path / "claim" / settings.job_id).exists()


async def test_a_job_that_lives_and_its_rescue_post_once(
    peer, api, context, settings, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setattr("jobs.copies.rescue.QUIET_S", 0.0)
    monkeypatch.setattr("jobs.copies.fence.TAKE_OVER_S", 0.0)
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    await peer.until_call_s(1.5)
    await context.copy.before_derived()
    environ = {
        "COPIES_URL": settings.copies_url,
        "DATA_DIR": f"{tmp_path}/other-host",
        "AUTH_TOKEN": "n" * 26,
    }
    rescued = await asyncio.to_thread(rescue.main, settings.job_id, environ, salvage=salvage.main)
    assert (rescued, len(api.posts)) == (0, 1)
    peer.emit(JobStopRequested())
    await running
    await context.copy.finish()
    assert len(api.posts) == 1
    assert (settings.directory / MP4_NAME).exists(), "it has more than what was posted"
    # Its own salvage knows that as well.
    assert await asyncio.to_thread(salvage.main, settings.directory, environ) == 0
    assert len(api.posts) == 1


async def test_a_store_that_is_away_at_the_end_gets_the_finished_recording_itself(
    peer, api, context, settings, tmp_path
) -> None:
    api.publish_error = ApiError("refused with HTTP 403", status=403, retryable=False)
    (tmp_path / "claim").write_text("no directory: nothing can be written below it")
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    await peer.until_call_s(0.5)
    peer.emit(JobStopRequested())
    with pytest.raises(ApiError):
        await running
    (tmp_path / "claim").unlink()
    await context.copy.finish()
    elsewhere = tmp_path / "elsewhere" / settings.job_id
    await restore(open_store(settings.copies_url), settings.job_id, elsewhere)
    assert (elsewhere / MP4_NAME).read_bytes() == (settings.directory / MP4_NAME).read_bytes()

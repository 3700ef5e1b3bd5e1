"""The job from join to post, with a call and a plugin that the test plays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from callclient.errors import JoinRefused, SignalingFailed
from callclient.events import (
    CallEnded,
    CallStateReceived,
    JobKind,
    JobStateChanged,
    JobStopRequested,
    Joined,
)
from callclient.plugin_api import ApiError
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import Interrupted, JobContext, StartFailed
from jobs.recorder import job as job_module
from jobs.recorder.job import RecorderJob, RecordingCutShort
from jobs.recorder.mp4 import Mp4Error, Mp4Writer
from jobs.recorder.recording import Recording
from jobs.status import StatusReporter
from testbed.analysis.media import read_sound
from testbed.analysis.mp4_structure import read_mp4


@pytest.fixture
async def context(api, settings) -> JobContext:
    return JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )


async def _until(condition) -> None:
    async with asyncio.timeout(25):
        while not condition():
            await asyncio.sleep(0.01)


async def _started(peer, api, context, settings) -> asyncio.Task[None]:
    """The job, running and reported as started."""
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    await _until(lambda: api.statuses or running.done())
    if running.done():
        await running
    assert api.statuses == [("started", "")]
    return running


def _save(api, tmp_path: Path) -> Path:
    ((_, content),) = api.uploads
    path = tmp_path / "uploaded.mp4"
    path.write_bytes(content)
    return path


async def test_a_call_becomes_an_mp4_in_the_thread(
    peer, api, context, settings, opus, tmp_path
) -> None:
    running = await _started(peer, api, context, settings)
    peer.say(peer.add_voice("alice"), opus(0.3, start_s=0.2))
    peer.emit(CallStateReceived())
    await peer.until_call_s(0.8)
    peer.emit(JobStopRequested())
    await running
    assert peer.left
    assert api.posts == [
        {"job_id": settings.job_id, "post_id": settings.post_id, "file_ids": ["file0"]}
    ]
    assert api.uploads[0][0] == "Call_Town_Square_2026-01-31_10-05-09.mp4"
    path = _save(api, tmp_path)
    assert read_mp4(path).index_in_front
    assert abs(read_sound(path).between(0.25, 0.45).samples).max() > 0.2
    assert not settings.directory.exists(), "the post surely exists: nothing is kept"


async def test_started_is_reported_only_after_the_join(peer, api, context, settings) -> None:
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    await _until(lambda: (settings.directory / "job.json").exists())
    assert api.statuses == []
    peer.begin()
    await _until(lambda: api.statuses)
    peer.emit(JobStopRequested())
    await running


async def test_the_recording_ends_at_the_server_s_end_when_it_tells(
    peer, api, context, settings, tmp_path
) -> None:
    running = await _started(peer, api, context, settings)
    # Started at 1000, ended at 2200 of the server's clock.
    peer.emit(JobStateChanged(JobKind.RECORDING, 900, 1000, 2200, ""))
    await running
    assert read_mp4(_save(api, tmp_path)).audio_duration_s == pytest.approx(1.2, abs=0.05)


async def test_a_transcription_that_could_not_start_does_not_end_the_recording(
    peer, api, context, settings, tmp_path
) -> None:
    running = await _started(peer, api, context, settings)
    failed = JobStateChanged(JobKind.RECORDING, 900, 1000, 1100, "max concurrent jobs reached")
    peer.emit(failed)
    await peer.until_call_s(0.4)
    assert not peer.left
    peer.emit(JobStopRequested())
    await running
    assert read_mp4(_save(api, tmp_path)).audio_duration_s > 0.3


async def test_without_the_start_event_our_own_clock_is_the_start(
    peer, api, context, settings, monkeypatch
) -> None:
    monkeypatch.setattr(job_module, "_START_EVENT_TIMEOUT_S", 0.05)
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.emit(Joined("own-session"))
    await _until(lambda: api.statuses)
    await asyncio.sleep(0.5)  # a call of that length
    peer.emit(JobStopRequested())
    await running
    assert len(api.posts) == 1


async def test_an_end_by_a_server_whose_clock_has_jumped_is_now(
    peer, api, context, settings, tmp_path
) -> None:
    running = await _started(peer, api, context, settings)
    await peer.until_call_s(0.5)
    peer.emit(JobStateChanged(JobKind.RECORDING, 900, 1000, 3_601_000, ""))
    await running
    assert 0.3 < read_mp4(_save(api, tmp_path)).audio_duration_s < 20


@pytest.mark.parametrize("jump_s", [3600, -3600], ids=["ahead", "behind"])
async def test_a_start_by_a_server_whose_clock_has_jumped_is_ours(
    peer, api, context, settings, tmp_path, jump_s: int
) -> None:
    peer.zero_ns += jump_s * 1_000_000_000
    running = await _started(peer, api, context, settings)
    await asyncio.sleep(0.5)  # a call of that length
    peer.emit(JobStopRequested())
    await running
    assert 0.3 < read_mp4(_save(api, tmp_path)).audio_duration_s < 20


async def test_a_call_that_everybody_left_without_a_word_is_ended_and_published(
    peer, api, context, settings, monkeypatch
) -> None:
    monkeypatch.setattr("jobs.recorder.watchdogs.ALONE_NS", 1)
    monkeypatch.setattr("jobs.recorder.vigil._LOOK_EVERY_S", 0.2)
    running = await _started(peer, api, context, settings)
    await running
    assert len(api.posts) == 1
    assert context.metrics["tasks"] > 0


@pytest.mark.parametrize(
    "end",
    [
        lambda peer, context: peer.emit(CallEnded("the host ended the call")),
        lambda peer, context: peer.fail(SignalingFailed("the WebSocket was away")),
        lambda peer, context: context.shutdown.request(),
    ],
    ids=["call ended", "disconnected", "signal"],
)
async def test_however_the_call_ends_what_was_recorded_is_published(
    peer, api, context, settings, end
) -> None:
    running = await _started(peer, api, context, settings)
    await peer.until_call_s(0.2)
    end(peer, context)
    await running
    assert len(api.posts) == 1


async def test_a_stop_before_the_recording_s_first_moment_leaves_nothing_to_publish(
    peer, api, context, settings
) -> None:
    peer.zero_ns += 5_000_000_000  # the server's clock is ahead
    running = await _started(peer, api, context, settings)
    peer.emit(JobStopRequested())
    await running
    assert (api.uploads, api.posts) == ([], [])
    assert not settings.directory.exists(), "or its empty file would be tried again for days"


async def test_a_disk_that_fails_while_the_end_is_slow_costs_only_what_comes_after(
    peer, api, context, settings, monkeypatch
) -> None:
    monkeypatch.setattr("jobs.recorder.recording_thread._STOP_TIMEOUT_S", 0.01)
    finish = Recording.finish

    def fail_at_the_end(recording: Recording, stop_ns: int) -> None:
        finish(recording, stop_ns)
        raise Mp4Error("No space left on device")

    monkeypatch.setattr(Recording, "finish", fail_at_the_end)
    running = await _started(peer, api, context, settings)
    await peer.until_call_s(0.3)
    peer.emit(JobStopRequested())
    with pytest.raises(RecordingCutShort):
        await running
    assert len(api.posts) == 1


async def test_a_stop_before_the_join_leaves_without_a_word(peer, api, context, settings) -> None:
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.emit(JobStopRequested())
    await running
    assert peer.left
    assert (api.statuses, api.posts) == ([], [])
    assert not settings.directory.exists()


async def test_a_refused_join_is_a_failed_start_with_its_reason(
    peer, api, context, settings
) -> None:
    peer.fail(JoinRefused("call is full"))
    with pytest.raises(StartFailed, match="call is full"):
        await RecorderJob(context, settings, peer=peer).run()
    assert not settings.directory.exists()


@pytest.mark.documents("not-in-the-call-in-time")
async def test_nobody_in_the_call_within_the_limit_is_a_failed_start(
    peer, context, settings, monkeypatch, documented
) -> None:
    monkeypatch.setattr(job_module, "_START_TIMEOUT_S", 0.1)
    with pytest.raises(StartFailed) as late:
        await RecorderJob(context, settings, peer=peer).run()
    documented("not-in-the-call-in-time", str(late.value))


async def test_a_bad_token_shows_before_the_join(peer, api, context, settings, monkeypatch) -> None:
    async def refuse(channel_id: str) -> str:
        raise ApiError("GET filename: refused with HTTP 403", status=403, retryable=False)

    monkeypatch.setattr(api, "filename", refuse)
    with pytest.raises(StartFailed, match="403"):
        await RecorderJob(context, settings, peer=peer).run()


async def test_a_directory_that_cannot_be_made_is_a_failed_start(peer, context, settings) -> None:
    settings.directory.write_text("in the way")
    with pytest.raises(StartFailed, match=settings.job_id):
        await RecorderJob(context, settings, peer=peer).run()


async def test_refused_publication_keeps_everything(peer, api, context, settings) -> None:
    api.publish_error = ApiError("refused with HTTP 403", status=403, retryable=False)
    running = await _started(peer, api, context, settings)
    await peer.until_call_s(0.2)
    peer.emit(JobStopRequested())
    with pytest.raises(ApiError):
        await running
    kept = {path.name for path in settings.directory.iterdir()}
    assert kept == {"job.json", "recording.mp4", "publication.json", "reserve"}
    assert read_mp4(settings.directory / "recording.mp4").index_in_front
    document = json.loads((settings.directory / "job.json").read_text())
    assert settings.auth_token not in json.dumps(document)


@pytest.mark.documents("no-time-to-finish")
async def test_a_second_signal_keeps_everything_for_salvage(
    peer, api, context, settings, monkeypatch, documented
) -> None:
    never = asyncio.Event()

    async def hang(*arguments: object, **options: object) -> None:
        await never.wait()

    monkeypatch.setattr(api, "create_upload", hang)
    running = await _started(peer, api, context, settings)
    await peer.until_call_s(0.2)
    context.shutdown.request()
    await _until(lambda: (settings.directory / "recording.mp4").exists())
    context.shutdown.request()
    with pytest.raises(Interrupted) as hurried:
        await running
    documented("no-time-to-finish", str(hurried.value))
    assert (settings.directory / "recording.mp4").exists()


async def test_a_disk_that_fails_in_mid_call_costs_only_what_comes_after(
    peer, api, context, settings, monkeypatch
) -> None:
    write = Mp4Writer.write_sound

    def fail_later(writer: Mp4Writer, samples) -> None:
        if writer.samples > 48_000 * 3 // 2:
            raise Mp4Error("No space left on device")
        write(writer, samples)

    monkeypatch.setattr(Mp4Writer, "write_sound", fail_later)
    running = await _started(peer, api, context, settings)
    with pytest.raises(RecordingCutShort, match="No space left"):
        await running
    assert peer.left
    assert len(api.posts) == 1

"""The job from join to post, with a call and a plugin that the test plays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from callclient.errors import JoinRefused, SignalingFailed
from callclient.events import CallEnded, JobKind, JobStateChanged, JobStopRequested, Joined
from callclient.plugin_api import ApiError
from callclient.receive.tracks import TrackSource
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import Interrupted, JobContext, StartFailed
from jobs.status import StatusReporter
from jobs.transcriber import job as job_module
from jobs.transcriber.job import TranscriberJob
from jobs.transcriber.settings import TranscriberSettings

MODELS = Path(__file__).parents[3] / "models"
ID = "abcdefghijklmnopqrstuvwxy"


@pytest.fixture
def settings(tmp_path: Path) -> TranscriberSettings:
    return TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id=ID + "c",
        post_id=ID + "p",
        job_id=ID + "t",
        auth_token=ID + "s",
        data_dir=tmp_path,
        models_dir=MODELS,
        live_captions_on=True,
        publish_after_s=0,
    )


@pytest.fixture
async def context(api, settings) -> JobContext:
    return JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "transcribing"),
        shutdown=Shutdown(),
        log=get_logger(),
    )


async def _until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def _started(peer, api, job: TranscriberJob) -> asyncio.Task[None]:
    """The job, running and reported as started."""
    running = asyncio.create_task(job.run())
    peer.begin()
    await _until(lambda: api.statuses or running.done())
    if running.done():
        await running
    assert api.statuses == [("started", "")]
    return running


async def test_what_is_said_is_published_with_names_and_times(
    clips, peer, api, context, settings
) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    for name in ("alice", "bob"):
        peer.say(peer.add_voice(name), clips[name].packets(start_ns=10_000_000_000))
    await asyncio.sleep(0.3)
    peer.emit(JobStopRequested())
    await running
    assert peer.left
    (post,) = api.posts
    assert post == {
        "job_id": settings.job_id,
        "post_id": settings.post_id,
        "language": "en",
        "file_ids": ["file0", "file1"],
    }
    names = [name for name, _ in api.uploads]
    assert names == [f"Call_Town_Square_2026-01-31_10-05-09.{end}" for end in ("vtt", "txt")]
    cues = api.vtt.split("\n\n")[1:]
    assert len(cues) == 8
    assert cues[0].endswith("\n<v Bob Test>(Bob Test) hello alice")
    assert cues[0].startswith("00:00:10.5")
    assert sum("(Alice Test)" in cue for cue in cues) == 4
    assert context.metrics["segments_done"] == 8
    assert not settings.directory.exists()


async def test_captions_are_sent_while_people_speak(clips, peer, api, context, settings) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    track = peer.add_voice("bob")
    now_ns = asyncio.get_running_loop().time() * 1e9
    packets = clips["bob"].packets(start_ns=round(now_ns) - peer.zero_ns)[:110]
    for begin in range(0, len(packets), 5):
        peer.say(track, packets[begin : begin + 5])
        await asyncio.sleep(0.1)
    await _until(lambda: ("session-bob", "hello alice") in peer.captions)
    peer.emit(CallEnded("the host ended the call"))
    await running
    assert len(api.posts) == 1
    assert 0 < context.metrics["caption_final_lag_p95_s"] < 2.0


async def test_only_what_comes_after_the_start_of_the_recording_counts(
    clips, peer, api, context, settings
) -> None:
    job = TranscriberJob(context, settings, peer=peer)
    early = peer.add_voice("alice")
    peer.say(early, clips["alice"].packets(start_ns=-4_500_000_000))
    running = await _started(peer, api, job)
    peer.emit(JobStopRequested())
    await running
    # alice begins 4.5 s early: her first sentence is lost, half of the second, the others are there.
    assert "welcome" not in api.vtt
    assert "budget" in api.vtt
    assert "00:00:05.3" in api.vtt.split("\n\n")[-1]


async def test_screen_sound_is_not_transcribed(clips, peer, api, context, settings) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    track = peer.add_voice("alice", source=TrackSource.SCREEN_AUDIO)
    peer.say(track, clips["alice"].packets())
    peer.emit(JobStopRequested())
    await running
    assert api.uploads == []


async def test_silence_publishes_nothing_and_leaves_nothing(peer, api, context, settings) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    peer.add_voice("alice")
    peer.emit(JobStopRequested())
    await running
    assert api.uploads == []
    assert api.posts == []
    assert not settings.directory.exists()


async def test_a_speaker_without_profile_is_found_by_id_or_called_unknown(
    clips, peer, api, context, settings
) -> None:
    api.users["user-bob"] = replace(api.profiles.pop("session-bob"), first_name="", last_name="")
    del api.profiles["session-carol"]
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    for name in ("bob", "carol"):
        peer.say(peer.add_voice(name), clips[name].packets())
    await asyncio.sleep(0.2)
    peer.emit(JobStopRequested())
    await running
    assert "(bob) hello alice" in api.vtt
    assert "(Unknown speaker) goodbye" in api.vtt


async def test_a_lost_connection_costs_nothing_that_was_heard(
    clips, peer, api, context, settings
) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await asyncio.sleep(0.2)
    peer.fail(SignalingFailed("the WebSocket was away for more than 10 s"))
    await running
    assert len(api.posts) == 1
    assert "any question" in api.vtt


async def test_a_signal_ends_the_call_politely(clips, peer, api, context, settings) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await asyncio.sleep(0.2)
    context.shutdown.request()
    await running
    assert len(api.posts) == 1


async def test_a_second_signal_leaves_everything_on_disk(
    clips, peer, api, context, settings
) -> None:
    waiting = replace(settings, publish_after_s=60)
    running = await _started(peer, api, TranscriberJob(context, waiting, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await asyncio.sleep(0.2)
    context.shutdown.request()
    await _until(lambda: (settings.directory / "transcript.txt").exists())
    context.shutdown.request()
    with pytest.raises(Interrupted):
        await running
    assert api.posts == []
    assert (settings.directory / "user-bob_track-bob.ogg").exists()


async def test_a_refused_post_keeps_the_files(clips, peer, api, context, settings) -> None:
    api.publish_error = ApiError("POST: refused with HTTP 403", status=403, retryable=False)
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    peer.emit(JobStopRequested())
    with pytest.raises(ApiError):
        await running
    kept = {path.name for path in settings.directory.iterdir()}
    assert {"transcript.vtt", "transcript.txt", "job.json", "publication.json"} <= kept


async def test_no_secret_and_no_speech_is_readable_by_others(
    clips, peer, api, context, settings
) -> None:
    api.publish_error = ApiError("POST: refused with HTTP 403", status=403, retryable=False)
    secret = replace(settings, transcribe_api_options='{"KEY": "azure-key"}')
    running = await _started(peer, api, TranscriberJob(context, secret, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await asyncio.sleep(0.2)
    peer.emit(JobStopRequested())
    with pytest.raises(ApiError):
        await running
    for path in settings.directory.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name
        content = path.read_bytes()
        assert settings.auth_token.encode() not in content
        assert b"azure-key" not in content


async def test_a_refused_join_fails_the_start(peer, context, settings) -> None:
    running = asyncio.create_task(TranscriberJob(context, settings, peer=peer).run())
    await asyncio.sleep(0)
    peer.fail(JoinRefused("no job in progress"))
    with pytest.raises(StartFailed, match="no job in progress"):
        await running


@pytest.mark.parametrize(
    ("joined", "reason"),
    [(False, "no connection within"), (True, "the recording did not start within")],
)
async def test_no_recording_in_time_fails_the_start_and_leaves(
    peer, context, settings, monkeypatch: pytest.MonkeyPatch, joined: bool, reason: str
) -> None:
    monkeypatch.setattr(job_module, "_START_TIMEOUT_S", 0.2)
    if joined:
        peer.emit(Joined("own-session"))
    with pytest.raises(StartFailed, match=reason):
        await TranscriberJob(context, settings, peer=peer).run()
    assert peer.left


async def test_a_recording_that_failed_fails_the_start_at_once(peer, context, settings) -> None:
    peer.emit(JobStateChanged(JobKind.RECORDING, 900, 0, 2000, "no encoder"))
    with pytest.raises(StartFailed, match="over before it began"):
        await TranscriberJob(context, settings, peer=peer).run()


async def test_a_stop_before_the_start_is_obeyed_quietly(peer, api, context, settings) -> None:
    peer.emit(JobStopRequested())
    await TranscriberJob(context, settings, peer=peer).run()
    assert peer.left
    assert api.statuses == []

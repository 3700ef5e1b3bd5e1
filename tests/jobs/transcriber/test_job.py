"""The job from join to post, with a call and a plugin that the test plays."""

from __future__ import annotations

import asyncio
import os
import time
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
from jobs.transcriber import models
from jobs.transcriber.engines.base import EngineError
from jobs.transcriber.job import TranscriberJob
from jobs.transcriber.outcome import NothingUnderstood
from jobs.transcriber.settings import TranscriberSettings

MODELS = Path(__file__).parents[3] / "models"
ID = "abcdefghijklmnopqrstuvwxy"
CUE_S = 0.5
"""How far a cue's time may lie from the word's: the model's own accuracy."""


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
    async with asyncio.timeout(25):
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
    await peer.until_taken()
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
    # How long it takes is for virtual time (test_live_captions.py); it cannot be longer than all this took.
    first_said_ns = peer.zero_ns + packets[0].call_ns + round(clips["bob"].sentences[0].end_s * 1e9)
    assert context.metrics["caption_final_lag_p95_s"] > 0
    assert context.metrics["caption_final_lag_p95_s"] < (time.monotonic_ns() - first_said_ns) / 1e9


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


async def test_a_start_told_far_in_the_future_is_a_wrong_clock_and_loses_nothing(
    clips, peer, api, context, settings
) -> None:
    told_zero_ns = peer.zero_ns
    peer.zero_ns += 3600 * 1_000_000_000  # the server's clock, an hour ahead
    job = TranscriberJob(context, replace(settings, live_captions_on=False), peer=peer)
    running = await _started(peer, api, job)
    peer.zero_ns = told_zero_ns
    now_ns = time.monotonic_ns() - told_zero_ns
    peer.say(peer.add_voice("bob"), clips["bob"].packets(start_ns=now_ns))
    await peer.until_taken()
    peer.emit(CallEnded("the host ended the call"))
    await running
    assert "hello alice" in api.vtt


async def test_without_a_recording_time_begins_with_the_join(
    clips, peer, api, context, settings
) -> None:
    alone = replace(settings, without_recording=True, live_captions_on=False)
    running = asyncio.create_task(TranscriberJob(context, alone, peer=peer).run())
    before_ns = time.monotonic_ns() - peer.zero_ns
    peer.emit(Joined("own-session"))
    await _until(lambda: api.statuses or running.done())
    joined_ns = time.monotonic_ns() - peer.zero_ns
    peer.say(peer.add_voice("bob"), clips["bob"].packets(start_ns=joined_ns + 5_000_000_000))
    await peer.until_taken()
    peer.emit(CallEnded("the host ended the call"))
    await running
    begin = api.vtt.split("\n")[2]
    said_s = clips["bob"].sentences[0].start_s
    minutes, seconds = begin.partition(" ")[0].split(":")[1:]
    # It joined at a moment between the two.
    earliest_s, latest_s = 5 + said_s, 5 + said_s + (joined_ns - before_ns) / 1e9
    assert earliest_s - CUE_S <= 60 * int(minutes) + float(seconds) <= latest_s + CUE_S


async def test_a_full_disk_delays_neither_transcript_nor_post(
    clips, peer, api, context, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)  # of the captures alone
    quiet = replace(settings, live_captions_on=False)
    running = await _started(peer, api, TranscriberJob(context, quiet, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    peer.emit(JobStopRequested())
    async with asyncio.timeout(20):
        await running
    for sentence in clips["bob"].sentences:
        assert sentence.text in api.vtt
    assert context.metrics["capture_write_errors"] > 0


async def test_what_is_wished_is_kept_after_the_post(clips, peer, api, context, settings) -> None:
    wishing = replace(settings, artifacts="json,srt", keep_audio=True, live_captions_on=False)
    running = await _started(peer, api, TranscriberJob(context, wishing, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    peer.emit(JobStopRequested())
    await running
    kept = {p.relative_to(settings.directory).as_posix() for p in settings.directory.rglob("*.*")}
    assert kept == {
        "artifacts/manifest.jsonl",
        "artifacts/transcript.json",
        "artifacts/transcript.srt",
        "artifacts/audio/user-bob_track-bob.ogg",
        "artifacts/audio/user-bob_track-bob.ogg.index",
        "artifacts/audio/speakers.json",
        "artifacts/audio/call.json",
    }


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
    await peer.until_taken()
    peer.emit(JobStopRequested())
    await running
    assert "(bob) hello alice" in api.vtt
    assert "(Unknown speaker) goodbye" in api.vtt


async def test_a_lost_connection_costs_nothing_that_was_heard(
    clips, peer, api, context, settings
) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    peer.fail(SignalingFailed("the WebSocket was away for more than 10 s"))
    await running
    assert len(api.posts) == 1
    assert "any question" in api.vtt


async def test_a_signal_ends_the_call_politely(clips, peer, api, context, settings) -> None:
    running = await _started(peer, api, TranscriberJob(context, settings, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    context.shutdown.request()
    await running
    assert len(api.posts) == 1


async def test_a_second_signal_leaves_everything_on_disk(
    clips, peer, api, context, settings
) -> None:
    waiting = replace(settings, publish_after_s=60)
    running = await _started(peer, api, TranscriberJob(context, waiting, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
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


class _Deaf:
    """The bundled model, which understands nothing when it comes to it."""

    def __init__(self, engine) -> None:
        self.info = engine.info
        self.detect_language = engine.detect_language
        self.closed = False

    def transcribe(self, audio, *, language):
        raise EngineError("on purpose")

    def close(self) -> None:
        self.closed = True


async def test_a_transcript_without_any_text_is_not_posted_and_everything_stays(
    clips, peer, api, context, settings, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = _Deaf(engine)
    monkeypatch.setattr(models, "start_engine", lambda *_, **__: deaf)
    silent = replace(settings, live_captions_on=False)
    running = await _started(peer, api, TranscriberJob(context, silent, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    peer.emit(JobStopRequested())
    with pytest.raises(NothingUnderstood, match=r"none of \d+ pieces .* on purpose"):
        await running
    assert (api.uploads, api.posts) == ([], [])
    kept = {path.name for path in settings.directory.iterdir()}
    assert "user-bob_track-bob.ogg" in kept
    assert "transcript.json" not in kept, "salvage makes another"
    assert deaf.closed


async def test_the_recording_s_post_has_its_time_to_come_first(
    clips, peer, api, context, settings
) -> None:
    running = await _started(
        peer, api, TranscriberJob(context, replace(settings, publish_after_s=1), peer=peer)
    )
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    over_s = time.monotonic()
    peer.emit(JobStopRequested())
    await _until(lambda: api.posts)
    assert time.monotonic() - over_s >= 1.0
    await running


async def test_the_models_are_gone_before_the_result_is_published(
    clips, peer, api, context, settings, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Deaf(engine)
    held.transcribe, held.hypothesise = engine.transcribe, engine.hypothesise
    monkeypatch.setattr(models, "start_engine", lambda *_, **__: held)
    running = await _started(
        peer, api, TranscriberJob(context, replace(settings, publish_after_s=60), peer=peer)
    )
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
    assert not held.closed
    context.shutdown.request()
    await _until(lambda: (settings.directory / "transcript.txt").exists())
    assert held.closed
    context.shutdown.request()
    with pytest.raises(Interrupted):
        await running


async def test_no_secret_and_no_speech_is_readable_by_others(
    clips, peer, api, context, settings
) -> None:
    api.publish_error = ApiError("POST: refused with HTTP 403", status=403, retryable=False)
    secret = replace(settings, transcribe_api_options='{"KEY": "azure-key"}')
    running = await _started(peer, api, TranscriberJob(context, secret, peer=peer))
    peer.say(peer.add_voice("bob"), clips["bob"].packets())
    await peer.until_taken()
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
    [
        pytest.param(
            False,
            "no connection within",
            marks=pytest.mark.documents("no-connection-in-time"),
        ),
        pytest.param(
            True,
            "the recording did not start within",
            marks=pytest.mark.documents("the-recording-did-not-start"),
        ),
    ],
)
async def test_no_recording_in_time_fails_the_start_and_leaves(
    peer, context, settings, monkeypatch: pytest.MonkeyPatch, joined: bool, reason: str, documented
) -> None:
    monkeypatch.setattr(job_module, "_START_TIMEOUT_S", 0.2)
    if joined:
        peer.emit(Joined("own-session"))
    with pytest.raises(StartFailed, match=reason) as late:
        await TranscriberJob(context, settings, peer=peer).run()
    documented.marked(str(late.value))
    assert peer.left


@pytest.mark.documents("the-recording-was-over-before-it-began")
async def test_a_recording_that_failed_fails_the_start_at_once(
    peer, context, settings, documented
) -> None:
    peer.emit(JobStateChanged(JobKind.RECORDING, 900, 0, 2000, "no encoder"))
    with pytest.raises(StartFailed) as over:
        await TranscriberJob(context, settings, peer=peer).run()
    documented("the-recording-was-over-before-it-began", str(over.value))


async def test_a_stop_before_the_start_is_obeyed_quietly(peer, api, context, settings) -> None:
    peer.emit(JobStopRequested())
    await TranscriberJob(context, settings, peer=peer).run()
    assert peer.left
    assert api.statuses == []

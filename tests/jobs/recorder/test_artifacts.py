"""Files kept beside a recording: made when the post surely exists, each by itself, and never at its cost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from callclient.events import CallStateReceived, JobStopRequested
from callclient.plugin_api import ApiError
from foundation.file_manifest import entries_of
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs import job_directory
from jobs.harness import JobContext
from jobs.recorder import __main__ as command
from jobs.recorder import artifacts, salvage
from jobs.recorder.artifacts import ARTIFACTS_DIR, make_artifacts
from jobs.recorder.job import RecorderJob
from jobs.recorder.moments import MOMENTS_NAME, Kind, Moment
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer, finish_mp4
from jobs.recorder.poster import poster_at_s
from jobs.status import StatusReporter
from offloader.backends.process_files import has_unpublished
from offloader.backends.process_output import list_artifacts
from testbed.analysis.media import iter_pictures, luma, read_sound

MOMENTS = (
    '{"at_s": 0, "kind": "people", "count": 2}\n'
    '{"at_s": 4, "kind": "screen", "name": "Ann"}\n'
    '{"at_s": 8, "kind": "screen_over"}\n'
)


def record(path: Path, settings, *, seconds: int = 10) -> None:
    """Every second a little brighter."""
    writer = Mp4Writer(path, settings)
    for number in range(seconds * 2):
        planes = np.full((1080, 1280), 128, np.uint8)
        planes[:720] = 40 + 16 * (number // 2)
        writer.write_picture(planes, ticks=number * 45_000, duration=45_000)
        while writer.samples < (number + 1) * 24_000:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()


@pytest.fixture
def wished(settings):
    settings = replace(settings, artifacts="chapters,poster,speakers")
    job_directory.create(settings, base_name="Call_X")
    return settings


@pytest.fixture
def recording(wished) -> Path:
    record(wished.directory / "x.mp4", wished)
    finish_mp4(wished.directory / "x.mp4", wished.directory / "recording.mp4")
    (wished.directory / MOMENTS_NAME).write_text(MOMENTS)
    return wished.directory / "recording.mp4"


def test_the_wished_files_are_made_of_the_finished_recording(wished, recording: Path) -> None:
    make_artifacts(wished, recording)
    kept = wished.directory / ARTIFACTS_DIR
    assert {path.name for path in kept.iterdir()} == {"chapters.json", "chapters.vtt", "poster.jpg"}
    found = json.loads((kept / "chapters.json").read_text())["chapters"]
    assert [row["title"] for row in found] == ["Call", "Screen of Ann", "Call"]
    assert "00:00:04.000 --> 00:00:08.000\nScreen of Ann" in (kept / "chapters.vtt").read_text()
    with Image.open(kept / "poster.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (1280, 720))
        # The picture two seconds into the screen share: second 6, as full range grey.
        grey = (40 + 16 * 6 - 16) * 255 / 219
        assert np.asarray(image.convert("L")).mean() == pytest.approx(grey, abs=3)


def test_what_is_not_wished_is_not_made(wished, recording: Path) -> None:
    make_artifacts(replace(wished, artifacts=""), recording)
    assert not (wished.directory / ARTIFACTS_DIR).exists()
    make_artifacts(replace(wished, artifacts="chapters"), recording)
    assert not (wished.directory / ARTIFACTS_DIR / "poster.jpg").exists()


def test_one_that_fails_is_skipped_and_the_others_are_made(
    wished, recording: Path, monkeypatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no picture today")

    monkeypatch.setattr(artifacts, "_poster", fail)
    make_artifacts(wished, recording)
    names = {path.name for path in (wished.directory / ARTIFACTS_DIR).iterdir()}
    assert names == {"chapters.json", "chapters.vtt"}


def test_they_are_tried_once(wished, recording: Path, monkeypatch) -> None:
    class Killed(BaseException):
        """The process is gone."""

    def crash(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(artifacts, "_chapters", crash)
    with pytest.raises(Killed):
        make_artifacts(wished, recording)
    make_artifacts(wished, recording)  # would end the process again
    assert list((wished.directory / ARTIFACTS_DIR).iterdir()) == []


def test_a_recording_that_cannot_be_read_raises_nothing(wished) -> None:
    (wished.directory / "recording.mp4").write_bytes(b"nothing")
    make_artifacts(wished, wished.directory / "recording.mp4")


@pytest.mark.parametrize(
    ("moments", "at_s"),
    [
        ([], 2),
        ([Moment(30, Kind.PEOPLE, count=3), Moment(50, Kind.PEOPLE, count=4)], 52),
        ([Moment(99, Kind.PEOPLE, count=3)], 99.5),
        ([Moment(5, Kind.PEOPLE, count=9), Moment(30, Kind.SCREEN)], 32),
        ([Moment(30, Kind.SCREEN), Moment(31, Kind.SCREEN_OVER), Moment(40, Kind.SCREEN)], 30.5),
        ([Moment(200, Kind.SCREEN)], 2),
    ],
)
def test_the_poster_shows_the_first_screen_else_the_fullest_grid(
    moments: list[Moment], at_s: float
) -> None:
    assert poster_at_s(moments, duration_s=100) == pytest.approx(at_s)


@pytest.fixture
async def context(api, settings) -> JobContext:
    return JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )


async def _recorded(peer, api, context, settings, opus) -> Path:
    """A call of a second and a half in which alice beeps; the uploaded file."""
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    async with asyncio.timeout(25):
        while not (api.statuses or running.done()):
            await asyncio.sleep(0.01)
    voice = peer.add_voice("alice")
    peer.say(voice, opus(0.2, start_s=0.2))
    peer.emit(CallStateReceived())
    await peer.until_call_s(0.8)
    peer.say(voice, opus(0.2, start_s=1.0))
    await peer.until_call_s(1.5)
    peer.emit(JobStopRequested())
    await running
    path = settings.data_dir / "uploaded.mp4"
    path.write_bytes(api.uploads[0][1])
    return path


async def test_a_published_job_leaves_the_wished_files_and_nothing_else(
    peer, api, context, settings, opus
) -> None:
    settings = replace(
        settings, artifacts="chapters,poster,speakers", data_dir=settings.data_dir / "data"
    )
    uploaded = await _recorded(peer, api, context, settings, opus)
    assert [path.name for path in settings.directory.iterdir()] == [ARTIFACTS_DIR], (
        "a job.json would be taken for unfinished business"
    )
    assert not has_unpublished(settings.data_dir.parent)
    offered = [file.name for file in list_artifacts(settings.data_dir)]
    assert f"{settings.job_id}/{ARTIFACTS_DIR}/poster.jpg" in offered
    kept = settings.directory / ARTIFACTS_DIR
    names = {path.name for path in kept.iterdir()}
    made = {"chapters.json", "chapters.vtt", "poster.jpg", "speakers.json", "speaker-01.ogg"}
    assert names == {*made, "manifest.jsonl"}
    (entry,) = entries_of((kept / "manifest.jsonl").read_bytes())
    assert {file["name"] for file in entry["files"]} == {f"{ARTIFACTS_DIR}/{name}" for name in made}
    speaker = json.loads((kept / "speakers.json").read_text())["speakers"][0]
    assert (speaker["session_id"], speaker["user_id"]) == ("session-alice", "user-alice")
    assert speaker["name"]
    own, mix = (_onsets(path) for path in (kept / "speaker-01.ogg", uploaded))
    assert own == pytest.approx([0.2065, 1.0065], abs=0.02)
    assert own == pytest.approx(mix, abs=0.03), "they lie beside the recording"


async def test_without_wishes_a_published_job_leaves_nothing(
    peer, api, context, settings, opus
) -> None:
    await _recorded(peer, api, context, settings, opus)
    assert not settings.directory.exists()


async def test_a_recording_of_sound_alone_has_a_still_picture_and_all_of_the_sound(
    peer, api, context, settings, opus
) -> None:
    path = await _recorded(peer, api, context, replace(settings, audio_only=True), opus)
    assert _onsets(path) == pytest.approx([0.2065, 1.0065], abs=0.03)
    pictures = [luma(frame).astype(int) for _, frame in iter_pictures(path)]
    assert pictures[0].shape == (720, 1280)
    assert all(np.abs(picture - pictures[0]).max() <= 8 for picture in pictures)
    assert path.stat().st_size < 150_000


async def test_a_frame_rate_cap_holds(peer, api, context, settings, opus) -> None:
    path = await _recorded(peer, api, context, replace(settings, frame_rate=2), opus)
    with av.open(str(path)) as container:
        times = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.pts is not None]
    assert len(times) <= 2 * times[-1] + 3, "on average; two may be near to each other"


async def test_artifacts_wait_for_the_post(peer, api, context, settings, opus, monkeypatch) -> None:
    settings = replace(settings, artifacts="poster")
    api.publish_error = ApiError("refused with HTTP 403", status=403, retryable=False)
    with pytest.raises(ApiError):
        await _recorded(peer, api, context, settings, opus)
    assert not (settings.directory / ARTIFACTS_DIR).exists()
    api.publish_error = None
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setenv("AUTH_TOKEN", settings.auth_token)
    assert await asyncio.to_thread(command.main, ["salvage", str(settings.directory)]) == 0
    assert len(api.posts) == 1
    assert [path.name for path in settings.directory.iterdir()] == [ARTIFACTS_DIR]
    assert (settings.directory / ARTIFACTS_DIR / "poster.jpg").exists()


def _onsets(path: Path) -> list[float]:
    sound = read_sound(path, rate_hz=16_000)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.1) / 16_000 + sound.start_s
    return [float(t) for t in loud[np.diff(loud, prepend=-1) > 0.2]]


async def test_a_dead_job_s_chapters_are_in_what_is_salvaged(
    api, settings, monkeypatch, tmp_path: Path
) -> None:
    job_directory.create(settings, base_name="Call_X")
    record(settings.directory / "recording.part.mp4", settings)
    (settings.directory / MOMENTS_NAME).write_text(MOMENTS)
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setenv("AUTH_TOKEN", settings.auth_token)
    assert await asyncio.to_thread(command.main, ["salvage", str(settings.directory)]) == 0
    (tmp_path / "x.mp4").write_bytes(api.uploads[0][1])
    with av.open(str(tmp_path / "x.mp4")) as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
    assert titles == ["Call", "Screen of Ann", "Call"]

"""Whatever goes wrong in the media thread, what was recorded is published, and pieces cost pieces only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import structlog

from callclient.events import CallStateReceived, JobStopRequested
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import JobContext, StartFailed
from jobs.recorder.compositor import Compositor, View
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.drawing import chips, painter
from jobs.recorder.inbox import SceneChange, TrackFrame
from jobs.recorder.job import RecorderJob, RecordingCutShort
from jobs.recorder.layout import grid
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.mixer import Mixer
from jobs.recorder.mp4 import Mp4Error, Mp4Writer
from jobs.recorder.outcome import complete_file
from jobs.recorder.planes import split
from jobs.recorder.recording import Recording, RecordingDeaf
from jobs.recorder.scene import Notice, Person, Scene, Tile
from jobs.recorder.settings import MP4_NAME, PART_NAME
from jobs.recorder.watchdogs import Watchdogs
from jobs.status import StatusReporter
from testbed.analysis.media import iter_pictures, luma, read_sound
from testbed.analysis.mp4_structure import read_mp4

ZERO_NS = 7_000_000_000
MINUTE = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
SECOND_NS = 1_000_000_000
CLOSE_BEHIND_NS = 50_000_000
"""The recording's distance from the call in these tests: faults come soon."""


def tile(name: str) -> Tile:
    return Tile(f"s-{name}", Person(f"u-{name}", name), False, None, False, 0)


TWO = Scene((tile("ann"), tile("ben")), 2)


def bright_pixels(planes: np.ndarray, index: int) -> int:
    """Of one of two tiles: its name, its face."""
    box = grid(2, width=1280, height=720).boxes[index]
    shown = split(planes)[0][box.top : box.bottom, box.left : box.right]
    return int((shown > 140).sum())


def fail(*arguments: object, **options: object) -> None:
    raise RuntimeError("Ann Example said something")


@pytest.fixture
def ann_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose tile was tried, in order."""
    draw, tried = painter.draw_tile, []

    def draw_tile(look):
        tried.append(look.person.name)
        if look.person.name == "ann":
            fail()
        return draw(look)

    monkeypatch.setattr(painter, "draw_tile", draw_tile)
    return tried


def test_a_tile_that_cannot_be_drawn_costs_that_tile_and_is_tried_again_in_the_next_minute(
    ann_cannot_be_drawn: list[str],
) -> None:
    mishaps = Mishaps()
    compositor = Compositor(1280, 720, mishaps=mishaps)
    for _ in range(3):
        planes = compositor.compose(View(TWO, frozenset(), MINUTE))
    assert bright_pixels(planes, 0) == 0
    assert bright_pixels(planes, 1) > 100
    assert (mishaps.count, ann_cannot_be_drawn) == (1, ["ann", "ben"]), "once is enough"
    compositor.compose(View(TWO, frozenset(), MINUTE + timedelta(minutes=1)))
    assert (mishaps.count, ann_cannot_be_drawn) == (2, ["ann", "ben", "ann"])


def test_a_chip_that_cannot_be_drawn_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chips, "draw_chip", fail)
    noticed = replace(TWO, notices=(Notice("host", "s-ann", 10**12, name="Ann Example"),))
    mishaps = Mishaps()
    planes = Compositor(1280, 720, mishaps=mishaps).compose(View(noticed, frozenset(), MINUTE))
    assert bright_pixels(planes, 1) > 100
    assert mishaps.count == 1


@pytest.mark.documents("a-part-of-a-job-that-fails")
def test_a_mishap_is_told_once_per_kind_without_the_error_s_words(documented) -> None:
    mishaps = Mishaps()
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            try:
                fail()
            except RuntimeError as error:
                mishaps.note("drawing", error)
    (line,) = told
    assert mishaps.count == 3
    documented("a-part-of-a-job-that-fails", line["event"])
    assert (line["event"], line["part"], line["error"]) == (
        *("recording.mishap", "drawing", "RuntimeError"),
    )
    assert "test_mishaps.py:" in line["at"]
    assert "Ann" not in str(told)


@pytest.fixture
def recording(tmp_path: Path, settings) -> Recording:
    settings.directory.mkdir()
    writer = Mp4Writer(settings.directory / PART_NAME, settings)
    return Recording(
        writer,
        Compositor(1280, 720),
        settings,
        zero_ns=ZERO_NS,
        zero_utc=MINUTE,
        decoder=LocalDecoder(),
    )


def record(recording: Recording, settings, seconds: float) -> Path:
    for ms in range(0, round(seconds * 1000), 100):
        recording.advance(ZERO_NS + ms * 1_000_000)
    recording.finish(ZERO_NS + round(seconds * 1e9))
    return complete_file(settings.directory)


VOICE = RemoteTrack(
    track_id="voice_ann", session_id="s-ann", source=TrackSource.VOICE, codec=Codec.OPUS
)
SCREEN = RemoteTrack(
    track_id="screen_ann", session_id="s-ann", source=TrackSource.SCREEN, codec=Codec.VP8
)


@pytest.mark.parametrize(
    "broken",
    [
        "jobs.recorder.compositor.Compositor.compose",
        "jobs.recorder.drawing.painter.Painter.grid",
        "jobs.recorder.picture_line.PictureLine._current_view",
        "jobs.recorder.picture_line.PictureLine._apply",
        "jobs.recorder.videos.Videos.take",
        "jobs.recorder.videos.Videos.show_alike",
    ],
)
def test_pictures_that_cannot_be_made_cost_no_sound_and_come_back(
    recording, settings, audio_frames, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    recording.take(SceneChange(ZERO_NS, TWO))
    for frame in audio_frames(0.5, zero_ns=ZERO_NS + SECOND_NS):
        recording.take(TrackFrame(VOICE, frame))
    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        recording.advance(ZERO_NS + 2 * SECOND_NS)
    assert recording.figures()["mishaps"] > 0
    recording.take(SceneChange(ZERO_NS + 2_500_000_000, TWO))
    path = record(recording, settings, 3.0)
    assert abs(read_sound(path).between(1.1, 1.4).samples).max() > 0.2
    assert read_mp4(path).video_duration_s == pytest.approx(3.0, abs=0.05)
    *_, (_, last) = iter_pictures(path)
    assert (luma(last) > 140).sum() > 200, "both names"


def test_a_packet_that_cannot_be_taken_costs_that_packet(
    recording, settings, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = audio_frames(0.5, zero_ns=ZERO_NS)
    with monkeypatch.context() as patch:
        patch.setattr("jobs.recorder.voice.VoiceTrack.push", fail)
        recording.take(TrackFrame(VOICE, first))
    for frame in rest:
        recording.take(TrackFrame(VOICE, frame))
    path = record(recording, settings, 1.0)
    assert abs(read_sound(path).between(0.1, 0.4).samples).max() > 0.2
    assert recording.figures()["mishaps"] == 1


def _hear(recording: Recording, frame: EncodedFrame, seconds: float, *, began_s: float = 0) -> None:
    for number in range(round(seconds * 50)):
        at_ns = ZERO_NS + round(began_s * SECOND_NS) + number * 20_000_000
        recording.take(TrackFrame(VOICE, replace(frame, time_ns=at_ns)))


def test_a_recording_in_which_no_voice_can_be_taken_any_more_ends(
    recording, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = audio_frames(0.1)[0]
    with monkeypatch.context() as patch:
        patch.setattr("jobs.recorder.voice.VoiceTrack.push", fail)
        _hear(recording, frame, 9.9)
    _hear(recording, frame, 0.02, began_s=9.9)  # begins anew
    monkeypatch.setattr("jobs.recorder.voice.VoiceTrack.push", fail)
    _hear(recording, frame, 9.9, began_s=10)
    recording.take(SceneChange(ZERO_NS, TWO))
    with pytest.raises(RecordingDeaf):
        _hear(recording, frame, 0.2, began_s=19.9)


def test_two_packets_with_a_long_mute_between_them_are_no_ten_seconds(
    recording, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.recorder.voice.VoiceTrack.push", fail)
    for began_s in (0, 3600):
        _hear(recording, audio_frames(0.1)[0], 0.02, began_s=began_s)


def test_packets_that_are_broken_end_no_recording(recording, audio_frames) -> None:
    first = audio_frames(0.1)[0]
    broken = replace(first, payload=bytes([first.payload[0] | 3, 0x41]))  # ends too soon
    _hear(recording, broken, 12)
    assert recording.figures()["audio_packets_broken"] == 600


def test_a_screen_that_cannot_be_scaled_costs_its_pictures_and_not_the_recording(
    recording, settings, vp8, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = vp8()
    recording.take(SceneChange(ZERO_NS, replace(TWO, screen_session_id="s-ann")))
    for number in range(10):
        frame: EncodedFrame = source.frame(200, ZERO_NS + number * 100_000_000, key=number == 0)
        recording.take(TrackFrame(SCREEN, frame))
    with monkeypatch.context() as patch:
        patch.setattr("jobs.recorder.planes.Converter.scaled", fail)
        recording.advance(ZERO_NS + 500_000_000)
    path = record(recording, settings, 2.0)
    *_, (_, last) = iter_pictures(path)
    assert luma(last)[300:400, 600:700].mean() > 150


def test_companions_that_fail_cost_nothing_of_the_recording(
    tmp_path: Path, settings, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("push", "note", "flush"):
        monkeypatch.setattr(f"jobs.recorder.speaker_tracks.SpeakerTracks.{method}", fail)
    wished = replace(settings, artifacts="speakers")
    settings.directory.mkdir()
    writer = Mp4Writer(settings.directory / PART_NAME, wished)
    recording = Recording(
        writer,
        Compositor(1280, 720),
        wished,
        zero_ns=ZERO_NS,
        zero_utc=MINUTE,
        decoder=LocalDecoder(),
    )
    recording.take(SceneChange(ZERO_NS, TWO))
    for frame in audio_frames(0.5, zero_ns=ZERO_NS):
        recording.take(TrackFrame(VOICE, frame))
    path = record(recording, settings, 1.0)
    assert abs(read_sound(path).between(0.1, 0.4).samples).max() > 0.2


def test_chapters_that_cannot_be_written_are_left_out_of_the_file(
    recording, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.take(SceneChange(ZERO_NS, TWO))
    recording.take(SceneChange(ZERO_NS + SECOND_NS, replace(TWO, screen_session_id="s-ann")))
    for second in (0, 1, 2, 3, 4):
        recording.advance(ZERO_NS + second * SECOND_NS)
    recording.finish(ZERO_NS + 5 * SECOND_NS)
    monkeypatch.setattr("jobs.recorder.mp4._chapter", fail)
    path = complete_file(settings.directory, chapters=True)
    assert read_mp4(path).index_in_front


def test_a_recording_that_cannot_be_copied_is_published_as_it_was_written(
    recording, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.advance(ZERO_NS + 2 * SECOND_NS)
    recording.finish(ZERO_NS + 2 * SECOND_NS)
    monkeypatch.setattr("jobs.recorder.mp4.finish_mp4", fail)
    path = complete_file(settings.directory)
    assert path.name == MP4_NAME
    times = [at_s for at_s, _ in iter_pictures(path)]
    assert times[-1] > 1.7


def test_what_cannot_be_read_at_all_is_kept(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.directory.mkdir()
    part = settings.directory / PART_NAME
    boxes = b"".join(
        (8 + 100).to_bytes(4, "big") + kind + bytes(100) for kind in (b"moov", b"mdat")
    )
    part.write_bytes(boxes)
    with pytest.raises(Mp4Error):
        complete_file(settings.directory)
    assert part.read_bytes() == boxes


@pytest.fixture
async def context(api, settings) -> JobContext:
    return JobContext(
        settings=settings,
        api=api,
        status=StatusReporter(api, settings, "recording"),
        shutdown=Shutdown(),
        log=get_logger(),
    )


def _after(method, condition):
    """`method`, until `condition(self)` holds: then it fails."""

    def broken(self, *arguments, **options):
        if condition(self):
            fail()
        return method(self, *arguments, **options)

    return broken


def _under_way(writer):
    """Some pictures and 0.6 s of sound are in the file."""
    return writer.frames > 1 and writer.samples > 30_000


# Of each: what fails, when, and how much of the recording was there by then, s.
STAGES = {
    "mixing": (Mixer, "take", lambda mixer: mixer.position > 30_000, 0.4),
    "encoding pictures": (Mp4Writer, "write_picture", _under_way, 0.4),
    "encoding sound": (Mp4Writer, "write_sound", _under_way, 0.4),
    "writing": (Mp4Writer, "_mux_sound", _under_way, 0.4),
    "watching": (Watchdogs, "look", lambda dogs: True, 0.05),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.documents("a-job-that-cannot-go-on/4")
async def test_a_recording_that_breaks_is_published_and_the_people_in_the_call_are_told(
    peer,
    api,
    context,
    settings,
    opus,
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    documented,
) -> None:
    owner, name, condition, at_least_s = STAGES[stage]
    monkeypatch.setattr(owner, name, _after(getattr(owner, name), condition))
    monkeypatch.setattr("jobs.recorder.recording.LATENCY_NS", CLOSE_BEHIND_NS)
    monkeypatch.setattr("jobs.recorder.vigil._LOOK_EVERY_S", 0.3)
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    async with asyncio.timeout(25):
        while not api.statuses:
            await asyncio.sleep(0.01)
    peer.say(peer.add_voice("alice"), opus(0.3, start_s=0.1))
    peer.emit(CallStateReceived())
    with structlog.testing.capture_logs() as lines, pytest.raises(RecordingCutShort) as caught:
        await running
    documented(
        "a-job-that-cannot-go-on/4",
        next(line["event"] for line in lines if line["log_level"] == "error"),
    )
    assert "Ann" not in str(caught.value), "an error's words may hold names"
    told = "the recording ended early: the recorder met an unexpected error"
    assert api.statuses == [("started", ""), ("failed", f"{told} (job {settings.job_id})")]
    assert len(api.posts) == 1
    ((_, content),) = api.uploads
    path = tmp_path / "uploaded.mp4"
    path.write_bytes(content)
    assert read_mp4(path).audio_duration_s > at_least_s
    assert not settings.directory.exists()


async def test_what_goes_wrong_with_the_call_s_events_is_in_the_figures_too(
    peer, api, context, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.recorder.watcher.build_scene", fail)
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    async with asyncio.timeout(25):
        while not api.statuses:
            await asyncio.sleep(0.01)
    peer.emit(CallStateReceived())
    peer.emit(JobStopRequested())
    await running
    assert context.metrics["mishaps"] > 0


@pytest.mark.documents("a-recorder-that-met-something-unexpected", "a-job-that-cannot-go-on/3")
async def test_a_recorder_that_breaks_before_it_began_says_so(
    peer, api, context, settings, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    monkeypatch.setattr("jobs.recorder.framing.picture_source", fail)
    running = asyncio.create_task(RecorderJob(context, settings, peer=peer).run())
    peer.begin()
    with structlog.testing.capture_logs() as told, pytest.raises(StartFailed) as unexpected:
        await running
    documented("a-recorder-that-met-something-unexpected", str(unexpected.value))
    [line] = [line for line in told if line["log_level"] == "error"]
    documented("a-job-that-cannot-go-on/3", line["event"])
    assert not settings.directory.exists()

"""What an admin wishes of recordings by the plugin's environment, through the whole product.

The files beside the recording are fetched over the job service's own routes and judged by what is in them.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from foundation.file_manifest import digest_of, entries_of, is_listed
from testbed.analysis.call import Call
from testbed.analysis.marks import find_beeps
from testbed.analysis.media import iter_pictures, read_sound
from testbed.analysis.mp4_structure import read_mp4
from testbed.bots.on_stage import Player, on_stage
from testbed.bots.picture import CORNERS, HEIGHT_PX, WIDTH_PX, corner_box
from testbed.hosted_call import HostedCall, hosted_call
from testbed.polling import until
from testbed.scenario import Event, Join, Mute, Say, ShareScreen, StopScreen, Unmute
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips
from testbed.truth import read_truth

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.paired, pytest.mark.timeout(200)]

WISHES: Final = {
    "MM_CALLS_RECORDER_ARTIFACTS": "all",
    "MM_CALLS_RECORDER_FRAME_RATE_CAP": "8",
    "MM_CALLS_RECORDER_LAYOUT": "Screen",
    "MM_CALLS_RECORDER_QUALITY": "splendid",  # means nothing: the default is used, and the log says so
}
PLAN: Final[tuple[Event, ...]] = (
    Join(0, "alice"),
    Join(0, "bob"),
    Unmute(0.2, "alice"),
    Unmute(0.3, "bob"),
    Say(1.5, "alice", 0),
    ShareScreen(4.4, "bob"),
    Mute(6.2, "alice"),
    StopScreen(11.6, "bob"),
    Unmute(11.8, "alice"),
    Say(13.0, "alice", 1),
)
END_S: Final = 16.0
BEEP_TOLERANCE_S: Final = 0.03
"""Of a speaker's track: 20 ms are promised, and what the bots' pacing adds."""
CHAPTER_TOLERANCE_S: Final = 0.6
"""From a bot's mark through signaling to the recorder, on a busy machine."""
COLOUR_TOLERANCE: Final = 40


@dataclass(frozen=True)
class Outcome:
    """What came of a recorded call."""

    call: Call
    recording: Path
    artifacts: dict[str, bytes]
    """By the last part of their name."""
    log: list[dict[str, Any]]


@pytest.fixture(scope="module", params=["process", "docker"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        request.getfixturevalue("own_images")
    return str(request.param)


@pytest.fixture(scope="module")
def outcome(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return asyncio.run(_record(tmp_path_factory.mktemp("options"), backend))


async def _record(directory: Path, backend: str) -> Outcome:
    recording, truth_file = directory / "recording.mp4", directory / "truth.jsonl"
    async with hosted_call(
        directory, backend=backend, quality="medium", plugin_environment=WISHES
    ) as call:
        users = call.world.users
        async with on_stage(
            [Player(users[bot], [e for e in PLAN if e.bot == bot]) for bot in ("alice", "bob")],
            site_url=call.stack.settings.site_url,
            channel_id=call.channel_id,
            host=call.world.host,
            clips=await asyncio.to_thread(
                load_clips, CLIPS_DIRECTORY, speakers=["alice", "bob", "carol"]
            ),
            truth_file=truth_file,
        ) as stage:
            await call.start_recording()
            zero_ns = stage.clock.monotonic_ns() + 300_000_000
            stage.zero.set_result(zero_ns)
            await asyncio.sleep(END_S)
            state = await call.stop_recording()
        await call.download_recording(recording)
        artifacts, log = await _fetch(call)
    told = await asyncio.to_thread(read_truth, truth_file)
    truth = Call(
        told,
        users,
        zero_ns=told.monotonic_ns(state["start_at"]),
        end_ns=told.monotonic_ns(state["end_at"]),
    )
    return Outcome(truth, recording, artifacts, log)


async def _fetch(call: HostedCall) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """As the admin does, when the job has ended."""
    transport = httpx.AsyncHTTPTransport(uds=str(call.stack.settings.admin_socket))
    async with httpx.AsyncClient(
        base_url="http://offloader", transport=transport, timeout=20
    ) as http:

        async def ended() -> dict[str, Any] | None:
            (job,) = (await http.get("/jobs")).raise_for_status().json()["jobs"]
            return dict(job) if job["state"] == "finished" else None

        job = await until(ended, "the job's end", limit_s=60)
        assert (job["exit_code"], job["unpublished"]) == (0, False)
        route = f"/jobs/{job['id']}"
        listed = (await http.get(f"{route}/artifacts")).raise_for_status().json()["artifacts"]
        found = {}
        for file in listed:
            content = (await http.get(f"{route}/artifacts/{file['name']}")).raise_for_status()
            assert len(content.content) == file["size_bytes"]
            found[file["name"].rpartition("/")[2]] = content.content
        lines = (await http.get(f"{route}/logs")).raise_for_status().text.splitlines()
    return found, [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="module")
def speakers(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tracks by name of their speaker."""
    directory = tmp_path_factory.mktemp("speakers")
    told = json.loads(outcome.artifacts["speakers.json"])["speakers"]
    for speaker in told:
        (directory / speaker["file"]).write_bytes(outcome.artifacts[speaker["file"]])
    sessions = outcome.call.truth.sessions
    assert {sessions[s["session_id"]]: s["name"] for s in told} == {
        bot: outcome.call.users[bot].tile_name for bot in ("alice", "bob")
    }
    assert {s["user_id"] for s in told} == {
        outcome.call.users[bot].user_id for bot in ("alice", "bob")
    }
    return {sessions[speaker["session_id"]]: directory / speaker["file"] for speaker in told}


def test_the_files_that_were_wished_are_there_and_nothing_else(outcome: Outcome) -> None:
    assert sorted(outcome.artifacts) == [
        *("chapters.json", "chapters.vtt", "manifest.jsonl", "poster.jpg"),
        *("speaker-01.ogg", "speaker-02.ogg", "speakers.json"),
    ]


def test_a_wish_that_means_nothing_is_named_in_the_log(outcome: Outcome) -> None:
    (told,) = [line["text"] for line in outcome.log if line["event"] == "settings.corrected"]
    assert "QUALITY" in told
    assert "splendid" in told
    assert "medium is used" in told


def test_the_frame_rate_is_capped(outcome: Outcome) -> None:
    found = read_mp4(outcome.recording)
    assert found.most_frames_in_a_second <= 8 + 1
    assert found.video_duration_s == pytest.approx(outcome.call.duration_s, abs=0.5)


def _near(found: float) -> Any:
    return pytest.approx(found, abs=BEEP_TOLERANCE_S)


def _missing(marks: list[float], found: list[float]) -> list[float]:
    return [at_s for at_s in marks if not any(at_s == _near(beep_s) for beep_s in found)]


def test_each_speaker_s_track_has_their_own_sound_at_its_place(
    outcome: Outcome, speakers: dict[str, Path]
) -> None:
    beeps = outcome.call.marks_s("beep", "bob")
    assert len(beeps) >= 5
    bob, alice = (read_sound(speakers[name]) for name in ("bob", "alice"))
    assert _missing(beeps, find_beeps(bob)) == []
    ((_, start_s, stop_s),) = outcome.call.shares_s()
    during = alice.between(start_s, stop_s)
    assert find_beeps(during) == [], "those are somebody else's"
    assert len(outcome.call.spoken()) == 2
    for spoken in outcome.call.spoken():
        at_s = outcome.call.time_s(spoken.utterance.start_ns)
        until_s = outcome.call.time_s(spoken.utterance.end_ns)
        assert np.abs(alice.between(at_s, until_s).samples).max() > 0.05
    quiet = alice.between(7.5, 11.0)  # muted
    assert np.abs(quiet.samples).max() < 0.01


def test_the_tracks_fit_the_recording(outcome: Outcome, speakers: dict[str, Path]) -> None:
    mixed = find_beeps(read_sound(outcome.recording))
    own = find_beeps(read_sound(speakers["bob"]))
    assert len(own) >= 5
    assert _missing(own, mixed) == []


def test_chapters_begin_and_end_with_the_share(outcome: Outcome) -> None:
    ((_, start_s, stop_s),) = outcome.call.shares_s()
    name = outcome.call.users["bob"].tile_name
    found = json.loads(outcome.artifacts["chapters.json"])["chapters"]
    assert [chapter["title"] for chapter in found] == ["Call", f"Screen of {name}", "Call"]
    begins = [0.0, start_s, stop_s]
    assert [chapter["start_s"] for chapter in found] == pytest.approx(
        begins, abs=CHAPTER_TOLERANCE_S
    )
    assert found[-1]["end_s"] == pytest.approx(outcome.call.duration_s, abs=0.5)
    with av.open(str(outcome.recording)) as container:
        inside = [
            (chapter["metadata"]["title"], float(chapter["start"] * chapter["time_base"]))
            for chapter in container.chapters()
        ]
    assert inside == [
        (chapter["title"], pytest.approx(chapter["start_s"], abs=0.02)) for chapter in found
    ]
    assert outcome.artifacts["chapters.vtt"].decode().count(" --> ") == 3


def _colours(picture: np.ndarray) -> dict[str, np.ndarray]:
    """The middles of the corner squares of a bot's screen, which is shown above the footer."""
    height, width = picture.shape[:2]
    scale = min(width / WIDTH_PX, (height - round(32 * height / 720)) / HEIGHT_PX)
    left = (width - WIDTH_PX * scale) / 2
    found = {}
    for name in CORNERS:
        x0, y0, x1, y1 = corner_box(name)
        x, y = round(left + (x0 + x1) / 2 * scale), round((y0 + y1) / 2 * scale)
        found[name] = picture[y - 5 : y + 5, x - 5 : x + 5].reshape(-1, 3).mean(axis=0)
    return found


def _is_screen(picture: np.ndarray) -> bool:
    return all(
        np.abs(colour - np.array(CORNERS[name])).max() <= COLOUR_TOLERANCE
        for name, colour in _colours(picture).items()
    )


def test_the_poster_shows_the_screen_that_was_shared(outcome: Outcome) -> None:
    with Image.open(io.BytesIO(outcome.artifacts["poster.jpg"])) as image:
        assert image.format == "JPEG"
        assert image.size == (1280, 720)
        assert _is_screen(np.asarray(image.convert("RGB"), dtype=float))


def test_nothing_lies_over_the_screen_as_the_layout_says(outcome: Outcome) -> None:
    """And it is there, from 2 s after the share on."""
    ((_, start_s, stop_s),) = outcome.call.shares_s()
    shown = [
        _is_screen(frame.to_ndarray(format="rgb24").astype(float))
        for at_s, frame in iter_pictures(outcome.recording)
        if start_s + 2 < at_s < stop_s - 0.3
    ]
    assert len(shown) > 20
    assert all(shown)


def test_the_manifest_says_what_was_kept_and_the_log_has_its_hash(outcome: Outcome) -> None:
    manifest = outcome.artifacts["manifest.jsonl"]
    (entry,) = entries_of(manifest)
    told = {file["name"].rpartition("/")[2]: file["sha256"] for file in entry["files"]}
    kept = {name: content for name, content in outcome.artifacts.items() if is_listed(name)}
    assert told == {name: hashlib.sha256(content).hexdigest() for name, content in kept.items()}
    (line,) = [line for line in outcome.log if line.get("event") == "manifest.written"]
    assert line["sha256"] == digest_of(manifest)

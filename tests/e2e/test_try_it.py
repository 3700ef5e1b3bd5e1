"""`make demo SERVE=1`: two people in a real browser join by the stand-in's page, record, read and play."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from testbed.analysis.speech import parse_webvtt, split_words
from testbed.browser.chromium import ChromiumMissing, FakeDevices, find_chromium, started_chromium
from testbed.browser.tab import Tab
from testbed.browser_call.script import write_speech_loop
from testbed.browser_call.visit import PLAYED_S, SENTENCES, Visit, visit
from testbed.ports import HOST, Ports
from testbed.processes import Family
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

WORD_ERRORS = 0.15
"""The model's own are 1–5 %; a browser's echo canceller and noise suppression come on top."""
FAILED_JOBS = """async () => {
    const { showJobs } = await import("/testbed/web/job_view.js");
    const list = document.createElement("ul");
    showJobs(list, {
        recording: { start_at: 0, end_at: 5, err: "no room" },
        transcribing: { start_at: 3, end_at: 5, err: "" },
        captioning: { start_at: 0, end_at: 5, err: "" },
    });
    return [...list.children].map((item) => [item.className, item.textContent]);
}"""
SCHEMES = ("light", "dark")


@dataclass
class Tried:
    """What came of it."""

    directory: Path
    seen: Visit
    texts: list[str]
    """What the microphone says."""
    exit_code: int
    printed: str
    left_over: dict[int, str]
    violations: dict[str, list[str]]
    failures: list[list[str]]
    """How the page tells of jobs that failed: look and text."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tried(
    tmp_path_factory: pytest.TempPathFactory,
    engine_missing: Callable[[str, str], None],
    axe_violations: Callable[[Tab], Awaitable[list[str]]],
) -> AsyncIterator[Tried]:
    try:
        find_chromium()
    except ChromiumMissing as error:
        engine_missing("chromium", str(error))
    directory = tmp_path_factory.mktemp("try-it")
    clips = (
        await asyncio.to_thread(load_clips, CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))
    )["alice"]
    sound = directory / "microphone.wav"
    write_speech_loop(sound, clips)
    texts = [clip.text for clip in clips]
    violations: dict[str, list[str]] = {}

    failures: list[list[str]] = []

    async def on_state(state: str, tab: Tab) -> None:
        if state == "lobby":
            failures.extend(await tab.run(FAILED_JOBS))
        await tab.resize(1280, 900)
        for scheme in SCHEMES:
            await tab.prefer(scheme)
            violations[f"{state}, {scheme}"] = await axe_violations(tab)
            picture = directory / f"{state}-{scheme}.png"
            picture.write_bytes(base64.b64decode(await tab.screenshot()))

    ports = Ports.free()
    options = [f"--{name.replace('_', '-')}-port={port}" for name, port in asdict(ports).items()]
    family = Family()
    demo = await family.start(
        [sys.executable, "-m", "testbed.demo", "--serve", f"--output={directory}", *options],
        environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        log=directory / "stderr.log",
        talks=True,
    )
    printed = ""
    try:
        assert demo.stdout is not None
        async for line in demo.stdout:
            printed += line.decode()
            if "Open http" in printed:
                break
        devices = FakeDevices(sound=sound)
        async with started_chromium(directory / "chromium", devices=devices) as chromium:
            url = f"http://{HOST}:{ports.plugin}/testbed/call"
            seen = await visit(chromium, url, texts, on_state=on_state)
        demo.send_signal(signal.SIGINT)
        printed += (await demo.stdout.read()).decode()
        exit_code = await demo.wait()
        left_over = family.alive()
    finally:
        await family.take_down(grace_s=0)
    yield Tried(directory, seen, texts, exit_code, printed, left_over, violations, failures)


async def test_the_address_of_the_page_is_printed(tried: Tried) -> None:
    assert f"Open http://{HOST}:" in tried.printed
    assert "/testbed/call in a browser" in tried.printed


async def test_the_page_has_no_error(tried: Tried) -> None:
    assert tried.seen.errors == []


async def test_what_is_said_is_read_on_the_page_within_three_seconds(tried: Tried) -> None:
    sentences = tried.seen.sentences
    assert len(sentences) >= SENTENCES
    words = sum(len(split_words(sentence.wanted)) for sentence in sentences)
    assert sum(sentence.errors for sentence in sentences) <= WORD_ERRORS * words, sentences
    assert all(line.startswith("Jane Doe: ") for line in tried.seen.said)


async def test_who_speaks_has_a_ring(tried: Tried) -> None:
    assert tried.seen.rings > 0


async def test_the_shared_screen_is_seen(tried: Tried) -> None:
    assert min(tried.seen.screen) > 0


async def test_the_page_tells_what_the_jobs_do_and_who_may_record(tried: Tried) -> None:
    kinds = [line.split(" since ")[0] for line in tried.seen.jobs]
    assert kinds == ["Recording", "Transcription", "Live captions"]
    assert tried.seen.hint == "Jane Doe is the host and can record"


async def test_a_failed_job_is_told_with_its_reason(tried: Tried) -> None:
    recording, transcription, captions = tried.failures
    assert recording == ["failed", "Recording failed: no room"]
    assert transcription[0] == "ended"
    assert captions[0] == "failed"
    assert "without saying why" in captions[1]


async def test_who_reloads_is_back_in_the_call_once(tried: Tried) -> None:
    assert sorted(tried.seen.after_reload) == ["Jane Doe (you)", "Max"]


async def test_the_focus_goes_where_a_keyboard_needs_it(tried: Tried) -> None:
    assert tried.seen.focus == {"joined": "voice", "left": "join"}


async def test_the_recording_plays_in_the_thread(tried: Tried) -> None:
    playback = tried.seen.playback
    assert playback["currentTime"] >= PLAYED_S
    assert (playback["videoWidth"], playback["videoHeight"]) == (1280, 720)
    assert playback["duration"] > 5


async def test_captions_of_the_recording_are_those_of_the_file(tried: Tried) -> None:
    (vtt,) = (tried.directory / "thread").glob("*.vtt")
    cues = parse_webvtt(vtt.read_text(encoding="utf-8"))
    shown = [cue[edge] for cue in tried.seen.cues for edge in ("startTime", "endTime")]
    wanted = [edge_s for cue in cues for edge_s in (cue.start_s, cue.end_s)]
    assert shown == pytest.approx(wanted, abs=0.001)
    known = set(split_words(" ".join(tried.texts)))
    words = split_words(" ".join(cue.text for cue in cues))
    assert len(words) >= 8
    assert sum(word in known for word in words) >= (1 - WORD_ERRORS) * len(words)


async def test_the_transcript_can_be_read_and_fetched(tried: Tried) -> None:
    assert "Jane Doe" in tried.seen.transcript
    assert sorted(Path(name).suffix for name in tried.seen.downloads) == [".mp4", ".txt", ".vtt"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("state", ["lobby", "call", "thread"])
async def test_nobody_is_kept_out_by_the_page(tried: Tried, state: str, scheme: str) -> None:
    assert tried.violations[f"{state}, {scheme}"] == []


async def test_ctrl_c_leaves_no_process_and_what_was_published(tried: Tried) -> None:
    assert tried.exit_code == 0, tried.printed
    assert tried.left_over == {}
    kept = {path.suffix for path in (tried.directory / "thread").iterdir()}
    assert kept == {".mp4", ".vtt", ".txt"}
    assert not (tried.directory / "work").exists()

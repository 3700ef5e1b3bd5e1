"""After the call others transcribe: the transcript is the one that the job would have written alone."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import pytest
import structlog

from foundation.channel import Channel
from foundation.clock import SystemClock
from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.harness import JobContext
from jobs.status import StatusReporter
from jobs.transcriber import handover, track
from jobs.transcriber.captions import CaptionOptions
from jobs.transcriber.capture import INDEX_SUFFIX
from jobs.transcriber.engines.base import EngineInfo, Recognition, Word
from jobs.transcriber.engines.hints import Hints
from jobs.transcriber.handover import HandOver
from jobs.transcriber.job import TranscriberJob
from jobs.transcriber.models import Models
from jobs.transcriber.pipeline import CallPipeline
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.tasks_door import DoorError, TrackState
from jobs.transcriber.track_bundle import (
    BundleError,
    TrackResult,
    TrackTask,
    pack,
    read_result,
    result_text,
    unpack,
)
from jobs.transcriber.transcript import Segment
from jobs.transcriber.vad import load_silero

MODELS = Path(__file__).parents[3] / "models"
ID = "abcdefghijklmnopqrstuvwxy"
TASK = TrackTask("tiny", "auto", 1, "", Hints())
ENGINE = {"name": "fake", "model": "fake"}


class Door:
    """A worker's door and who works behind it: `work` turns a bundle into a result; None: nobody does."""

    def __init__(self, directory: Path) -> None:
        self.work: Callable[[Path], bytes | None] = lambda directory: None
        self.states: dict[str, TrackState] = {}
        self.bundles: dict[str, Path] = {}
        self.results: dict[str, bytes] = {}
        self.withdrawn: list[str] = []
        self.ended = False
        self.broken: frozenset[str] = frozenset()
        """Methods that find no door."""
        self._directory = directory

    async def __aenter__(self) -> Door:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def _ask(self, method: str) -> None:
        if method in self.broken:
            raise DoorError(f"{method}: no answer", retryable=True)

    async def upload(self, name: str, bundle: IO[bytes]) -> None:
        self._ask("upload")
        place = self._directory / name
        place.mkdir(parents=True, exist_ok=True)
        (place / track.BUNDLE_NAME).write_bytes(bundle.read())
        self.bundles[name] = place

    async def begin(self, tracks: list[tuple[str, int]]) -> None:
        self._ask("begin")
        for name, pieces in tracks:
            self.states[name] = TrackState(name, "waiting", 0, "")
            result = await asyncio.to_thread(self.work, self.bundles[name])
            if result is not None:
                self.results[name] = result
                self.states[name] = TrackState(name, "done", pieces, "")

    async def look(self, *, after: int, wait_s: float) -> tuple[int, list[TrackState]]:
        self._ask("look")
        if after:
            await asyncio.sleep(wait_s)
        return 1, list(self.states.values())

    async def result(self, name: str) -> bytes:
        self._ask("result")
        return self.results[name]

    async def withdraw(self, name: str) -> bool:
        self._ask("withdraw")
        self.withdrawn.append(name)
        return True

    async def end(self) -> None:
        self._ask("end")
        self.ended = True


class Counting:
    """Hears one word in everything, and counts."""

    def __init__(self) -> None:
        self.info = EngineInfo("fake", "fake", "cpu", "none", 1, 1, multilingual=False)
        self.heard = 0

    def transcribe(self, audio: object, *, language: str | None) -> Recognition:
        self.heard += 1
        return Recognition((Word("here", 0.0, 0.5, 0.9),), "en")


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "door")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    for name, value in {
        "_LOOK_S": 0.01,
        "_DOOR_AWAY_S": 0.0,
        "_PAUSE_S": 0.01,
    }.items():
        monkeypatch.setattr(handover, name, value)
    monkeypatch.setattr(handover, "_BACKOFF", replace(handover._BACKOFF, first_wait_s=0.001))


@pytest.fixture
def transcribed(clips, peer, door, tmp_path: Path):
    """`await transcribed(engine)`: the pipeline of a call of alice and bob, with everything handed over."""

    async def run(engine: Counting) -> CallPipeline:
        progress: list[tuple[int, int]] = []
        pipeline = CallPipeline(
            peer,
            Models(engine, None, load_silero(), 1),
            directory=tmp_path,
            zero_ns=peer.zero_ns,
            clock=SystemClock(),
            caption_options=CaptionOptions(),
            on_figures=lambda figures: None,
            on_backlog=lambda done, total: progress.append((done, total)),
            handover=HandOver(
                lambda: door, task=lambda: TASK, engine=ENGINE, directory=tmp_path, silence_s=0.0
            ),
        )
        tracks = Channel(10)
        running = asyncio.create_task(pipeline.run(tracks))
        for name in ("alice", "bob"):
            voice = peer.add_voice(name)
            tracks.offer(voice)
            peer.say(voice, clips[name].packets())
        await peer.until_taken()
        assert engine.heard == 0  # during the call nobody transcribes
        pipeline.end_call()
        await running
        assert progress[-1] == (8, 8)
        return pipeline

    return run


def _elsewhere(directory: Path, *, engine: dict[str, str] = ENGINE, words: str = "there") -> bytes:
    """A worker that hears `words` in everything."""
    _, captures = unpack(directory / track.BUNDLE_NAME, directory)
    segments = [
        Segment(
            capture.identity.session_id,
            capture.identity.user_id,
            utterance.onset_ns,
            utterance.end_ns,
            words,
            "en",
        )
        for capture, utterances in captures
        for utterance in utterances
    ]
    return result_text(TrackResult(engine, segments)).encode()


def _texts(pipeline: CallPipeline) -> list[str]:
    return [segment.text for segment in pipeline.backlog.segments]


async def test_what_others_understood_is_the_transcript(transcribed, door, soon) -> None:
    door.work = _elsewhere
    engine = Counting()
    pipeline = await transcribed(engine)
    assert _texts(pipeline) == ["there"] * 8
    assert engine.heard == 0
    assert door.ended


@pytest.mark.parametrize("broken", [{"upload"}, {"begin"}, {"look"}, {"result"}, {"end"}])
async def test_a_door_that_does_not_answer_costs_nothing(
    transcribed, door, soon, broken: set[str]
) -> None:
    door.broken = frozenset(broken)
    door.work = _elsewhere
    pipeline = await transcribed(Counting())
    assert _texts(pipeline) == ["there" if broken == {"end"} else "here"] * 8


@pytest.mark.documents("a-part-of-a-job-that-fails/8")
async def test_a_defect_costs_nothing_and_is_told_by_its_place_without_what_was_said(
    transcribed, door, soon, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    def spoiled(*_: object) -> None:
        raise TypeError("good morning everyone")

    monkeypatch.setattr(door, "begin", spoiled)
    with structlog.testing.capture_logs() as logs:
        pipeline = await transcribed(Counting())
    assert _texts(pipeline) == ["here"] * 8
    [told] = [entry for entry in logs if entry["event"] == "handover.failed"]
    documented("a-part-of-a-job-that-fails/8", told["event"])
    assert (told["log_level"], told["error"]) == ("error", "TypeError")
    assert "test_handover.py:" in told["at"]
    assert "morning" not in str(logs)


async def test_what_nobody_begins_with_the_job_does_itself(transcribed, door, soon) -> None:
    door.work = lambda place: _elsewhere(place) if place.name == "voice-1" else None
    pipeline = await transcribed(Counting())
    assert sorted(_texts(pipeline)) == ["here"] * 4 + ["there"] * 4
    assert door.withdrawn == ["voice-2"]


@pytest.mark.parametrize(
    "result",
    [
        b"",
        b"[]",
        b'{"version": 2}',
        result_text(TrackResult(ENGINE, [Segment("x", "x", 0, 1, "x", "en")])).encode(),
    ],
)
async def test_a_result_that_cannot_be_is_not_believed(
    transcribed, door, soon, result: bytes
) -> None:
    door.work = lambda place: result
    assert _texts(await transcribed(Counting())) == ["here"] * 8


async def test_texts_of_another_model_are_not_mixed_in(transcribed, door, soon) -> None:
    door.work = lambda place: _elsewhere(place, engine={"name": "fake", "model": "large"})
    assert _texts(await transcribed(Counting())) == ["here"] * 8


async def test_a_failed_track_comes_back_alone(transcribed, door, soon) -> None:
    async def begin(tracks: list[tuple[str, int]]) -> None:
        door.results["voice-2"] = _elsewhere(door.bundles["voice-2"])
        door.states = {
            "voice-1": TrackState("voice-1", "failed", 0, "it crashed"),
            "voice-2": TrackState("voice-2", "done", 4, ""),
        }

    door.begin = begin
    assert sorted(_texts(await transcribed(Counting()))) == ["here"] * 4 + ["there"] * 4


async def test_sound_that_the_disk_refused_stays_with_the_job(
    transcribed, door, soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    door.work = _elsewhere
    assert _texts(await transcribed(Counting())) == ["here"] * 8
    assert door.bundles == {}


@pytest.mark.slow
async def test_the_job_publishes_exactly_what_it_would_have_published_alone(
    clips, api, tmp_path: Path, make_peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real small model, files and JSON compared byte by byte."""
    made: list[dict[str, str]] = []
    door = Door(tmp_path / "door")

    def program(directory: Path) -> bytes:
        assert track.main(directory, {"MODELS_DIR": str(MODELS)}, lifeline=None) == 0
        return (directory / track.RESULT_NAME).read_bytes()

    door.work = program
    monkeypatch.setattr(handover, "TasksDoor", lambda *arguments, **options: door)
    alone = TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id=ID + "c",
        post_id=ID + "p",
        job_id=ID + "t",
        auth_token=ID + "s",
        data_dir=tmp_path / "alone",
        models_dir=MODELS,
        publish_after_s=0,
        artifacts="json,srt,md,vtt,txt",
        vocabulary="meeting",
    )
    together = replace(
        alone, data_dir=tmp_path / "together", tasks_url="http://door", tasks_token="token"
    )
    for settings in (alone, together):
        peer = make_peer()
        context = JobContext(
            settings=settings,
            api=api,
            status=StatusReporter(api, settings, "transcribing"),
            shutdown=Shutdown(),
            log=get_logger(),
        )
        running = asyncio.create_task(TranscriberJob(context, settings, peer=peer).run())
        peer.begin()
        for index, name in enumerate(("alice", "bob", "carol")):
            packets = clips[name].packets(start_ns=index * 4_300_000_000)
            peer.say(peer.add_voice(name), packets)
        again = peer.add_voice("bob", track_id="track-bob-again")
        peer.say(again, clips["bob"].packets(start_ns=30_000_000_000))
        await peer.until_taken()
        await peer.leave()
        await running
        artifacts = settings.directory / "artifacts"
        made.append({path.name: path.read_text() for path in artifacts.glob("transcript.*")})
    assert made[0] == made[1]
    document = json.loads(made[1]["transcript.json"])
    assert len(document["segments"]) == 16
    assert {speaker["name"] for speaker in document["speakers"]} >= {"Alice Test", "Bob Test"}
    assert sorted(door.bundles) == ["voice-1", "voice-2", "voice-3"]  # bob's two tracks are one
    assert door.ended


async def test_neither_url_nor_token_gets_into_the_jobs_description(tmp_path: Path) -> None:
    settings = TranscriberSettings(
        "http://x", ID + "c", ID + "p", ID + "t", "s", tasks_url="http://d", tasks_token="secret"
    )
    assert not {"tasks_url", "tasks_token"} & set(settings.to_document())
    assert "secret" not in repr(settings)


def test_a_bundle_is_unpacked_without_the_filters_that_python_3_11_2_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = tmp_path / "voice.ogg"
    capture.write_bytes(b"sound")
    index = json.dumps({"track_id": "t", "session_id": "s", "user_id": "u"}).encode() + b"\n"
    capture.with_name(f"voice.ogg{INDEX_SUFFIX}").write_bytes(index)
    there = tmp_path / "there"
    there.mkdir()
    with pack(TASK, [(capture, [])], directory=tmp_path) as bundle:
        (there / track.BUNDLE_NAME).write_bytes(bundle.read())
    monkeypatch.delattr(tarfile.TarFile, "extract")
    task, captures = unpack(there / track.BUNDLE_NAME, there)
    assert (task, len(captures)) == (TASK, 1)
    assert (there / "0.ogg").read_bytes() == b"sound"
    assert (there / f"0.ogg{INDEX_SUFFIX}").read_bytes() == index


def test_a_link_in_a_bundle_is_refused(tmp_path: Path) -> None:
    document = {"version": 1, **asdict(TASK), "captures": [[]]}
    with tarfile.open(tmp_path / "bundle", mode="w") as archive:
        content = json.dumps(document).encode()
        entry = tarfile.TarInfo("task.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("0.ogg")
        link.type, link.linkname = tarfile.SYMTYPE, "task.json"
        archive.addfile(link)
    with pytest.raises(BundleError, match=r"0\.ogg is no file"):
        unpack(tmp_path / "bundle", tmp_path)


def test_a_bundle_for_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pack(replace(TASK, model="huge"), [], directory=tmp_path) as bundle:
        (tmp_path / track.BUNDLE_NAME).write_bytes(bundle.read())
    assert track.main(tmp_path, {"MODELS_DIR": str(MODELS)}, lifeline=None) == 2
    (tmp_path / track.BUNDLE_NAME).write_bytes(b"no archive")
    assert track.main(tmp_path, {"MODELS_DIR": str(MODELS)}, lifeline=None) == 2
    assert not (tmp_path / track.RESULT_NAME).exists()


def test_results_survive_the_way_back_bit_by_bit() -> None:
    segment = Segment("s", "u", 1, 2**60 + 1, "tö", "de", failure="why")
    result = TrackResult(ENGINE, [segment])
    assert read_result(result_text(result).encode()) == result

"""A dead job is finished from its directory: from captures alone, or from where publishing stopped."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callclient.plugin_api import ApiError
from jobs import job_directory
from jobs.publication import PublishState
from jobs.transcriber import __main__ as command
from jobs.transcriber import models, salvage
from jobs.transcriber.capture import TrackCapture, TrackIdentity
from jobs.transcriber.engines.base import (
    EngineError,
    EngineUnavailable,
    Recognition,
    SpeechEngine,
)
from jobs.transcriber.engines.remote_options import RemoteOptions
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory

MODELS = Path(__file__).parents[3] / "models"
ID = "abcdefghijklmnopqrstuvwxy"
FROZEN = Path(__file__).parents[2] / "fixtures/job_directories/v1/q1w2e3r4t5z7/data"


@pytest.fixture
def settings(tmp_path: Path) -> TranscriberSettings:
    return TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id=ID + "c",
        post_id=ID + "p",
        job_id=ID + "t",
        auth_token="old" + ID[3:] + "s",
        data_dir=tmp_path,
        models_dir=MODELS,
    )


@pytest.fixture
def dead_job(clips, api, settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Killed in mid-call: a capture of bob, whose name was found in time."""
    job_directory.create(settings, base_name="Call_X")
    _capture(settings.directory, clips["bob"])
    speakers = SpeakerDirectory(settings.directory)
    asyncio.run(speakers.look_up(api, channel_id="c", session_id="session-bob", user_id="user-bob"))
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setenv("AUTH_TOKEN", ID + "n")
    return settings.directory


def _capture(directory: Path, clip) -> Path:
    name = clip.name
    identity = TrackIdentity(f"track-{name}", f"session-{name}", f"user-{name}")
    capture = TrackCapture(directory / f"user-{name}_track-{name}.ogg", identity)
    for packet in clip.packets(start_ns=2_000_000_000):
        capture.add(packet)
    capture.flush()
    return capture.path


def _kill_the_call(api) -> None:
    """Nobody is in the call any more: sessions have no profiles."""
    api.users = {"user-carol": api.profiles["session-carol"]}
    api.profiles.clear()


def test_captures_alone_become_a_post(clips, api, dead_job: Path) -> None:
    _capture(dead_job, clips["carol"])
    _kill_the_call(api)
    assert command.main(["salvage", str(dead_job)]) == 0
    assert [name for name, _ in api.uploads] == ["Call_X.vtt", "Call_X.txt"]
    cues = api.vtt.split("\n\n")[1:]
    assert len(cues) == 8
    for name in ("Bob", "Carol"):
        assert sum(f"({name} Test)" in cue for cue in cues) == 4
    assert not dead_job.exists()


@pytest.mark.slow
def test_what_a_transcriber_of_the_release_before_left_is_published(
    api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(FROZEN / (ID + "t"), tmp_path / (ID + "t"))
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setenv("AUTH_TOKEN", ID + "n")
    monkeypatch.setenv("MODELS_DIR", str(MODELS))
    assert command.main(["salvage", str(directory)]) == 0
    assert [name for name, _ in api.uploads] == ["Call_Town_Square.vtt", "Call_Town_Square.txt"]
    assert "(Bob Test) hello alice" in api.vtt
    assert len(api.posts) == 1
    assert not directory.exists()


def test_a_capture_cut_off_loses_only_its_end(clips, api, dead_job: Path) -> None:
    path = dead_job / "user-bob_track-bob.ogg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    _capture(dead_job, clips["carol"]).unlink()
    assert command.main(["salvage", str(dead_job)]) == 0
    assert "(Bob Test) hello alice" in api.vtt
    assert "question" not in api.vtt


def test_what_was_uploaded_is_not_uploaded_again(api, dead_job: Path) -> None:
    api.publish_error = ApiError("POST: refused with HTTP 401", status=401, retryable=False)
    assert command.main(["salvage", str(dead_job)]) == 1
    assert len(api.uploads) == 2
    assert dead_job.exists()
    api.publish_error = None
    assert command.main(["salvage", str(dead_job)]) == 0
    assert len(api.uploads) == 2
    (post,) = api.posts
    assert (post["language"], post["file_ids"]) == ("en", ["file0", "file1"])


def test_a_post_that_may_exist_is_not_made_twice(api, dead_job: Path) -> None:
    api.publish_error = ApiError("POST: no answer", status=None, retryable=True)
    api.post_of_file_error = ApiError("GET: forbidden", status=403, retryable=False)
    assert command.main(["salvage", str(dead_job)]) == 0
    api.publish_error = None
    assert command.main(["salvage", str(dead_job)]) == 0
    assert api.posts == []
    assert PublishState(dead_job).posted
    assert dead_job.exists()


@pytest.mark.parametrize("error", [EngineError("on purpose"), EngineUnavailable("no memory")])
def test_when_nothing_can_be_understood_everything_stays(
    api, dead_job: Path, engine: SpeechEngine, monkeypatch: pytest.MonkeyPatch, error: EngineError
) -> None:
    class Broken:
        info = replace(engine.info, multilingual=False)
        closed = False

        def transcribe(self, audio: Any, *, language: str | None) -> Recognition:
            raise error

        def close(self) -> None:
            self.closed = True

    broken = Broken()
    monkeypatch.setattr(models, "start_engine", lambda *_, **__: broken)
    assert command.main(["salvage", str(dead_job)]) == 1
    assert broken.closed
    assert (api.uploads, api.posts) == ([], [])
    monkeypatch.setattr(models, "start_engine", lambda *_, **__: engine)
    assert command.main(["salvage", str(dead_job)]) == 0
    assert "hello alice" in api.vtt


def test_nothing_said_is_nothing_posted(api, settings, dead_job: Path) -> None:
    for path in dead_job.glob("*.ogg*"):
        path.unlink()
    assert command.main(["salvage", str(dead_job)]) == 0
    assert api.posts == []
    assert not dead_job.exists(), "or it would be tried again for days"


def test_another_model_can_be_chosen_and_must_exist(
    api, dead_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SIZE", "turbo")
    assert command.main(["salvage", str(dead_job)]) == 1
    monkeypatch.setenv("MODEL_SIZE", "tiny")
    assert command.main(["salvage", str(dead_job)]) == 0


@pytest.mark.parametrize("breakage", ["no token", "no job.json", "not json", "other name"])
def test_a_directory_that_is_no_job_is_refused_with_a_reason(
    dead_job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    breakage: str,
) -> None:
    description = dead_job / "job.json"
    match breakage:
        case "no token":
            monkeypatch.delenv("AUTH_TOKEN")
        case "no job.json":
            description.unlink()
        case "not json":
            description.write_text("{")
        case _:
            other = json.loads(description.read_text()) | {"job_id": "another"}
            description.write_text(json.dumps(other))
    assert command.main(["salvage", str(dead_job)]) == 2
    assert capsys.readouterr().err.strip()


class _Service:
    """Azure, as far as a salvage can tell; understands what the bundled model does."""

    def __init__(self, engine: SpeechEngine) -> None:
        self._engine = engine
        self.info = replace(engine.info, name="azure", model="", remote=True)

    def transcribe(self, audio: Any, *, language: str | None) -> Recognition:
        return self._engine.transcribe(audio, language=language)

    def detect_language(self, audio: Any) -> tuple[tuple[str, float], ...]:
        return ()


@pytest.fixture
def azure_job(
    dead_job: Path, settings: TranscriberSettings, engine: SpeechEngine, monkeypatch
) -> tuple[Path, list[RemoteOptions]]:
    """A dead job of a speech service, and with which options that is reached."""
    told = replace(
        settings,
        transcribe_api="azure",
        transcribe_api_options='{"AZURE_SPEECH_KEY": "k3y"}',
        model_size="tiny",
        artifacts="json",
    )
    job_directory.create(told, base_name="Call_X")
    assert "k3y" not in (dead_job / "job.json").read_text()
    reached: list[RemoteOptions] = []

    def connect(options: RemoteOptions, **_: Any) -> _Service:
        reached.append(options)
        return _Service(engine)

    monkeypatch.setattr(models, "connect_engine", connect)
    return dead_job, reached


def _engine_told(directory: Path) -> Any:
    return json.loads((directory / "artifacts" / "transcript.json").read_text())["engine"]


@pytest.mark.parametrize(
    "environ",
    [
        {
            "TRANSCRIBE_API_OPTIONS": '{"AZURE_SPEECH_KEY":"k3y","AZURE_SPEECH_REGION":"northeurope"}'
        },
        {
            "TRANSCRIBE_API_OPTIONS": "null",
            "AZURE_SPEECH_KEY": "k3y",
            "AZURE_SPEECH_REGION": "northeurope",
        },
    ],
)
def test_a_job_of_a_speech_service_is_finished_by_it_when_its_options_are_known(
    api, azure_job, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    directory, reached = azure_job
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert command.main(["salvage", str(directory)]) == 0
    (options,) = reached
    assert (options.key, "northeurope" in options.url) == ("k3y", True)
    assert "hello alice" in api.vtt
    assert _engine_told(directory) == {"name": "azure", "model": ""}


def test_without_the_options_the_local_model_does_it_and_log_and_json_say_so(
    api, azure_job, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, reached = azure_job
    assert command.main(["salvage", str(directory)]) == 0
    assert reached == []
    assert "hello alice" in api.vtt
    told = _engine_told(directory)
    assert (told["name"], told["instead_of"]) == ("faster-whisper", "azure")
    assert "did not reach" in told["reason"]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (warning,) = [line for line in lines if line["event"] == "service.no_options"]
    assert (warning["api"], warning["instead"]) == ("azure", "tiny")


def test_options_that_are_no_json_are_refused_and_everything_stays(
    azure_job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, _ = azure_job
    monkeypatch.setenv("TRANSCRIBE_API_OPTIONS", "k3y")
    assert command.main(["salvage", str(directory)]) == 2
    told = capsys.readouterr().err
    assert ("TranscribeAPIOptions" in told, "k3y" in told) == (True, False)
    assert (directory / "job.json").exists()


def test_in_its_container_a_job_is_finished_with_the_model_that_it_had(
    api, dead_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the environment is the job's own: MODEL wins over the plugin's MODEL_SIZE."""
    monkeypatch.setenv("MODEL_SIZE", "turbo")
    monkeypatch.setenv("MODEL", "tiny")
    assert command.main(["salvage", str(dead_job)]) == 0

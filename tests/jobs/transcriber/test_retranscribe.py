"""Kept voices are transcribed again beside what is there, and posted once when that is wished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from callclient.plugin_api import ApiError
from jobs import job_directory
from jobs.transcriber import __main__ as command
from jobs.transcriber import retranscribe
from jobs.transcriber.capture import TrackCapture, TrackIdentity
from jobs.transcriber.document import FORMATS
from jobs.transcriber.redo import Redone
from jobs.transcriber.transcript import INAUDIBLE, Segment

MODELS = Path(__file__).parents[3] / "models"
ID = "abcdefghijklmnopqrstuvwxy"
SECOND_NS = 1_000_000_000
TEXT = Segment("session-bob", "user-bob", SECOND_NS, 2 * SECOND_NS, "hello", "en")
FAILED = Segment("session-bob", "user-bob", 0, SECOND_NS, INAUDIBLE, "", failure="HTTP 503")


@pytest.fixture
def job(tmp_path: Path, clips: Any, api: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published job that kept bob's voice."""
    directory = tmp_path / (ID + "t")
    audio = directory / "artifacts" / "audio"
    audio.mkdir(parents=True)
    capture = TrackCapture(audio / "bob.ogg", TrackIdentity("track-b", "session-bob", "user-bob"))
    for packet in clips["bob"].packets(start_ns=2 * SECOND_NS):
        capture.add(packet)
    capture.flush()
    (audio / "speakers.json").write_text(
        json.dumps({"session-bob": {"user_id": "user-bob", "name": "Bob Test"}})
    )
    (audio / "call.json").write_text('{"base_name": "Call_X"}')
    (directory / "artifacts" / "transcript.vtt").write_text("WEBVTT as published")
    variables = {
        "SITE_URL": "http://127.0.0.1:1",
        "CALL_ID": ID + "c",
        "POST_ID": ID + "p",
        "TRANSCRIPTION_ID": ID + "t",
        "DATA_DIR": str(tmp_path),
        "MODELS_DIR": str(MODELS),
        "MODEL_SIZE": "base",
        "MODEL": "tiny",
        "RETRANSCRIPTION": "again-1",
    }
    for name in ("AUTH_TOKEN", "AUTH_TOKEN_FILE", "LANGUAGES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retranscribe, "site_api", lambda _: api)
    return directory


@pytest.fixture
def understood(job: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[Segment]]:
    """What each run understands, instead of a model; the last one stays."""
    answers: list[list[Segment]] = [[TEXT]]

    async def transcribe(*_: Any, **__: Any) -> Redone:
        segments = answers.pop(0) if len(answers) > 1 else answers[0]
        return Redone(segments, {"name": "test", "model": "none"})

    monkeypatch.setattr(retranscribe, "transcribe_place", transcribe)
    return answers


def _again() -> int:
    return command.main(["retranscribe"])


def _publish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRANSCRIPTION_PUBLISH", "true")
    monkeypatch.setenv("AUTH_TOKEN", ID + "n")


def _last(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().err.splitlines()[-1])


def test_every_format_is_made_beside_what_was_published(
    api: Any, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _again() == 0
    made = job / "artifacts" / "again-1"
    assert {path.name for path in made.iterdir()} == {f"transcript.{kind}" for kind in FORMATS}
    assert all(path.stat().st_mode & 0o077 == 0 for path in made.iterdir())
    document = json.loads((made / "transcript.json").read_text())
    assert document["engine"]["model"] == "whisper-words-ct2"
    assert {segment["speaker"] for segment in document["segments"]} == {"Bob Test"}
    assert "hello alice" in (made / "transcript.vtt").read_text()
    assert (job / "artifacts" / "transcript.vtt").read_text() == "WEBVTT as published"
    assert api.posts == []
    line = _last(capsys)
    assert (line["event"], line["segments"], line["published"]) == (
        "retranscription.done",
        4,
        False,
    )


def test_no_token_is_needed_where_nothing_is_posted(
    understood: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_TOKEN_FILE", "/run/job/auth_token")
    assert _again() == 0


def test_it_is_posted_once_however_often_it_is_asked_for(
    api: Any, understood: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _again() == 0
    assert api.posts == []
    _publish(monkeypatch)
    assert [_again(), _again()] == [0, 0]
    (post,) = api.posts
    assert (post["language"], len(post["file_ids"])) == ("en", 2)
    assert [name for name, _ in api.uploads] == ["Call_X.vtt", "Call_X.txt"]


def test_a_post_that_failed_goes_on_without_another_transcription_or_upload(
    api: Any, understood: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _publish(monkeypatch)
    api.publish_error = ApiError("POST: refused with HTTP 401", status=401, retryable=False)
    assert _again() == 1
    assert "401" in _last(capsys)["reason"]
    api.publish_error = None
    understood[0] = []
    assert _again() == 0
    assert (len(api.posts), len(api.uploads)) == (1, 2)


def test_a_site_that_refuses_for_good_is_told_by_the_exit_code(
    api: Any, understood: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(monkeypatch)
    api.publish_error = ApiError("POST: refused with HTTP 400", status=400, retryable=False)
    assert _again() == 3


def test_a_post_that_may_exist_is_not_made_twice(
    api: Any, understood: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _publish(monkeypatch)
    api.publish_error = ApiError("POST: no answer", status=None, retryable=True)
    api.post_of_file_error = ApiError("GET: forbidden", status=403, retryable=False)
    assert _again() == 0
    assert _last(capsys)["certain"] is False
    api.publish_error = None
    assert _again() == 0
    assert api.posts == []


def test_what_was_inaudible_is_tried_again_until_it_is_posted(
    api: Any, job: Path, understood: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood[:] = [[FAILED, TEXT], [TEXT]]
    made = job / "artifacts" / "again-1" / "transcript.txt"
    assert _again() == 0
    assert INAUDIBLE in made.read_text()
    assert _again() == 0
    assert INAUDIBLE not in made.read_text()
    shutil.rmtree(made.parent)
    understood[:] = [[FAILED, TEXT], [TEXT]]
    _publish(monkeypatch)
    assert [_again(), _again()] == [0, 0]
    assert INAUDIBLE in made.read_text(), "it is what was posted"
    assert len(api.posts) == 1


@pytest.mark.parametrize("posted", [True, False])
def test_what_may_be_posted_is_not_made_again_though_its_json_is_damaged(
    api: Any,
    job: Path,
    understood: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    posted: bool,
) -> None:
    _publish(monkeypatch)
    assert _again() == 0
    made = job / "artifacts" / "again-1"
    record = made / "publication.json"
    state = json.loads(record.read_text()) | {"posted": posted, "posting": not posted}
    record.write_text(json.dumps(state))
    (made / "transcript.json").write_text("{")
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    assert _again() == 1
    assert "its post exists or may" in _last(capsys)["reason"]
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert len(api.posts) == 1


def test_only_its_own_files_are_replaced(job: Path, understood: Any) -> None:
    made = job / "artifacts" / "again-1"
    made.mkdir()
    (made / "somebody.ogg").write_bytes(b"a voice")
    (made / "transcript.txt").write_text("of a run that was killed")
    assert _again() == 0
    assert (made / "somebody.ogg").read_bytes() == b"a voice"
    assert "hello" in (made / "transcript.txt").read_text()


def test_when_nothing_can_be_understood_nothing_is_written(
    job: Path, understood: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    understood[0] = [FAILED]
    assert _again() == 1
    assert "HTTP 503" in _last(capsys)["reason"]
    assert not (job / "artifacts" / "again-1").exists()


def test_nothing_said_is_nothing_posted(
    api: Any, understood: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    understood[0] = []
    _publish(monkeypatch)
    assert _again() == 0
    assert _last(capsys)["segments"] == 0
    assert (api.posts, api.uploads) == ([], [])


def test_a_directory_that_is_not_published_yet_will_do(
    job: Path, understood: Any, settings_of: Any
) -> None:
    audio = job / "artifacts" / "audio"
    for path in audio.glob("bob.ogg*"):
        path.replace(job / path.name)
    settings_of(job)
    assert _again() == 0
    assert (job / "bob.ogg").exists()
    assert (job / "job.json").exists(), "salvage still has everything it needs"


@pytest.fixture
def settings_of() -> Any:
    def write(job: Path) -> None:
        job_directory.write_private(job / "job.json", '{"base_name": "Call_Y"}')

    return write


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"RETRANSCRIPTION": "../up"}, "RETRANSCRIPTION='../up'"),
        ({"RETRANSCRIPTION": ""}, "RETRANSCRIPTION=''"),
        ({"RETRANSCRIPTION": "audio"}, "RETRANSCRIPTION='audio'"),
        ({"RETRANSCRIPTION": "again-/../audio"}, "RETRANSCRIPTION='again-/../audio'"),
        ({"RETRANSCRIPTION_PUBLISH": "true"}, "AuthToken cannot be empty"),
        ({"LANGUAGES": "klingonese"}, "'klingonese' is no language code"),
        ({"MODEL": "huge"}, "no model 'huge'"),
        ({"TRANSCRIBE_API": "azure"}, "AZURE_SPEECH_KEY is missing"),
        ({"TRANSCRIPTION_ID": "0" * 26}, "No such file"),
    ],
)
@pytest.mark.documents("a-job-that-cannot-be-finished/2")
def test_a_wish_that_cannot_be_is_told_with_its_reason(
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    reason: str,
    documented: Any,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _again() == 2
    line = _last(capsys)
    documented("a-job-that-cannot-be-finished/2", line["event"])
    assert reason in line["reason"]


def test_without_kept_audio_it_says_what_keeps_it(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(job / "artifacts" / "audio")
    assert _again() == 2
    assert "KEEP_AUDIO=true" in _last(capsys)["reason"]


@pytest.mark.documents("another-process-is-at-work")
def test_two_processes_never_work_in_one_directory(
    job: Path, understood: Any, capsys: pytest.CaptureFixture[str], documented
) -> None:
    with job_directory.held(job):
        assert _again() == 1
    documented("another-process-is-at-work", _last(capsys)["reason"])

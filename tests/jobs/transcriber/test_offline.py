"""Files are transcribed to standard output, each as one speaker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.transcriber import __main__ as command

DATA = Path(__file__).parent / "data"
MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_DIR", str(MODELS))


def _offline(*arguments: str) -> int:
    return command.main(["offline", *arguments])


def test_several_files_become_one_transcript(capsys: pytest.CaptureFixture[str], clips) -> None:
    assert _offline(str(DATA / "alice.opus"), str(DATA / "bob.opus"), "--format", "json") == 0
    cues = json.loads(capsys.readouterr().out)
    assert [cue["speaker"] for cue in cues] == [
        "bob", "alice", "bob", "alice", "bob", "alice", "bob", "alice",
    ]  # fmt: skip
    truth = sorted(s.start_s for name in ("alice", "bob") for s in clips[name].sentences)
    for cue, start_s in zip(cues, truth, strict=True):
        assert abs(cue["start_ms"] / 1000 - start_s) <= 0.15


@pytest.mark.parametrize(("kind", "begin"), [("vtt", "WEBVTT\n"), ("txt", "00:00:01 -> ")])
def test_formats(capsys: pytest.CaptureFixture[str], kind: str, begin: str) -> None:
    assert _offline(str(DATA / "bob.opus"), "--format", kind) == 0
    assert capsys.readouterr().out.startswith(begin)


def test_a_model_directory_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(MODELS / "whisper-words-ct2")
    assert _offline(str(DATA / "bob.opus"), "--model", model) == 0
    assert "hello" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [("nothing.wav",), (str(DATA / "bob.json"),), (str(DATA / "bob.opus"), "--model", "huge")],
)
def test_what_cannot_be_used_is_said(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert _offline(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1

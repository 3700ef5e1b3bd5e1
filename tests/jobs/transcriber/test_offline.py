"""Files are transcribed to standard output, each as one speaker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import av
import pytest

from callclient.plugin_api import UserProfile
from jobs.transcriber import __main__ as command
from jobs.transcriber.capture import TrackCapture, TrackIdentity
from jobs.transcriber.speakers import SpeakerDirectory

DATA = Path(__file__).parent / "data"
MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_DIR", str(MODELS))


def _offline(*arguments: str) -> int:
    return command.main(["offline", *arguments])


def test_several_files_become_one_transcript(capsys: pytest.CaptureFixture[str], clips) -> None:
    assert _offline(str(DATA / "alice.opus"), str(DATA / "bob.opus"), "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    cues = document["segments"]
    assert [cue["speaker"] for cue in cues] == [
        "bob", "alice", "bob", "alice", "bob", "alice", "bob", "alice",
    ]  # fmt: skip
    truth = sorted(s.start_s for name in ("alice", "bob") for s in clips[name].sentences)
    for cue, start_s in zip(cues, truth, strict=True):
        assert abs(cue["start_ms"] / 1000 - start_s) <= 0.15


@pytest.mark.parametrize(
    ("kind", "begin"),
    [
        ("vtt", "WEBVTT\n"),
        ("txt", "00:00:01 -> "),
        ("srt", "1\n00:00:0"),
        ("md", "# Transcript\n\n**bob** (00:00:01)\n\n"),
    ],
)
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


def test_a_video_without_sound_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        file.mux(stream.encode(None))
    assert _offline(str(silent)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(silent) in captured.err
    assert "no audio" in captured.err


def test_an_empty_file_among_good_ones_prints_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert _offline(str(DATA / "bob.opus"), str(empty)) == 2
    captured = capsys.readouterr()
    assert (captured.out, str(empty) in captured.err) == ("", True)


def test_an_unknown_model_is_told_with_those_that_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _offline(str(DATA / "bob.opus"), "--model", "huge") == 2
    told = capsys.readouterr().err
    assert ("'huge'" in told, "whisper-words-ct2" in told) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((str(DATA / "bob.opus"), "--format", "docx"), "choose from"),
        ((), "FILE_OR_DIR"),
        ((str(DATA / "bob.opus"), "--speed", "9"), "--speed"),
    ],
)
def test_usage_that_is_wrong_says_what_is_wanted(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], wanted: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        _offline(*arguments)
    assert refused.value.code == 2
    assert wanted in capsys.readouterr().err


async def _kept(directory: Path, clips) -> None:
    """As `KEEP_AUDIO` leaves it: alice from 5 s on, and somebody whose name nobody knew."""
    await asyncio.to_thread(directory.mkdir, parents=True)
    for name, start_s in (("alice", 5), ("bob", 0)):
        capture = TrackCapture(
            directory / f"{name}.ogg", TrackIdentity(f"track-{name}", f"session-{name}", name)
        )
        packets = clips[name].packets(start_ns=start_s * 1_000_000_000)
        packets[200] = replace(packets[200], lost_ns=40_000_000)
        for packet in packets:
            capture.add(packet)
        capture.flush()
    speakers = SpeakerDirectory(directory)

    class Api:
        async def profile(self, channel_id: str, session_id: str) -> UserProfile:
            return UserProfile("alice", "ada", "Ada", "Lovelace")

    await speakers.look_up(Api(), channel_id="c", session_id="session-alice", user_id="alice")


async def test_kept_voices_are_transcribed_again_with_names_and_times(
    capsys: pytest.CaptureFixture[str], clips, tmp_path: Path
) -> None:
    await _kept(tmp_path / "artifacts" / "audio", clips)
    assert await asyncio.to_thread(_offline, str(tmp_path), "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    said = [segment for segment in document["segments"] if segment["speaker"] == "Ada Lovelace"]
    assert len(said) == len(clips["alice"].sentences)
    for segment, sentence in zip(said, clips["alice"].sentences, strict=True):
        assert abs(segment["start_ms"] / 1000 - sentence.start_s - 5) <= 0.15
        assert segment["words"]
    assert {s["speaker"] for s in document["segments"]} == {"Ada Lovelace", "Unknown speaker"}
    marks = {mark["session_id"]: mark for mark in document["lost_audio"]}
    assert marks["session-alice"]["lost_ms"] == 40
    assert marks["session-alice"]["end_ms"] == 9000


def test_a_language_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        _offline(str(DATA / "bob.opus"), "--language", "klingonese")
    assert refused.value.code == 2
    assert "no language code" in capsys.readouterr().err


def test_a_directory_without_captures_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _offline(str(tmp_path)) == 2
    assert "no captures in it" in capsys.readouterr().err

"""What a published job keeps: nothing unless it was asked for, and no voice unless that was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import job_directory
from jobs.connection_gaps import ConnectionGaps
from jobs.transcriber.capture import (
    INDEX_SUFFIX,
    TrackCapture,
    TrackIdentity,
    VoicePacket,
    find_captures,
)
from jobs.transcriber.keeping import artifacts, keep_audio
from jobs.transcriber.kept import finish_directory
from jobs.transcriber.losses import LostAudio, lost_connections, lost_packets
from jobs.transcriber.outcome import write_files
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.transcript import INAUDIBLE, Segment, TranscriptWord

ID = "abcdefghijklmnopqrstuvwxy"
SECOND_NS = 1_000_000_000
MS = 1_000_000
SEGMENTS = [
    Segment(
        "session-a", "user-a", 1 * SECOND_NS, 2 * SECOND_NS, "Здравствуй, 世界", "ru",
        (TranscriptWord("Здравствуй,", SECOND_NS, SECOND_NS + 500 * MS, 0.87654321),),
    ),
    Segment("session-b", "", 1 * SECOND_NS + 1, 3 * SECOND_NS, INAUDIBLE, "", failure="too slow"),
]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> TranscriberSettings:
    found = TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id=ID + "c",
        post_id=ID + "p",
        job_id=ID + "t",
        auth_token=ID + "s",
        data_dir=tmp_path,
    )
    job_directory.create(found, base_name="Call")
    return found


def _finished(settings: TranscriberSettings, clips) -> None:
    capture = TrackCapture(
        settings.directory / "a.ogg", TrackIdentity("track-a", "session-a", "user-a")
    )
    for number, packet in enumerate(clips["alice"].packets()[:100]):
        lost = {10: 40 * MS, 20: 60 * MS, 90: 20 * MS}.get(number, 0)
        capture.add(replace(packet, lost_ns=lost))
    capture.flush()
    gaps = ConnectionGaps()
    gaps.lost(30 * SECOND_NS)
    assert gaps.restored(42 * SECOND_NS)
    gaps.save(settings.directory)
    write_files(SEGMENTS, SpeakerDirectory(settings.directory), settings)


def test_the_document_has_words_speakers_reasons_and_what_was_lost(settings, clips) -> None:
    _finished(settings, clips)
    document = json.loads((settings.directory / "transcript.json").read_text())
    first, second = document["segments"]
    assert first["words"] == [
        {"text": "Здравствуй,", "start_ms": 1000, "end_ms": 1500, "probability": 0.8765}
    ]
    assert (first["language"], first["user_id"], first["speaker"]) == (
        "ru",
        "user-a",
        "Unknown speaker",
    )
    assert "failure" not in first
    assert (second["text"], second["failure"]) == (INAUDIBLE, "too slow")
    assert document["language"] == "ru"
    assert document["lost_audio"] == [
        {"session_id": "", "start_ms": 30_000, "end_ms": 42_000, "lost_ms": 12_000},
        {"session_id": "session-a", "start_ms": 160, "end_ms": 400, "lost_ms": 100},
        {"session_id": "session-a", "start_ms": 1780, "end_ms": 1800, "lost_ms": 20},
    ]  # fmt: skip


def test_by_default_nothing_is_kept(settings, clips) -> None:
    _finished(settings, clips)
    finish_directory(settings)
    assert not settings.directory.exists()


def test_what_is_wished_is_kept_and_no_sound(settings, clips) -> None:
    _finished(settings, clips)
    finish_directory(replace(settings, artifacts="json,srt,md,vtt,txt"))
    files = {path.relative_to(settings.directory).as_posix() for path in _files(settings.directory)}
    kinds = ("json", "srt", "md", "vtt", "txt")
    assert files == {
        "artifacts/manifest.jsonl",
        *(f"artifacts/transcript.{kind}" for kind in kinds),
    }
    for path in _files(settings.directory):
        assert path.stat().st_mode & 0o077 == 0
        assert path.name == "manifest.jsonl" or "世界" in path.read_text(encoding="utf-8")


def test_voices_are_kept_when_asked_for_and_can_be_read_again(settings, clips) -> None:
    _finished(settings, clips)
    finish_directory(replace(settings, keep_audio=True))
    kept = settings.directory / "artifacts" / "audio"
    assert {path.name for path in _files(settings.directory)} == {
        *("a.ogg", f"a.ogg{INDEX_SUFFIX}", "connection.json", "call.json", "manifest.jsonl")
    }
    assert json.loads((kept / "call.json").read_text()) == {"base_name": "Call"}
    assert lost_connections(kept), "or a later transcript would not tell of them"
    (capture,) = find_captures(kept)
    assert len(list(capture.packets())) == 100


def test_whoever_finishes_a_half_kept_directory_loses_nothing(settings, clips) -> None:
    _finished(settings, clips)
    wished = replace(settings, keep_audio=True, artifacts="srt")
    kept = settings.directory / "artifacts" / "audio"
    kept.mkdir(parents=True)
    (settings.directory / "a.ogg").replace(kept / "a.ogg")  # and there the process died
    finish_directory(wished)
    assert {path.name for path in _files(settings.directory)} == {
        "a.ogg",
        f"a.ogg{INDEX_SUFFIX}",
        *("connection.json", "call.json", "manifest.jsonl"),
        "transcript.srt",
    }


def test_a_disk_that_takes_no_artifact_does_not_keep_the_job_unfinished(
    settings, clips, monkeypatch
) -> None:
    _finished(settings, clips)

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job_directory, "write_private", full)
    finish_directory(replace(settings, artifacts="srt"))
    assert not (settings.directory / "job.json").exists()


def test_the_settings_are_forgiving_and_keep_no_sound_by_mistake() -> None:
    warnings: list[str] = []
    assert artifacts({"ARTIFACTS": "MD, json,docx,json"}, warnings) == "json,md"
    assert artifacts({}, warnings) == ""
    assert keep_audio({"KEEP_AUDIO": "true"}, warnings)
    assert len(warnings) == 1
    assert "docx" in warnings[0]
    assert not keep_audio({}, warnings)
    assert not keep_audio({"KEEP_AUDIO": "perhaps"}, warnings)
    assert "KEEP_AUDIO" in warnings[1]


def test_gaps_of_the_connection_are_in_call_time_and_survive_a_damaged_file(tmp_path: Path) -> None:
    gaps = ConnectionGaps()
    assert not gaps.restored(SECOND_NS), "nothing was lost"
    gaps.lost(-3 * SECOND_NS)
    assert gaps.restored(2 * SECOND_NS)
    gaps.save(tmp_path)
    assert lost_connections(tmp_path) == [LostAudio("", 0, 2 * SECOND_NS, 2 * SECOND_NS)]
    (tmp_path / "connection.json").write_text("{")
    assert lost_connections(tmp_path) == []


def test_an_hour_of_losses_has_few_marks(tmp_path: Path) -> None:
    capture = TrackCapture(tmp_path / "a.ogg", TrackIdentity("t", "s", "u"))
    payload = bytes([0xF8]) + b"x" * 60
    for number in range(1, 3000, 2):  # every other packet of a minute
        capture.add(VoicePacket(payload, number * 20 * MS, 20 * MS, 20 * MS))
    capture.flush()
    (mark,) = lost_packets(find_captures(tmp_path))
    assert mark.lost_ns == 1500 * 20 * MS


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]

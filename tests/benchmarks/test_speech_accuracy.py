"""The measure of accuracy can tell right from wrong, and runs on any model and any recording."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.speech_accuracy import trial
from benchmarks.speech_accuracy.scores import Score, rightly_attributed
from benchmarks.speech_accuracy.speech import SpokenWord, Track, to_packets, with_losses
from jobs.transcriber.transcript import Segment, TranscriptWord
from testbed.speech.clips import CLIPS_DIRECTORY
from testbed.speech.opus_file import read_samples

MODELS = Path(__file__).parents[2] / "models"
SAID = (SpokenWord("the", 1.0), SpokenWord("report", 1.5), SpokenWord("is", 1.7))


def _segment(session_id: str, *words: tuple[str, float]) -> Segment:
    timed = tuple(TranscriptWord(text, 0, round(end_s * 1e9), 1.0) for text, end_s in words)
    text = " ".join(word.text for word in timed)
    return Segment(session_id, "", 500_000_000, 2_000_000_000, text, "en", timed)


def test_errors_and_times_are_counted_by_word() -> None:
    score = Score()
    score.add_segments(SAID, [_segment("a", ("The", 1.1), ("plan", 1.5), ("is", 1.8), ("on", 2))])
    assert (score.words, score.errors) == (3, 2)
    assert score.end_errors_s == pytest.approx([0.1, 0.1])


def test_a_text_under_the_wrong_name_is_noticed() -> None:
    tracks = [
        Track("a", SAID, ()),
        Track("b", (SpokenWord("any", 1.0), SpokenWord("question", 1.6)), ()),
    ]
    right = [_segment("a", ("the", 1.0), ("report", 1.5)), _segment("b", ("any", 1.0))]
    assert rightly_attributed(tracks, right) == 1
    assert rightly_attributed(tracks, [*right, _segment("b", ("report", 1.5))]) < 1


def test_losses_are_marked_as_the_receive_path_does() -> None:
    packets = to_packets(read_samples(CLIPS_DIRECTORY / "alice-01.opus"))
    kept = with_losses(packets, share=0.2, seed=1)
    assert len(kept) < len(packets)
    for before, packet in pairwise(kept):
        assert packet.heard_ns == before.end_ns
    assert any(packet.repairs_loss for packet in kept)


def test_a_trial_of_a_model_prints_errors_and_lags(tmp_path: Path, capsys) -> None:
    for name in ("alice-01", "bob-01"):
        shutil.copy(CLIPS_DIRECTORY / f"{name}.opus", tmp_path)
    (tmp_path / "alice-01.txt").write_text("Good morning everyone, welcome!")
    (tmp_path / "bob-01.txt").write_text("hello alice the report is open")
    files = [str(tmp_path / f"{name}.opus") for name in ("alice-01", "bob-01")]
    model = ["--models-dir", str(MODELS), "--model", "whisper-words-ct2"]
    assert trial.main([*files, *model, "--context", "10"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "2 file(s)" in told[0]
    assert "10 words" in told[0]
    assert "10.0%" in told[3], "one word of the text was not said"
    assert "10 s" in told[4]


def test_a_recording_without_text_is_refused(tmp_path: Path, capsys) -> None:
    shutil.copy(CLIPS_DIRECTORY / "alice-01.opus", tmp_path)
    file = str(tmp_path / "alice-01.opus")
    assert trial.main([file, "--models-dir", str(MODELS)]) == 2
    assert "alice-01.txt" in capsys.readouterr().err

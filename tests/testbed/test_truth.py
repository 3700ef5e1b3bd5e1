from __future__ import annotations

from pathlib import Path

from testbed.speech.clips import CLIPS_DIRECTORY, load_clips
from testbed.truth import Truth, TruthLog, read_truth


def _write(path: Path) -> Truth:
    clip = load_clips(CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))["bob"][0]
    log = TruthLog(path)
    log.mark("join", "bob", 1_000_000_000, session_id="s1")
    log.mark("unmute", "bob", 2_000_000_000)
    log.utterance("bob", clip, 3_000_000_000)
    log.mark("mute", "bob", 7_000_000_000)
    log.mark("leave", "bob", 8_000_000_000)
    log.close()
    return read_truth(path)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    truth = _write(tmp_path / "truth.jsonl")
    assert truth.sessions == {"s1": "bob"}
    utterance = truth.utterances[0]
    assert utterance.onset_ns == 3_000_000_000 + round(utterance.words[0].start_s * 1e9)
    assert utterance.end_ns > utterance.onset_ns
    assert truth.times_ns("mute") == [7_000_000_000]


def test_presence_and_muting_follow_the_marks(tmp_path: Path) -> None:
    truth = _write(tmp_path / "truth.jsonl")
    assert truth.muted("bob", 1_500_000_000)
    assert not truth.muted("bob", 2_500_000_000)
    assert truth.muted("bob", 7_500_000_000)
    assert truth.present(500_000_000) == []
    assert truth.present(5_000_000_000) == ["bob"]
    assert truth.present(8_000_000_000) == []


def test_wall_times_are_converted_with_the_writers_offset(tmp_path: Path) -> None:
    truth = _write(tmp_path / "truth.jsonl")
    assert truth.monotonic_ns((truth.epoch_offset_ns + 5_000_000_000) // 1_000_000) == (
        (truth.epoch_offset_ns + 5_000_000_000) // 1_000_000 * 1_000_000 - truth.epoch_offset_ns
    )


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    _write(path)
    with path.open("a") as file:
        file.write('{"kind": "mark", "bo')
    assert len(read_truth(path).marks) == 4

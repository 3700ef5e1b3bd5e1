"""From files to checks, summary and tables; files that are missing or broken are failed checks."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed.analysis.captions import Caption
from testbed.analysis.evidence import RecordingWish
from testbed.analysis.speech import parse_webvtt
from testbed.analysis.synthetic import Simulated, simulate, transcript_of, write_recording
from testbed.demo.judge import Files, judge
from testbed.demo.show import Show
from testbed.demo.summary import Measured, make_summary
from testbed.demo.thread import Results, read_results
from testbed.scenario import SHORT
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips
from testbed.stack import ProcessFigures

POSTED = Results("rec", "vtt", "txt", 1, 1)


@pytest.fixture(scope="module")
def clips() -> dict[str, list[Clip]]:
    return load_clips(CLIPS_DIRECTORY, speakers=SHORT.bots)


@pytest.fixture(scope="module")
def simulated(clips: dict[str, list[Clip]]) -> Simulated:
    return simulate(SHORT, clips)


@pytest.fixture(scope="module")
def files(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What a perfect run leaves."""
    made = Files(tmp_path_factory.mktemp("output"))
    write_recording(made.recording, simulated)
    vtt = transcript_of(simulated.call)
    made.vtt.write_text(vtt)
    made.text.write_text("\n\n".join(cue.text for cue in parse_webvtt(vtt)))
    lines = [
        {"received_at_s": s.end_s + 0.7, "speaker": s.speaker, "text": s.utterance.text}
        for s in simulated.call.spoken()
    ]
    made.captions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


def _record(kind: str, **other: Any) -> dict[str, Any]:
    clean = {"state": "finished", "stop_reason": "completed", "exit_code": 0, "unpublished": False}
    return {"type": kind} | clean | other


RECORDS = (_record("recording"), _record("transcribing"))


def _judge(
    files: Files,
    simulated: Simulated,
    clips: dict[str, list[Clip]],
    *,
    results: Results = POSTED,
    records: Sequence[dict[str, Any]] = RECORDS,
    killed: Sequence[str] = (),
) -> Measured:
    return judge(
        files,
        scenario="short",
        wish=RecordingWish(1280, 720, 10),
        call=simulated.call,
        clips=clips,
        results=results,
        figures=[ProcessFigures("sfu", 1.25, 50 << 20), ProcessFigures("recorder", 9.0, 90 << 20)],
        start_to_joined_s={"recorder": 0.6},
        records=records,
        killed=killed,
        left_over=(),
    )


def _failed(measured: Measured) -> set[str]:
    return {check.name for check in measured.checks if not check.ok}


def test_a_perfect_run_passes_and_its_summary_tells_everything(
    files: Files, simulated: Simulated, clips: dict[str, list[Clip]]
) -> None:
    measured = _judge(files, simulated, clips)
    assert _failed(measured) == set()
    summary = json.loads(json.dumps(make_summary(measured)))
    assert summary["ok"]
    assert summary["caption_lag_s"]["p50"] == pytest.approx(0.7, abs=0.01)
    assert summary["recorded_s"] == pytest.approx(SHORT.end_s, abs=0.1)
    assert summary["word_error_rate"] == 0
    assert len(summary["sentences"]) == len(simulated.call.spoken())
    assert all(abs(s["placement_error_s"]) < 0.05 for s in summary["sentences"])
    assert summary["processes"][1] == {
        "name": "recorder",
        "cpu_s": 9.0,
        "peak_rss_bytes": 90 << 20,
        "start_to_joined_s": 0.6,
    }

    out = io.StringIO()
    Show(Console(file=out, width=120)).summary(summary)
    for text in ("0.6 s", "90 MiB", "recorder", simulated.call.spoken()[0].utterance.text, "✓"):
        assert text in out.getvalue()


def test_missing_results_are_failed_checks_and_the_summary_still_comes(
    simulated: Simulated, clips: dict[str, list[Clip]], tmp_path: Path
) -> None:
    files = Files(tmp_path)
    files.captions.touch()
    measured = _judge(files, simulated, clips, results=Results())
    assert {"recording can be read", "transcript can be read", "posts in the thread"} <= _failed(
        measured
    )
    summary = make_summary(measured)
    assert not summary["ok"]
    out = io.StringIO()
    Show(Console(file=out, width=120)).summary(summary)
    assert "FAILED" in out.getvalue()


def test_a_second_post_of_the_same_recording_fails(
    files: Files, simulated: Simulated, clips: dict[str, list[Clip]]
) -> None:
    twice = Results("rec", "vtt", "txt", 2, 1)
    assert _failed(_judge(files, simulated, clips, results=twice)) == {"posts in the thread"}


@pytest.mark.parametrize(
    "records",
    [
        (),
        (_record("recording"),),
        (_record("recording"), _record("recording"), _record("transcribing")),
        (_record("recording", stop_reason="lost", exit_code=None), _record("transcribing")),
        (_record("recording", unpublished=True), _record("transcribing")),
        (_record("recording"), _record("transcribing", state="running", stop_reason=None)),
    ],
)
def test_jobs_whose_records_are_not_clean_fail(
    files: Files,
    simulated: Simulated,
    clips: dict[str, list[Clip]],
    records: tuple[dict[str, Any], ...],
) -> None:
    assert _failed(_judge(files, simulated, clips, records=records)) == {
        "records of the job service"
    }


def test_a_process_that_had_to_be_killed_fails(
    files: Files, simulated: Simulated, clips: dict[str, list[Clip]]
) -> None:
    measured = _judge(files, simulated, clips, killed=["python -m sfu"])
    assert _failed(measured) == {"no process left"}


def test_the_jobs_posts_are_found_among_others() -> None:
    posts = [
        {"type": "custom_calls", "file_ids": ["v1"]},
        {"type": "custom_calls_recording", "file_ids": ["r1"], "props": {}},
        {
            "type": "custom_calls_transcription",
            "file_ids": ["t1"],
            "props": {"captions": [{"file_id": "v1"}]},
        },
    ]
    results = read_results(posts)
    assert results == Results("r1", "v1", "t1", 1, 1)
    assert results.complete
    assert not read_results(posts[:2]).complete


def test_a_caption_line_tells_time_name_text_and_lag() -> None:
    out = io.StringIO()
    show = Show(Console(file=out, width=120))
    show.caption(Caption(72.44, "Bob Brown", "start the recording"), 0.93)
    assert out.getvalue().split("\n")[0].strip() == "01:12.4  Bob     start the recording  (0.9 s)"

"""From a run's files to its checks. Blocking; several seconds of CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.analysis.call import Call
from testbed.analysis.captions import Caption
from testbed.analysis.checks import (
    CheckResult,
    check_captions,
    check_recording,
    check_transcript,
)
from testbed.analysis.evidence import (
    RecordingEvidence,
    RecordingWish,
    TranscriptEvidence,
    examine_captions,
    examine_recording,
    examine_transcript,
)
from testbed.analysis.media import MediaError
from testbed.analysis.speech import TranscriptError
from testbed.demo.job_records import check_records
from testbed.demo.summary import Measured
from testbed.demo.thread import Results
from testbed.speech.clips import Clip
from testbed.stack import ProcessFigures
from testbed.truth import read_jsonl


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's results lie."""

    output: Path

    @property
    def recording(self) -> Path:
        return self.output / "recording.mp4"

    @property
    def vtt(self) -> Path:
        return self.output / "transcript.vtt"

    @property
    def text(self) -> Path:
        return self.output / "transcript.txt"

    @property
    def captions(self) -> Path:
        return self.output / "captions.jsonl"

    @property
    def truth(self) -> Path:
        return self.output / "truth.jsonl"

    @property
    def logs(self) -> Path:
        return self.output / "logs"


def judge(
    files: Files,
    *,
    scenario: str,
    wish: RecordingWish,
    call: Call,
    clips: Mapping[str, Sequence[Clip]],
    results: Results,
    figures: Sequence[ProcessFigures],
    start_to_joined_s: dict[str, float],
    records: Sequence[Mapping[str, Any]],
    killed: Sequence[str],
    left_over: Sequence[str],
) -> Measured:
    """Measure everything and check it; a file that cannot be read is a failed check.

    `records`: of all jobs, as the job service shows them.
    """
    recording, checks = _judge_recording(files, call, clips, wish)
    transcript, more = _judge_transcript(files, call)
    checks += more
    captions = examine_captions(read_captions(files.captions), call)
    checks += check_captions(captions)
    checks += [_check_posts(results), check_records(records), _check_ends(killed, left_over)]
    return Measured(
        scenario=scenario,
        wish=wish,
        call=call,
        checks=checks,
        figures=figures,
        start_to_joined_s=start_to_joined_s,
        recording=recording,
        transcript=transcript,
        captions=captions,
    )


def read_captions(path: Path) -> list[Caption]:
    """What the demo wrote during the call."""
    return [
        Caption(record["received_at_s"], record["speaker"], record["text"])
        for record in read_jsonl(path)
    ]


def _judge_recording(
    files: Files, call: Call, clips: Mapping[str, Sequence[Clip]], wish: RecordingWish
) -> tuple[RecordingEvidence | None, list[CheckResult]]:
    try:
        evidence = examine_recording(files.recording, call, clips, wish)
    except MediaError as error:
        return None, [CheckResult("recording can be read", False, str(error), "recorder")]
    return evidence, check_recording(evidence, call, wish)


def _judge_transcript(
    files: Files, call: Call
) -> tuple[TranscriptEvidence | None, list[CheckResult]]:
    try:
        vtt = files.vtt.read_text(encoding="utf-8")
        evidence = examine_transcript(vtt, files.text.read_text(encoding="utf-8"), call)
    except (TranscriptError, OSError, UnicodeDecodeError) as error:
        return None, [CheckResult("transcript can be read", False, str(error), "transcriber")]
    return evidence, check_transcript(evidence)


def _check_posts(results: Results) -> CheckResult:
    """One post each: publishing is not idempotent, so a careless retry shows here (trap 36)."""
    once = (results.recording_posts, results.transcription_posts) == (1, 1)
    return CheckResult(
        "posts in the thread",
        once,
        f"{results.recording_posts} of the recording, {results.transcription_posts} of the transcript",
        "plugin",
    )


def _check_ends(killed: Sequence[str], left_over: Sequence[str]) -> CheckResult:
    faults = [f"had to kill {command}" for command in killed]
    faults += [f"still there: {command}" for command in left_over]
    return CheckResult(
        "no process left", not faults, "; ".join(faults) or "all ended when asked to", "offloader"
    )

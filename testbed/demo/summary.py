"""The summary: every figure of a run as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from testbed.analysis.call import Call
from testbed.analysis.captions import percentile
from testbed.analysis.checks import CheckResult
from testbed.analysis.evidence import (
    CaptionEvidence,
    RecordingEvidence,
    RecordingWish,
    TranscriptEvidence,
)
from testbed.stack import ProcessFigures


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything known about a run; parts that could not be measured are None."""

    scenario: str
    wish: RecordingWish
    call: Call
    checks: Sequence[CheckResult]
    figures: Sequence[ProcessFigures]
    start_to_joined_s: dict[str, float]
    """By job."""
    recording: RecordingEvidence | None
    transcript: TranscriptEvidence | None
    captions: CaptionEvidence | None


def make_summary(measured: Measured) -> dict[str, Any]:
    """JSON values only; times in recording time."""
    recording, transcript, captions = measured.recording, measured.transcript, measured.captions
    sync = recording.av_sync if recording is not None else None
    return {
        "ok": all(check.ok for check in measured.checks),
        "scenario": measured.scenario,
        "asked_for": asdict(measured.wish),
        "started_to_stopped_s": _rounded(measured.call.duration_s),
        "recorded_s": _rounded(recording.structure.duration_s) if recording is not None else None,
        "recording_bytes": recording.structure.size_bytes if recording is not None else None,
        "word_error_rate": _rounded(transcript.result.word_error_rate) if transcript else None,
        "av_offset_s": {
            "median": _rounded(sync.median_s),
            "worst": _rounded(sync.worst_s),
            "pairs": len(sync.offsets_s),
        }
        if sync is not None
        else None,
        "caption_lag_s": {
            "count": len(captions.results),
            "p50": _rounded(percentile(captions.lags_s, 0.5)),
            "p95": _rounded(percentile(captions.lags_s, 0.95)),
        }
        if captions is not None
        else None,
        "sentences": _sentences(measured),
        "processes": [
            {
                "name": figure.name,
                "cpu_s": _rounded(figure.cpu_s),
                "peak_rss_bytes": figure.peak_rss_bytes,
                "start_to_joined_s": _rounded(measured.start_to_joined_s.get(figure.name)),
            }
            for figure in measured.figures
        ],
        "checks": [asdict(check) for check in measured.checks],
    }


def _sentences(measured: Measured) -> list[dict[str, Any]]:
    placed = {
        (p.clip, round(p.true_s, 3)): p.error_s
        for p in (measured.recording.placements if measured.recording is not None else ())
    }
    judged = {
        id(s.spoken.utterance): s
        for s in (measured.transcript.result.sentences if measured.transcript else ())
    }
    captioned = {
        id(s.spoken.utterance): s
        for s in (measured.captions.sentences if measured.captions else ())
    }
    sentences = []
    for spoken in measured.call.spoken():
        utterance = spoken.utterance
        transcript, captions = judged.get(id(utterance)), captioned.get(id(utterance))
        true_s = measured.call.time_s(utterance.start_ns)
        sentences.append(
            {
                "at_s": _rounded(spoken.start_s),
                "speaker": spoken.speaker,
                "text": utterance.text,
                "word_error_rate": _rounded(transcript.word_error_rate) if transcript else None,
                "placement_error_s": _rounded(placed.get((utterance.clip, round(true_s, 3)))),
                "captions": captions.count if captions else None,
                "last_caption_after_end_s": _rounded(captions.last_after_end_s)
                if captions
                else None,
            }
        )
    return sentences


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

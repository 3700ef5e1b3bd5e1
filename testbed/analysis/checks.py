"""What is good enough, and why: every tolerance of the demo and of the end-to-end test, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from testbed.analysis.call import Call
from testbed.analysis.captions import percentile
from testbed.analysis.evidence import (
    CaptionEvidence,
    RecordingEvidence,
    RecordingWish,
    TranscriptEvidence,
)
from testbed.analysis.placement import drift_s
from testbed.analysis.watching import (
    PictureFault,
    count_rings,
    name_faults,
    ring_faults,
    screen_faults,
)
from testbed.bots.picture import FRAMES_PER_S

LENGTH_TOLERANCE_S: Final = 0.5
"""A person does not notice; includes the way of the start and stop messages."""
AV_OFFSET_S: Final = 0.060
"""Where lips begin to look wrong (EBU R37 allows +40/−60 ms for broadcasts)."""
MIN_AV_PAIRS: Final = 3
PLACEMENT_TOLERANCE_S: Final = 0.100
"""Above it answers in a dialogue begin to overlap what they answer."""
DRIFT_TOLERANCE_S: Final = 0.060
"""Between a bot's earliest and latest error: jitter and mutes move a sentence by up to two packets."""
MAX_WORD_ERROR_RATE: Final = 0.10
"""The bundled model makes 1–5 % of errors on its own; more comes from us."""
CUE_START_P95_S: Final = 0.3
CUE_START_MAX_S: Final = 0.6
CAPTION_LAST_S: Final = 3.0
"""A caption that comes later is about what nobody remembers."""
MIN_RING_JUDGEMENTS: Final = 4
"""Of either kind, or the rings were not really judged."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of a call."""

    name: str
    ok: bool
    detail: str
    """What was measured, against what was asked for."""
    log: str
    """Whose log explains a failure."""


def check_recording(
    evidence: RecordingEvidence, call: Call, wish: RecordingWish
) -> list[CheckResult]:
    """Everything that `recording.mp4` must be."""
    return [
        _check_streams(evidence, wish),
        _check_length(evidence, call),
        _check_av_sync(evidence, wish),
        _check_placement(evidence),
        _check_drift(evidence),
        _check_pictures("names on the tiles", name_faults(evidence.watched.looks), evidence),
        _check_rings(evidence),
        _check_pictures("shared screen", screen_faults(evidence.watched.looks), evidence),
    ]


def check_transcript(evidence: TranscriptEvidence) -> list[CheckResult]:
    """Everything that the transcript must be."""
    result = evidence.result
    wrong = result.wrong_speakers
    errors_s = [abs(error_s) for error_s in result.start_errors_s]
    p95_s, max_s = percentile(errors_s, 0.95), max(errors_s, default=None)
    silent = [s for s in result.sentences if s.errors >= len(s.spoken.words)]
    return [
        CheckResult(
            "words of the transcript",
            result.reference_words > 0 and result.word_error_rate <= MAX_WORD_ERROR_RATE,
            f"{result.errors} errors in {result.reference_words} words, "
            f"{_percent(result.word_error_rate)} (at most {_percent(MAX_WORD_ERROR_RATE)})"
            + (f"; {len(silent)} sentences lost" if silent else ""),
            "transcriber",
        ),
        CheckResult(
            "speakers of the transcript",
            bool(result.cues) and not wrong,
            f"{len(result.cues) - len(wrong)} of {len(result.cues)} cues right"
            + "".join(f"; wrong at {cue.start_s:.1f} s" for cue in wrong[:3]),
            "transcriber",
        ),
        CheckResult(
            "cue starts",
            p95_s is not None
            and max_s is not None
            and p95_s <= CUE_START_P95_S
            and max_s <= CUE_START_MAX_S,
            f"p95 {_ms(p95_s)}, worst {_ms(max_s)} "
            f"(at most {_ms(CUE_START_P95_S)} and {_ms(CUE_START_MAX_S)})",
            "transcriber",
        ),
        CheckResult(
            "text file",
            0 < evidence.text_words == evidence.vtt_words,
            f"{evidence.text_words} words, the VTT file has {evidence.vtt_words}",
            "transcriber",
        ),
    ]


def check_captions(evidence: CaptionEvidence) -> list[CheckResult]:
    """Everything that live captions must be."""
    without = [s for s in evidence.sentences if s.count == 0]
    late = [
        s
        for s in evidence.sentences
        if s.last_after_end_s is not None and s.last_after_end_s > CAPTION_LAST_S
    ]
    last = [s.last_after_end_s for s in evidence.sentences if s.last_after_end_s is not None]
    return [
        CheckResult(
            "a caption for every sentence",
            bool(evidence.sentences) and not without,
            f"{len(evidence.sentences) - len(without)} of {len(evidence.sentences)} sentences"
            + "".join(
                f"; none for {s.spoken.utterance.bot} at {s.spoken.start_s:.1f} s"
                for s in without[:3]
            ),
            "transcriber",
        ),
        CheckResult(
            "captions in time",
            bool(last) and not late,
            f"the last one {_s(max(last, default=None))} after its sentence "
            f"(at most {CAPTION_LAST_S:g} s)",
            "transcriber",
        ),
    ]


def _check_streams(evidence: RecordingEvidence, wish: RecordingWish) -> CheckResult:
    found = evidence.structure
    faults = []
    if found.video_codecs != ("h264",) or found.pixel_format != "yuv420p":
        faults.append(f"pictures are {', '.join(found.video_codecs)} {found.pixel_format}")
    if found.audio_codecs != ("aac",):
        faults.append(f"sound is {', '.join(found.audio_codecs)}")
    if (found.width_px, found.height_px) != (wish.width_px, wish.height_px):
        faults.append(f"asked for {wish.width_px}×{wish.height_px}")
    # Whole frame intervals counted in a window that may begin between two: one more may fall in.
    if found.most_frames_in_a_second > wish.frame_rate + 1:
        faults.append(f"up to {found.most_frames_in_a_second} frames in a second")
    if not found.index_in_front:
        faults.append(f"the index is not in front: {' '.join(found.boxes)}")
    detail = (
        f"h264 {found.width_px}×{found.height_px}, at most {wish.frame_rate} frames/s, aac, "
        f"{found.size_bytes / 1e6:.1f} MB"
    )
    return CheckResult(
        "streams of the recording", not faults, "; ".join(faults) or detail, "recorder"
    )


def _check_length(evidence: RecordingEvidence, call: Call) -> CheckResult:
    found = evidence.structure
    off_s = max(
        (found.duration_s, found.video_duration_s, found.audio_duration_s),
        key=lambda value: abs(value - call.duration_s),
    )
    return CheckResult(
        "length of the recording",
        abs(off_s - call.duration_s) <= LENGTH_TOLERANCE_S,
        f"sound {found.audio_duration_s:.2f} s, pictures {found.video_duration_s:.2f} s; started to "
        f"stopped {call.duration_s:.2f} s (± {LENGTH_TOLERANCE_S:g} s)",
        "recorder",
    )


def _check_av_sync(evidence: RecordingEvidence, wish: RecordingWish) -> CheckResult:
    sync = evidence.av_sync
    # A source with more frames than the file: the flash waits for the file's next frame.
    limit_s = AV_OFFSET_S + (1 / wish.frame_rate if wish.frame_rate < FRAMES_PER_S else 0)
    fits = all(abs(offset_s) <= limit_s for offset_s in sync.offsets_s)
    missing = "".join(
        f"; no {'beep' if pair.beep_s is None else 'flash'} at {pair.true_s:.1f} s"
        for pair in sync.missing[:3]
    )
    return CheckResult(
        "sound and picture together",
        fits and not sync.missing and len(sync.pairs) >= MIN_AV_PAIRS,
        f"{len(sync.offsets_s)} of {len(sync.pairs)} pairs, median {_ms(sync.median_s)}, "
        f"worst {_ms(sync.worst_s)} (at most {_ms(limit_s)}){missing}",
        "recorder",
    )


def _check_placement(evidence: RecordingEvidence) -> CheckResult:
    errors_s = [p.error_s for p in evidence.placements if p.error_s is not None]
    missing = [p for p in evidence.placements if p.found_s is None]
    worst_s = max(errors_s, key=abs, default=None)
    return CheckResult(
        "every voice in its place",
        bool(errors_s)
        and not missing
        and all(abs(error_s) <= PLACEMENT_TOLERANCE_S for error_s in errors_s),
        f"{len(errors_s)} of {len(evidence.placements)} sentences heard, worst {_ms(worst_s)} off "
        f"(at most {_ms(PLACEMENT_TOLERANCE_S)})"
        + "".join(f"; {p.bot} at {p.true_s:.1f} s is missing" for p in missing[:3]),
        "recorder",
    )


def _check_drift(evidence: RecordingEvidence) -> CheckResult:
    drifts = drift_s(evidence.placements)
    worst = max(drifts, key=lambda bot: drifts[bot], default=None)
    return CheckResult(
        "no drift",
        worst is not None and drifts[worst] <= DRIFT_TOLERANCE_S,
        f"{worst} {_ms(drifts[worst])} (at most {_ms(DRIFT_TOLERANCE_S)})"
        if worst is not None
        else "nothing to compare",
        "recorder",
    )


def _check_rings(evidence: RecordingEvidence) -> CheckResult:
    looks = evidence.watched.looks
    judged = count_rings(looks, "required"), count_rings(looks, "forbidden")
    faults = ring_faults(looks)
    return CheckResult(
        "speaking rings",
        not faults and min(judged) >= MIN_RING_JUDGEMENTS,
        f"{judged[0]} looks at speakers, {judged[1]} at silent ones" + _told(faults),
        "recorder",
    )


def _check_pictures(
    name: str, faults: Sequence[PictureFault], evidence: RecordingEvidence
) -> CheckResult:
    looks = evidence.watched.looks
    return CheckResult(
        name, bool(looks) and not faults, f"{len(looks)} looks" + _told(faults), "recorder"
    )


def _told(faults: Sequence[PictureFault]) -> str:
    if not faults:
        return ""
    first = "; ".join(f"{fault.what} at {fault.at_s:.1f} s" for fault in faults[:3])
    return f", {len(faults)} faults: {first}"


def _ms(value_s: float | None) -> str:
    return "none" if value_s is None else f"{value_s * 1000:.0f} ms"


def _s(value_s: float | None) -> str:
    return "none" if value_s is None else f"{value_s:.1f} s"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"

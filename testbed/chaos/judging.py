"""Is everything there that had been received before the last moments? Blocking: seconds of CPU."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from testbed.analysis.marks import find_beeps, flash_onsets, screen_brightness
from testbed.analysis.media import MediaError, iter_pictures, luma, read_sound
from testbed.analysis.mp4_structure import read_mp4
from testbed.analysis.pictures import contained
from testbed.chaos.schedule import JobKind
from testbed.chaos.victim import Story
from testbed.truth import Truth

LOSS_S: Final[Mapping[JobKind, float]] = {"recorder": 1.5, "transcriber": 1.0}
"""What a kill may cost: the recording stays behind the call, and both are on disk in steps."""
_END_S: Final = 0.3
"""The way of the stop, and half a beep."""
_BEEP_LEAD_S: Final = 1.5
"""From `started` until a voice must be there, and …"""
_FLASH_LEAD_S: Final = 5.0
"""… until a screen must be: it may have to ask for a key frame."""
_NEAR_S: Final = 0.12
_NS: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000


def judge_outcome(story: Story) -> None:
    """What every job must come to, whatever its content: at an end, with at most one post."""
    # What the kill came too late for has to be well too.
    if not _was_killed(story) and story.exit_code not in (0, -signal.SIGTERM):
        story.complaints.append(f"ended with code {story.exit_code}")
    if story.salvage_code not in (None, 0):
        story.complaints.append(f"salvage ended with code {story.salvage_code}")
    if story.left:
        story.complaints.append(f"left {', '.join(story.left)}")
    if len(story.posts) > 1:
        story.complaints.append(f"posted {len(story.posts)} times")


def judge_posted(story: Story) -> None:
    """There is a recording if there was anything to record."""
    if not story.posts and recorded_s(story) > LOSS_S["recorder"]:
        story.complaints.append(f"nothing posted of {recorded_s(story):.1f} s")


def recorded_s(story: Story) -> float:
    """From its time zero until it was stopped or killed."""
    if not story.zero_ms:
        return 0.0
    return (end_ns(story) - story.figures["zero_ns"]) / _NS


def end_ns(story: Story) -> int:
    """When its recording ended, whoever ended it."""
    return min(story.stop_ns or story.kill_ns, story.kill_ns or story.stop_ns)


def safe_ns(story: Story, *, loss_s: float) -> int:
    """What came before this may not be lost; `loss_s`: what a kill may cost."""
    killed_ns = story.kill_ns - round(loss_s * _NS) if _was_killed(story) else end_ns(story)
    return min(killed_ns, end_ns(story) - round(_END_S * _NS))


def judge_recording(story: Story, truth: Truth, path: Path) -> None:
    """Compare a published recording with what was sent."""
    zero_ns = round(story.figures["zero_ns"])
    try:
        structure = read_mp4(path)
        beeps = find_beeps(read_sound(path))
        flashes = _flashes(path, structure.width_px, structure.height_px)
    except MediaError as error:
        story.complaints.append(str(error))
        return
    story.figures["loss_s"] = round(recorded_s(story) - structure.duration_s, 3)
    if story.figures["loss_s"] > (LOSS_S["recorder"] if _was_killed(story) else _END_S):
        story.complaints.append(f"{story.figures['loss_s']:.2f} s are missing at the end")
    sent_beeps = _expected(truth.times_ns("beep"), story, zero_ns, lead_s=_BEEP_LEAD_S)
    settled = [
        at_ns for at_ns in truth.times_ns("flash") if _share_age_s(truth, at_ns) > _FLASH_LEAD_S
    ]
    sent_flashes = _expected(settled, story, zero_ns, lead_s=_FLASH_LEAD_S)
    story.figures["marks"] = len(sent_beeps) + len(sent_flashes)
    for name, sent, found in (("beep", sent_beeps, beeps), ("flash", sent_flashes, flashes)):
        missing = [s for s in sent if not any(abs(s - at_s) < _NEAR_S for at_s in found)]
        if missing:
            story.complaints.append(
                f"{len(missing)} of {len(sent)} {name}s are missing, the first at {missing[0]:.2f} s"
            )


def _was_killed(story: Story) -> bool:
    return bool(story.hit and story.wish and story.wish.signal is signal.SIGKILL)


def _expected(times_ns: Sequence[int], story: Story, zero_ns: int, *, lead_s: float) -> list[float]:
    """Recording times of the marks that must be there."""
    first_ns = zero_ns + round(lead_s * _NS)
    last_ns = safe_ns(story, loss_s=LOSS_S["recorder"])
    return [(at_ns - zero_ns) / _NS for at_ns in times_ns if first_ns <= at_ns <= last_ns]


def _share_age_s(truth: Truth, at_ns: int) -> float:
    starts = [start for start in truth.times_ns("screen_start") if start <= at_ns]
    return (at_ns - starts[-1]) / _NS if starts else 0.0


def _flashes(path: Path, width_px: int, height_px: int) -> list[float]:
    area = contained(width_px, height_px)
    return flash_onsets(
        (at_s, screen_brightness(luma(frame), area)) for at_s, frame in iter_pictures(path)
    )

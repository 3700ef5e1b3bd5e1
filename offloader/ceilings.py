"""What a client asks of a job, brought down to the service's ceilings (jobs.max_*). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from offloader.job_wish import JobWish
from offloader.models import JobType
from offloader.setting_groups import Ceilings

_DEFAULTS: Final = {"width": 1920, "height": 1080, "frame_rate": 30}
"""Of a recorder that is told nothing (calls-plugin.md 9.1)."""


def under_ceilings(
    wish: JobWish, job_type: JobType, ceilings: Ceilings
) -> tuple[JobWish, tuple[str, ...]]:
    """The wish as it can be, and a sentence for each thing that was more."""
    told: list[str] = []
    if wish.max_duration_s > ceilings.duration_s:
        told.append(_told("max_duration_sec", wish.max_duration_s, ceilings.duration_s))
        wish = replace(wish, max_duration_s=ceilings.duration_s)
    if job_type is not JobType.RECORDING:
        return wish, tuple(told)
    data = dict(wish.input_data)
    most = {
        "width": ceilings.width_px,
        "height": ceilings.height_px,
        "frame_rate": ceilings.frame_rate,
    }
    for name, ceiling in most.items():
        keys = [key for key in data if key.lower() == name]
        for key in keys or [name]:
            asked = _number(data, key) or _DEFAULTS[name]
            if asked > ceiling:
                told.append(_told(name, asked, ceiling))
                data[key] = ceiling
    return replace(wish, input_data=data), tuple(told)


def _number(data: Mapping[str, Any], key: str) -> int:
    """0: nothing that is a number; the job takes its default, or refuses it."""
    try:
        return int(float(str(data.get(key) or 0)))
    except (ValueError, OverflowError):
        return 0


def _told(name: str, asked: int, used: int) -> str:
    return f"{name} = {asked} is more than this service allows; {used} is used"

"""Who gets the processor first: captions, then recording, then what is done after the call.

A priority is a weight of a control group where there are some, and always a nice value, which counts where
there are none and tells a later process which priority a job has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from offloader.models import JobType


@dataclass(frozen=True, slots=True)
class CpuPriority:
    """Shares where processors are scarce; who is alone has all of it."""

    weight: int
    """`cpu.weight` of cgroup v2: 1 to 10000, 100 for whoever has none."""
    nice: int
    """setpriority(2): a step makes a quarter of a share."""


LIVE: Final[Mapping[JobType, CpuPriority]] = MappingProxyType(
    {
        # Captions that are seconds late are of no use, while a recorder catches up.
        JobType.TRANSCRIBING: CpuPriority(weight=200, nice=0),
        JobType.RECORDING: CpuPriority(weight=100, nice=3),
    }
)
POST_CALL: Final = CpuPriority(weight=10, nice=13)
"""About a tenth of what a live recording next to it gets."""
SERVICE: Final = CpuPriority(weight=200, nice=0)
"""The service itself: seldom busy, but then a plugin waits."""


def at_nice(job_type: JobType, nice: int) -> CpuPriority:
    """Of a running job of this type and nice value."""
    return POST_CALL if nice >= POST_CALL.nice else LIVE[job_type]

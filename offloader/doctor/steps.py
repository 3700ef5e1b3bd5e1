"""The list of all steps, in the order of the report. Imported only when the doctor is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from offloader.doctor.benchmark import BENCHMARK
from offloader.doctor.broker import BROKER
from offloader.doctor.certificates import CERTIFICATE
from offloader.doctor.clock import CLOCK
from offloader.doctor.configuration import CONFIGURATION
from offloader.doctor.disk import DISK
from offloader.doctor.docker import DOCKER
from offloader.doctor.jobs_media import MEDIA
from offloader.doctor.kubernetes import KUBERNETES
from offloader.doctor.limits import LIMITS
from offloader.doctor.models import MODELS
from offloader.doctor.network.steps import NETWORK_STEPS
from offloader.doctor.processor import CPU
from offloader.doctor.step import Step
from offloader.doctor.store import STORE
from offloader.doctor.workers import WORKERS

LOCAL_STEPS: Final[tuple[Step, ...]] = (
    CONFIGURATION,
    STORE,
    CERTIFICATE,
    LIMITS,
    CLOCK,
    DOCKER,
    KUBERNETES,
    BROKER,
    WORKERS,
    CPU,
    DISK,
    MODELS,
    MEDIA,
    BENCHMARK,
)


def all_steps() -> tuple[Step, ...]:
    """What there is: this host first, then what lies between it and Mattermost."""
    return (*LOCAL_STEPS, *NETWORK_STEPS)


def chosen(
    steps: Sequence[Step], *, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> tuple[Step, ...]:
    """Those of `only` (all, when empty) that are not in `skip`, in the order of `steps`.

    Raises:
        ValueError: a name that no step has, with those that there are.
    """
    names = [step.name for step in steps]
    for name in (*only, *skip):
        if name not in names:
            raise ValueError(f"{name!r}: no such step; there are: {', '.join(names)}")
    return tuple(s for s in steps if (not only or s.name in only) and s.name not in skip)

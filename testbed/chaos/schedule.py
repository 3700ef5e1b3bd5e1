"""When whom to kill: a seeded plan, as pure data."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

JobKind = Literal["recorder", "transcriber"]

STAGES: Final[Mapping[JobKind, tuple[str, ...]]] = {
    "recorder": ("join", "call", "stop", "remux", "upload", "publish"),
    "transcriber": ("join", "call", "hang-up", "decode", "publish"),
}
LENGTH_S: Final[Mapping[JobKind, Mapping[str, float]]] = {
    "recorder": {
        "join": 0.6,
        "call": 9.0,
        "stop": 1.0,
        "remux": 0.15,
        "upload": 0.3,
        "publish": 0.6,
    },
    "transcriber": {"join": 4.0, "call": 12.0, "hang-up": 0.3, "decode": 0.6, "publish": 1.5},
}
"""How long a stage lasts or is watched, roughly: kills are spread over it evenly. What misses its stage
because that was over sooner is counted where it hit."""
SLOWED: Final = frozenset({"remux"})
"""Stages that last for hundredths of a second, so that a signal would mostly come too late: the job passes
through them in slow motion."""
SHORTEST_CALL_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One of them."""

    number: int
    stage: str
    after_s: float
    """From the beginning of the stage."""
    call_s: float
    """From `started` to the stop, for stages that come after the call."""
    signal: signal.Signals = signal.SIGKILL


def plan_kills(
    job: JobKind, *, kills: int, seed: int, terms: int, stages: tuple[str, ...] = ()
) -> list[Kill]:
    """`kills` of SIGKILL, evenly over `stages` (default: all), then `terms` of SIGTERM; the same for the same
    seed."""
    chance = random.Random(seed)
    stages = stages or STAGES[job]
    plan: list[Kill] = []
    for number in range(kills + terms):
        stage = stages[(number if number < kills else number - kills) % len(stages)]
        plan.append(
            draw(
                job,
                chance,
                number=number,
                stage=stage,
                number_of=signal.SIGKILL if number < kills else signal.SIGTERM,
            )
        )
    return plan


def draw(
    job: JobKind, chance: random.Random, *, number: int, stage: str, number_of: signal.Signals
) -> Kill:
    """One kill somewhere in `stage`."""
    after_s = chance.uniform(0.0, LENGTH_S[job][stage])
    if stage == "call":
        after_s += 1.0
    call_s = SHORTEST_CALL_S + chance.uniform(0.0, LENGTH_S[job]["call"] / 2)
    return Kill(number, stage, round(after_s, 4), round(call_s, 3), number_of)

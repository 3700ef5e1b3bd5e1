"""What the participants of one process have in common."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from rtc.certificates import Certificate
from sfu.loadtest.histogram import Histogram
from sfu.loadtest.pacer import Pacer
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.signaling import PluginConnection
from sfu.loadtest.stamp import Window

TIMINGS: Final = (
    "answer",
    "connected",
    "join",
    "first_media",
    "lock",
    "renegotiation",
    "track_start",
)
"""All from the moment of the join, but `lock` (asked to granted), `renegotiation` (our offer to its answer)
and `track_start` (both there to the first packet)."""


class ParticipantFailed(Exception):
    """A participant cannot go on; the message is a reason that others may share."""


@dataclass(slots=True)
class Shared:
    """Made once in a process; everybody writes into the same books."""

    plan: LoadPlan
    connection: PluginConnection
    pacer: Pacer
    certificate: Certificate = field(default_factory=Certificate)
    """One for all: making them is no part of what is measured."""
    window: Window = field(default_factory=Window)
    delays: Histogram = field(default_factory=Histogram)
    timings: dict[str, Histogram] = field(
        default_factory=lambda: {name: Histogram() for name in TIMINGS}
    )
    refused: Counter[str] = field(default_factory=Counter)
    """Descriptions and messages of the SFU that could not be used, by reason."""

"""What a crowd is to do, and what became of it; see testbed.crowd."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_MAX_MESSAGE_BYTES: Final = 65536
"""The largest data-channel message that the original's SCTP takes."""
_BYTES_PER_SECTION: Final = 40_000
"""What one more section may cost listener and double together, who are one process here."""
_SLACK_BYTES: Final = 24 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How large and how restless."""

    duration_s: float = 60.0
    publishers: int = 100
    """In the call at any time."""
    replaced_per_s: float = 2.0
    """One leaves, another one comes."""
    talkers: int = 8
    """Of them send fifty packets a second; the others one packet a second."""
    reuses_sections: bool = False
    dc_signaling: bool = True


@dataclass(slots=True)
class Report:
    """What was seen. Sizes of answers are those that are sent: deflated over the channel."""

    came: int = 0
    heard: int = 0
    """Of these, whose voice reached the listener within the time."""
    offers: int = 0
    unanswered: int = 0
    """Offers without an answer in the end."""
    refused_answers: int = 0
    dropped_changes: int = 0
    """Tracks that the double will never announce or take away: no answer in time, no lock, queue full."""
    sections: int = 0
    largest_answer_bytes: int = 0
    answer_p50_ms: float = 0.0
    answer_p99_ms: float = 0.0
    answer_max_ms: float = 0.0
    first_packet_to_heard_p99_s: float = 0.0
    tasks_grown: int = 0
    """Between the full house at the beginning and the one at the end."""
    descriptors_grown: int = 0
    tracks_left: int = 0
    """At the listener when everybody had gone."""
    readers_left: int = 0
    memory_grown_bytes: int = 0
    cpu_share: float = 0.0
    """CPU seconds per second: listener and double together."""
    samples: list[dict[str, float]] = field(default_factory=list)

    def complaints(self, plan: Plan) -> list[str]:
        """What is not as it should be; empty when all is well."""
        allowed = _SLACK_BYTES + self.sections * _BYTES_PER_SECTION
        rules = {
            f"{self.came - self.heard} of {self.came} were not heard": self.heard < self.came,
            f"{self.unanswered} offers without an answer": self.unanswered > 0,
            f"{self.refused_answers} answers that did not fit": self.refused_answers > 0,
            f"{self.dropped_changes} changes dropped": self.dropped_changes > 0,
            f"{self.tasks_grown} tasks more than before": self.tasks_grown > 0,
            f"{self.descriptors_grown} descriptors more than before": self.descriptors_grown > 0,
            f"{self.tracks_left} tracks of nobody": self.tracks_left > 0,
            f"{self.readers_left} tracks that never ended": self.readers_left > 0,
            f"{self.memory_grown_bytes} bytes more than before": self.memory_grown_bytes > allowed,
            f"an answer of {self.largest_answer_bytes} bytes": (
                self.largest_answer_bytes > _MAX_MESSAGE_BYTES
            ),
            f"{self.sections} sections for {plan.publishers} publishers": (
                plan.reuses_sections and self.sections > plan.publishers * 1.2 + 2
            ),
        }
        return [text for text, is_so in rules.items() if is_so]

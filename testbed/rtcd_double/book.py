"""What the double saw and did for one session, for tests to read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Book:
    """Grows only; texts are whole session descriptions."""

    offers: list[str] = field(default_factory=list)
    """Ours, those that were lost on the way included."""
    answers: list[str] = field(default_factory=list)
    """The client's, in the order in which they came."""
    answers_over_channel: int = 0
    answer_delays_s: list[float] = field(default_factory=list)
    """From each of our offers to the next answer that came."""
    client_offers: list[str] = field(default_factory=list)
    ignored_offers: int = 0
    """Client offers that met an offer of ours, or a connection that is stuck."""
    failed_answers: list[str] = field(default_factory=list)
    """Why an answer of the client could not be applied."""
    announced: list[str] = field(default_factory=list)
    """Ids of tracks that the client answered and that flow."""
    removed: list[str] = field(default_factory=list)
    dropped_changes: list[str] = field(default_factory=list)
    """Track changes that will never be made, with the reason."""
    rejected_video: int = 0
    key_frame_requests: int = 0
    """PLIs that the client sent."""
    nacks: list[int] = field(default_factory=list)
    """Sequence numbers that the client asked for again."""
    repeated_packets: int = 0
    receiver_reports: int = 0
    transport_feedback: int = 0
    pings: int = 0
    network_reports: list[tuple[str, float]] = field(default_factory=list)
    """What the client told of its connection: `LOSS_RATE`, `ROUND_TRIP_TIME` or `JITTER`, and the figure."""
    lock_replies: list[bool] = field(default_factory=list)
    foreign_unlocks: int = 0
    """Unlocks of a lock that was free, or held by the server."""

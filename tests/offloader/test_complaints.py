"""What is found anew every second is said once in a while, and at once when it was well in between."""

from __future__ import annotations

from foundation.clock import ManualClock
from offloader.complaints import Complaints

MINUTE_NS = 60_000_000_000


def test_each_job_has_its_own_time() -> None:
    clock = ManualClock()
    complaints = Complaints(clock, every_ns=MINUTE_NS)
    said: list[tuple[int, str]] = []
    for second in range(150):
        said += [
            (second, job_id)
            for job_id, since in (("a", 0), ("b", 30), ("c", 30))
            if second >= since and complaints.due(job_id)
        ]
        if second == 40:
            complaints.settled("b")
        clock.advance(seconds=1)
    assert said == [
        *((0, "a"), (30, "b"), (30, "c"), (41, "b")),
        *((60, "a"), (90, "c"), (101, "b"), (120, "a")),
    ]


def test_what_was_said_long_ago_is_not_kept() -> None:
    clock = ManualClock()
    complaints = Complaints(clock, every_ns=MINUTE_NS)
    for number in range(1000):
        complaints.due(f"job-{number}")
        clock.advance(seconds=1)
    assert len(complaints._said_ns) == 60

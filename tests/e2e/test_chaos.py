"""A few kills of each job in a real call, and of a speech engine: what was there before is published.

The long runs are `python -m testbed.chaos`; see docs/testing.md.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.chaos.run import Options, run
from testbed.chaos.scenarios import possible
from testbed.chaos.schedule import JobKind

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("job", "scenarios"),
    [("recorder", ("down", "revoked", "sfu-gone")), ("transcriber", ("engine", "down", "full"))],
)
async def test_a_kill_in_any_stage_loses_only_the_last_moment_and_what_else_is_done_costs_nothing(
    job: JobKind,
    scenarios: tuple[str, ...],
    tmp_path: Path,
    engine_missing: Callable[[str, str], None],
) -> None:
    if not set(scenarios) <= set(possible(job)):
        engine_missing("tmpfs", "a small disk needs root and mount")
    kills = 3
    options = Options(
        job=job, kills=kills, terms=1, seed=20, parallel=2, scenarios=scenarios, down_s=5.0
    )
    outcome = await run(options, tmp_path / "run", tell=print)
    assert outcome.complaints == []
    assert set(outcome.scenarios) == set(scenarios)
    hits = outcome.hits(signal.SIGKILL)
    assert sum(hits.values()) >= kills - 2
    assert len(hits) >= 2, "not all in one stage"


async def test_a_kill_while_nothing_happens_costs_no_more(tmp_path: Path) -> None:
    """Nobody speaks and the picture stands still: the file has to grow all the same."""
    options = Options(kills=3, terms=0, seed=9, scenarios=(), only_stages=("call",), quiet=True)
    outcome = await run(options, tmp_path / "run", tell=print)
    assert outcome.complaints == []
    lost_s = [story.figures["loss_s"] for story in outcome.stories if story.posts]
    assert lost_s, "some lasted long enough"
    assert max(lost_s) <= 1.5

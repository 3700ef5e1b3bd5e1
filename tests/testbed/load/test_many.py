"""What the service asks of its database does not grow with the jobs that run."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.load.run import many_jobs


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_thousands_of_jobs_that_run_cost_a_few_statements_a_round(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    if store == "postgresql":
        request.getfixturevalue("postgres")  # is it there?
    report = await many_jobs(tmp_path, store=store, live=3000, seconds=5, rate=4, listeners=5)
    quiet, answers = report["quiet"], report["busy"]["answers"]
    statements = quiet["statements_per_s"] * quiet["seconds"]
    # With PostgreSQL, leases of 500 jobs are renewed by one statement, every four seconds.
    assert statements < 10 * (quiet["rounds_s"]["count"] + 1) + 20
    assert answers["status"] == {"200": 20}
    assert report["events"]["job"] >= 5 * 3000
    assert report["events"]["dropped"] == report["broken_streams"] == 0

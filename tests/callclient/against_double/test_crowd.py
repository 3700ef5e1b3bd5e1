"""A hundred publishers who come and go: nothing piles up, and everybody is heard."""

from __future__ import annotations

import pytest

from testbed.crowd import Crowd, Plan

pytestmark = [pytest.mark.slow, pytest.mark.paired, pytest.mark.timeout(150)]


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(duration_s=30, replaced_per_s=4), id="no_section_is_reused"),
        pytest.param(Plan(duration_s=15, replaced_per_s=4, reuses_sections=True), id="reused"),
        pytest.param(
            Plan(duration_s=15, replaced_per_s=4, dc_signaling=False), id="over_the_websocket"
        ),
    ],
)
async def test_a_crowd_that_comes_and_goes_leaves_no_section_task_socket_or_memory_behind(
    plan: Plan,
) -> None:
    report = await Crowd(plan, tell=lambda sample: None).run()
    assert report.complaints(plan) == []
    assert report.came == plan.publishers + plan.duration_s * plan.replaced_per_s
    assert report.offers >= report.came

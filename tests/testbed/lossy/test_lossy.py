"""Loss, jitter and black-outs on real sockets between the bundled SFU and the call client."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.lossy import iptables
from testbed.lossy.run import Cell, run_cells

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(120)]

CELLS = [Cell(0.01, 50), Cell(0.05, 100), Cell(0.2, 100)]


async def test_bad_networks_cost_what_they_lose_and_nothing_else() -> None:
    """No more sound made up than was lost, nothing more than 20 ms from its place, no damaged picture, the
    next one within 1.5 s of each black-out."""
    reports = await run_cells(CELLS, seconds=20, seed=1)
    still = f"the bench stood still for up to {max(r.standstill_s for r in reports):.2f} s"
    assert {str(r.cell): r.complaints() for r in reports} == {str(c): [] for c in CELLS}, still
    for report in reports:
        assert report.screen is not None
        assert len(report.screen.blind_s) >= 2, "the bursts were not seen"
        assert all(voice.lost_s > 0 for voice in report.voices.values())
        # By chance a fifth of all packets lost leaves no beep whole: 0 to 5 of some 15 were seen.
        if report.cell.loss <= 0.05:
            assert all(voice.beeps > 0 for voice in report.voices.values())


async def test_what_the_kernel_loses_costs_no_more_either(
    engine_missing: Callable[[str, str], None],
) -> None:
    if not await iptables.usable():
        engine_missing("iptables", "not on PATH, or not allowed")
    cell = Cell(0.1, 50)
    [report] = await run_cells([cell], seconds=8, seed=1, by_iptables=True)
    assert report.complaints() == []
    assert sum(voice.lost_s for voice in report.voices.values()) > 0.5

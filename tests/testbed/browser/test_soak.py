"""A short run of what `python -m testbed.browser` does for longer."""

from __future__ import annotations

import pytest

from testbed.browser.soak import Report, Soak


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_round_of_everything_leaves_a_report_without_a_fault(meeting, chromium) -> None:
    report = await Soak(meeting, chromium).run(0.0)
    assert report.good, report.public()
    assert report.rounds == 1
    assert report.joins == 5
    assert report.frames_decoded > 30
    assert report.sfu_rss_last_bytes > 0
    assert 0 < report.largest_sdp_bytes < 65536


@pytest.mark.parametrize(
    "fault",
    [
        {"failure": "SoakFailed: x"},
        {"failed_offers": ["x"]},
        {"page_errors": ["x"]},
        {"decoder_errors": ["x"]},
        {"conflicts": 1},
        {"rounds": 0},
    ],
)
def test_a_report_with_a_fault_is_not_good(fault: dict) -> None:
    assert Report(rounds=1).good
    assert not Report(**({"rounds": 1} | fault)).good

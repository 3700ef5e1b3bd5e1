"""A minute of the harder soak, through the whole product in real time; the other is of tier soak alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import sync_soak
from testbed.soaks.loss import LossUnavailable

pytestmark = [pytest.mark.slow, pytest.mark.paired, pytest.mark.e2e]


@pytest.mark.timeout(180)
async def test_a_minute_with_loss_mutes_two_shares_and_drifting_clocks_stays_in_sync(
    tmp_path: Path, engine_missing: Callable[[str, str], None]
) -> None:
    try:
        result = await sync_soak.soak(1.0, tmp_path, ppm=100, loss=0.05)
    except LossUnavailable as error:
        engine_missing("iptables", str(error))
        raise
    assert result.complaints() == [], result.public()
    assert 0.03 < result.packets_lost / (result.packets_lost + result.packets_passed) < 0.07
    assert len(result.shares_s) == 2
    assert len(result.pairs) >= 40

"""When the double changes a receiver's simulcast layer."""

from __future__ import annotations

from testbed.rtcd_double.layers import LayerChoice, RateMonitor
from testbed.rtcd_double.script import Script

S = 1_000_000_000


def choice(**script: float) -> LayerChoice:
    return LayerChoice(Script(**script))


def grown(reports: int = 60) -> LayerChoice:
    layers = choice()
    for _ in range(reports):
        layers.reported(received=50, lost=0)
    return layers


def test_a_rate_is_unknown_until_twice_its_window_was_seen() -> None:
    monitor = RateMonitor(1.0)
    rates = []
    for tick in range(40):
        monitor.push(1000, tick * S // 10)
        rates.append(monitor.rate_bps(tick * S // 10))
    assert rates[:20] == [-1] * 20
    assert set(rates[20:]) == {80_000}


def test_without_feedback_a_receiver_stays_on_the_low_layer() -> None:
    layers = choice()
    wanted = layers.wanted("l", current_bps=500_000, other_bps=2_500_000, now_ns=100 * S)
    assert wanted == "l"
    assert layers.for_new_screen == "l"


def test_the_estimate_is_compared_with_the_current_layer_so_that_going_up_comes_early() -> None:
    layers = grown(10)
    assert 450_000 < layers.estimate_bps < 2_250_000
    assert layers.for_new_screen == "l"
    assert layers.wanted("l", current_bps=500_000, other_bps=2_500_000, now_ns=0) == "h"


def test_a_share_that_starts_gets_the_high_layer_when_the_estimate_is_high() -> None:
    assert grown().for_new_screen == "h"
    assert grown(1000).estimate_bps == Script().largest_estimate_bps


def test_an_unknown_rate_keeps_the_layer() -> None:
    assert grown().wanted("l", current_bps=-1, other_bps=2_500_000, now_ns=0) == "l"
    assert grown().wanted("l", current_bps=500_000, other_bps=-1, now_ns=0) == "l"


def test_after_a_change_the_next_one_waits_longer_each_time() -> None:
    layers = grown()
    layers.changed("h", rate_bps=2_500_000, now_ns=0)
    layers.changed("l", rate_bps=500_000, now_ns=0)
    rates = {"current_bps": 500_000, "other_bps": 2_500_000}
    assert layers.wanted("l", **rates, now_ns=22 * S) == "l"
    assert layers.wanted("l", **rates, now_ns=23 * S) == "h"


def test_loss_takes_it_down_at_once() -> None:
    layers = grown()
    layers.changed("h", rate_bps=2_500_000, now_ns=0)
    layers.reported(received=50, lost=50)
    assert layers.wanted("h", current_bps=2_500_000, other_bps=500_000, now_ns=S) == "l"

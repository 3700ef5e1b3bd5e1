"""Which layer of a shared screen a receiver gets."""

from __future__ import annotations

import pytest

from sfu.forwarding.layers import (
    Layer,
    LayerSelector,
    has_stopped,
    layer_at_join,
    layer_of_added_track,
)

_S = 1_000_000_000
_LOW_BPS, _HIGH_BPS = 500_000, 2_500_000
_PLENTY, _LITTLE = 3_000_000, 600_000


def _evaluate(
    selector: LayerSelector,
    at_s: float,
    estimate_bps: int,
    *,
    loss_based_bps: int = 3_750_000,
    low_bps: int | None = _LOW_BPS,
    high_bps: int | None = _HIGH_BPS,
) -> bool:
    return selector.evaluate(
        int(at_s * _S),
        estimate_bps=estimate_bps,
        loss_based_bps=loss_based_bps,
        low_bps=low_bps,
        high_bps=high_bps,
    )


def _congested(selector: LayerSelector, at_s: float) -> bool:
    return _evaluate(selector, at_s, _LITTLE, loss_based_bps=_LITTLE)


def test_who_joins_a_running_share_begins_low() -> None:
    assert layer_at_join() is Layer.LOW


@pytest.mark.parametrize(
    ("estimate_bps", "layer"),
    [(250_000, Layer.LOW), (2_250_000, Layer.LOW), (2_250_001, Layer.HIGH)],
)
def test_a_new_share_begins_high_only_with_room_for_it(estimate_bps: int, layer: Layer) -> None:
    assert layer_of_added_track(estimate_bps) is layer


@pytest.mark.parametrize(
    ("estimate_bps", "layer"), [(2_250_000, Layer.LOW), (2_250_001, Layer.HIGH)]
)
def test_the_high_layers_own_rate_decides_not_the_low_ones(estimate_bps: int, layer: Layer) -> None:
    selector = LayerSelector(Layer.LOW)
    assert _evaluate(selector, 0, estimate_bps) is (layer is Layer.HIGH)
    assert selector.layer is layer


def test_a_quiet_high_layer_needs_no_more_than_it_sends() -> None:
    assert _evaluate(LayerSelector(Layer.LOW), 0, 250_000, high_bps=200_000)


@pytest.mark.parametrize("high_bps", [None, -1, 0])
def test_nobody_goes_up_to_a_layer_that_is_absent_unmeasured_or_silent(
    high_bps: int | None,
) -> None:
    assert not _evaluate(LayerSelector(Layer.LOW), 0, _PLENTY, high_bps=high_bps)


@pytest.mark.parametrize("low_bps", [None, -1, 0])
def test_nobody_goes_down_to_a_layer_that_is_absent_unmeasured_or_silent(
    low_bps: int | None,
) -> None:
    selector = LayerSelector(Layer.HIGH)
    assert not _evaluate(selector, 0, _LITTLE, loss_based_bps=_LITTLE, low_bps=low_bps)


def test_a_high_layer_that_ends_is_left_at_once() -> None:
    selector = LayerSelector(Layer.HIGH)
    assert _evaluate(selector, 0, _PLENTY, high_bps=None)
    assert selector.layer is Layer.LOW


@pytest.mark.parametrize("high_bps", [-1, 0])
def test_a_high_layer_whose_rate_is_not_known_or_that_shows_a_still_picture_is_kept(
    high_bps: int,
) -> None:
    selector = LayerSelector(Layer.HIGH)
    assert not any(_evaluate(selector, s, _LITTLE, high_bps=high_bps) for s in range(10))


def test_a_layer_has_stopped_when_the_other_goes_on_for_two_seconds() -> None:
    assert not has_stopped(5 * _S, 7 * _S)
    assert has_stopped(5 * _S, 7 * _S + 1)
    assert not has_stopped(7 * _S, 5 * _S)


def test_when_delay_and_loss_agree_the_way_down_is_immediate_even_in_the_back_off() -> None:
    selector = LayerSelector(Layer.LOW)
    assert _evaluate(selector, 0, _PLENTY)
    assert _congested(selector, 1)
    assert selector.layer is Layer.LOW


def test_delay_alone_moves_nobody_before_three_seconds() -> None:
    selector = LayerSelector(Layer.HIGH)
    assert [_evaluate(selector, s, _LITTLE) for s in (0, 1, 2, 2.9)] == [False] * 4
    assert _evaluate(selector, 3, _LITTLE)


def test_an_estimate_that_recovers_begins_the_three_seconds_anew() -> None:
    selector = LayerSelector(Layer.HIGH)
    low_high_low = [(0, _LITTLE), (2, _LITTLE), (2.5, _PLENTY), (3, _LITTLE), (5, _LITTLE)]
    assert not any(_evaluate(selector, at_s, estimate) for at_s, estimate in low_high_low)
    assert _evaluate(selector, 6, _LITTLE)


def test_between_both_thresholds_everybody_stays() -> None:
    """One step down of the estimator (0.85 of what arrives) does not cost the layer."""
    high, low = LayerSelector(Layer.HIGH), LayerSelector(Layer.LOW)
    for second in range(60):
        for share in (0.71, 0.8, 0.89):
            estimate = int(share * _HIGH_BPS)
            assert not _evaluate(high, second, estimate, loss_based_bps=estimate)
            assert not _evaluate(low, second, estimate)


def _first_upgrade_s(selector: LayerSelector, from_s: float) -> float:
    at_s = from_s
    while not _evaluate(selector, at_s, _PLENTY):
        at_s += 0.25
        assert at_s < from_s + 1000
    return at_s


def test_the_first_change_waits_for_nothing() -> None:
    assert _first_upgrade_s(LayerSelector(Layer.LOW), 0) == 0


def test_each_change_makes_the_wait_for_the_next_upgrade_half_as_long_again() -> None:
    selector = LayerSelector(Layer.LOW)
    now_s = _first_upgrade_s(selector, 0)
    waits = []
    for _ in range(4):
        assert _congested(selector, now_s + 1)
        fallen_s = now_s + 1
        now_s = _first_upgrade_s(selector, fallen_s)
        waits.append(now_s - fallen_s)
    assert waits == [15, 33.75, 76, 171]


def test_the_wait_has_an_upper_limit() -> None:
    selector = LayerSelector(Layer.LOW)
    now_s = _first_upgrade_s(selector, 0)
    for _ in range(12):
        assert _congested(selector, now_s + 1)
        fallen_s = now_s + 1
        now_s = _first_upgrade_s(selector, fallen_s)
    assert now_s - fallen_s == 300


def test_a_long_quiet_time_ends_the_back_off() -> None:
    selector = LayerSelector(Layer.LOW)
    now_s = _first_upgrade_s(selector, 0)
    for _ in range(3):
        assert _congested(selector, now_s + 1)
        now_s = _first_upgrade_s(selector, now_s + 1)
    assert not _evaluate(selector, now_s + 300, _PLENTY)
    assert _congested(selector, now_s + 301)
    assert _first_upgrade_s(selector, now_s + 301) == now_s + 301 + 10

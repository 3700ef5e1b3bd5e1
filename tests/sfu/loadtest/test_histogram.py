"""The histogram of durations."""

from __future__ import annotations

import random

import pytest

from sfu.loadtest.histogram import Histogram


def test_percentiles_are_within_a_thirty_second_of_the_truth() -> None:
    values = sorted(round(random.Random(7).lognormvariate(13, 2)) for _ in range(5000))
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    for share in (0.01, 0.5, 0.9, 0.99):
        true = values[int(len(values) * share) - 1]
        assert histogram.percentile_ns(share) == pytest.approx(true, rel=1 / 32, abs=1)
    assert histogram.max_ns == values[-1]
    assert histogram.percentile_ns(1.0) <= values[-1]


@pytest.mark.parametrize("value", [0, 1, 15, 16, 17, 31, 32, 1 << 40, (1 << 62) - 1])
def test_every_duration_has_a_bucket(value: int) -> None:
    histogram = Histogram()
    histogram.record(value)
    assert histogram.percentile_ns(0.5) == pytest.approx(value, rel=1 / 32)


def test_an_empty_one_knows_no_percentile() -> None:
    assert Histogram().percentile_ns(0.5) is None


def test_below_zero_counts_as_zero() -> None:
    histogram = Histogram()
    histogram.record(-5)
    assert (histogram.count, histogram.percentile_ns(0.5)) == (1, 0)


def test_merged_over_processes_they_are_one() -> None:
    together, parts = Histogram(), [Histogram(), Histogram()]
    for value in range(0, 100_000, 37):
        together.record(value)
        parts[value % 2].record(value)
    merged = Histogram()
    for part in parts:
        merged.merge(Histogram.from_json(part.to_json()))
    assert merged.to_json() == together.to_json()
    assert merged.count == together.count

"""What metrics tell of the parts that are taken over while a process runs: one sample for each part."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from offloader.reload import Reloads


def reload_families(reloads: Reloads) -> list[Metric]:
    """How the last reading of each part ended, when it could last be used, how many could not."""
    good = GaugeMetricFamily(
        "calls_offloader_config_last_reload_successful",
        "0: this part was changed on disk and cannot be used; what was read before is in force.",
        labels=("part",),
    )
    when = GaugeMetricFamily(
        "calls_offloader_config_last_reload_success_timestamp_seconds",
        "When this part could last be used, seconds since the epoch.",
        labels=("part",),
    )
    failures = CounterMetricFamily(
        "calls_offloader_config_reload_failures",
        "Readings of this part that were not taken over, or not told to the audit, since the start.",
        labels=("part",),
    )
    for part, (could, at_s) in sorted(reloads.ended.items()):
        good.add_metric((part,), could)
        when.add_metric((part,), at_s)
        failures.add_metric((part,), reloads.failures[part])
    return [good, when, failures]

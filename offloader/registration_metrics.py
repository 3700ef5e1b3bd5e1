"""What metrics tell of registrations that were one too many."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, Metric

from clientauth.registration_limits import RegistrationRoom


async def registration_families(room: RegistrationRoom) -> Sequence[Metric]:
    """How many this process has refused, by the limit of `api.security.registration_limits`."""
    family = CounterMetricFamily(
        "calls_offloader_registrations_refused",
        "Clients that did not register themselves since there were too many, by limit.",
        labels=("limit",),
    )
    for limit, count in room.refused.items():
        family.add_metric((limit,), count)
    return [family]

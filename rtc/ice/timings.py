"""All times an ICE agent keeps to, in nanoseconds of the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

FAR_FUTURE_NS = 1 << 62
"""Nothing is due."""

_MS = 1_000_000
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class IceTimings:
    """Defaults are those of the RFCs where they name one."""

    pace_ns: int = 50 * _MS
    """Ta: one new check in that time (RFC 8445 section 14.2). On a shared server socket less does no harm."""
    rto_ns: int = 500 * _MS
    """First wait for the answer to a check over UDP, then doubled (RFC 8445 section 14.3)."""
    max_rto_ns: int = 1 * _S
    """Not doubled beyond: people wait, and checks are small beside the media that they are for."""
    max_transmissions: int = 16
    """Of one check over UDP, which is given up after 15.5 s. RFC 8489 section 6.2.1 has 7, up to 39.5 s."""
    proven_rto_ns: int = 250 * _MS
    """Not doubled beyond, on a path over which the other side was heard."""
    known_rto_ns: int = 100 * _MS
    """First wait on a pair that has answered before, or three of its round trips if that is more."""
    tcp_delay_ns: int = 1500 * _MS
    """How long UDP is given alone before TCP flows are opened."""
    tcp_timeout_ns: int = 10 * _S
    """For opening a flow, and for the answer to a check over it."""
    nomination_wait_ns: int = 100 * _MS
    """How long a valid pair waits for a better one that is being checked, when we nominate."""
    renomination_ns: int = 2 * _S
    """A nomination of a pair of lower priority counts when the selected one was not nominated again for that
    long. Browsers nominate theirs every 2.5 s; agents that nominate aggressively, all at the same time."""
    connect_ns: int = 30 * _S
    """From the remote credentials to a selected pair."""
    consent_interval_ns: int = 5 * _S
    """Between checks of consent, randomised by ± 20 % each time (RFC 7675 section 5.1)."""
    consent_retry_ns: int = 500 * _MS
    """Between checks of consent while there are no answers."""
    abandon_ns: int = 2500 * _MS
    """Without an answer to the first of several checks: when we nominate, another pair is nominated. Shorter
    outages, and loss, do not look like that."""
    disconnected_ns: int = 5 * _S
    """Without an answer, and asked in vain for `abandon_ns`."""
    expiry_ns: int = 30 * _S
    """Without an answer, nothing may be sent any more (RFC 7675 section 5.1)."""
    linger_ns: int = 2 * _S
    """How long paths stay that are not needed any more: the other side may still be sending on them."""
    upgrade_ns: int = 30 * _S
    """Between attempts to get from TCP back to UDP, when we nominate."""


DEFAULT_TIMINGS = IceTimings()

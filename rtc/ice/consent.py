"""Consent to send, kept fresh on the selected path (RFC 7675). Timers and bookkeeping only."""

from __future__ import annotations

import random

from foundation.newest import keep_newest
from rtc.ice.timings import FAR_FUTURE_NS, IceTimings

_MAX_OPEN_REQUESTS = 8
_JITTER = 0.2


class Consent:
    """When to ask next, and since when nothing was answered.

    A request is never transmitted again, each has its own transaction. While all is well there is one in
    4–6 s; when one is not answered the next follow quickly, so that silence is noticed within 5–9 s.
    """

    __slots__ = ("_open", "_timings", "answered_ns", "asked_ns", "next_ns", "unanswered")

    def __init__(self, timings: IceTimings, *, answered_ns: int) -> None:
        """`answered_ns`: last answer over the path, which counts as consent."""
        self._timings = timings
        self._open: dict[bytes, int] = {}
        self.answered_ns = answered_ns
        self.asked_ns = 0
        """When the first of those was sent that are not answered; meaningless when none is."""
        self.unanswered = 0
        self.next_ns = answered_ns + self._interval_ns()

    def asked(self, transaction_id: bytes, now_ns: int) -> None:
        """A request is on its way."""
        if self.unanswered == 0:
            self.asked_ns = now_ns
        self.next_ns = now_ns + self._timings.consent_retry_ns
        self.unanswered += 1
        keep_newest(self._open, transaction_id, now_ns, most=_MAX_OPEN_REQUESTS)

    def expects(self, transaction_id: bytes) -> bool:
        return transaction_id in self._open

    def answered(self, transaction_id: bytes, now_ns: int) -> int:
        """An answer that was expected and whose integrity holds. Returns the round trip, ns."""
        rtt_ns = now_ns - self._open[transaction_id]
        self._open.clear()
        self.unanswered = 0
        self.answered_ns = now_ns
        self.next_ns = now_ns + self._interval_ns()
        return rtt_ns

    def forget_requests(self) -> None:
        """Our role changed: what the answers to the running requests say of roles is out of date."""
        self._open.clear()

    def ask_now(self, now_ns: int) -> None:
        """Somebody doubts: do not wait for the interval to end."""
        if self.unanswered == 0:
            self.next_ns = now_ns

    def doubtful(self, now_ns: int) -> bool:
        """Asked more than once, and no answer within twice the retry time."""
        return self.unanswered > 1 and now_ns >= self._doubtful_ns()

    def hopeless(self, now_ns: int) -> bool:
        """Asked so often in vain that another pair is better. Heavy loss alone does not look like that."""
        return self.unanswered > 1 and now_ns >= self.hopeless_ns

    @property
    def hopeless_ns(self) -> int:
        return self.asked_ns + self._timings.abandon_ns

    def silent(self, now_ns: int) -> bool:
        """Hopeless, and for long enough to call it disconnected."""
        return self.hopeless(now_ns) and now_ns >= self.answered_ns + self._timings.disconnected_ns

    def expired(self, now_ns: int) -> bool:
        return now_ns >= self.answered_ns + self._timings.expiry_ns

    def due_ns(self, now_ns: int) -> int:
        """The next moment after `now_ns` at which one of the answers above changes."""
        moments = [self.next_ns, self.answered_ns + self._timings.expiry_ns]
        if self.unanswered:
            moments += [
                self._doubtful_ns(),
                self.hopeless_ns,
                self.answered_ns + self._timings.disconnected_ns,
            ]
        return min((m for m in moments if m > now_ns), default=FAR_FUTURE_NS)

    def _doubtful_ns(self) -> int:
        return self.asked_ns + 2 * self._timings.consent_retry_ns

    def _interval_ns(self) -> int:
        return round(self._timings.consent_interval_ns * random.uniform(1 - _JITTER, 1 + _JITTER))

"""RTP timestamps of one SSRC on the host's monotonic clock. Pure: packets in, times out.

Inside a talk spurt time advances with the RTP timestamp, which knows no network; where the spurt lies is
told by the fastest packets and by sender reports. Muted publishers stop their RTP clock or let it run
(calls-plugin.md trap 29): after a pause in which it stood still, arrival decides and a new spurt begins.
Whether it stood still shows only with the next packets, because a network that stood still looks the same
at first: so the clock *settles* for a while, and the receive path holds the packets back meanwhile.
"""

from __future__ import annotations

from typing import Final

from callclient.timeline.floor import Floor
from callclient.timeline.spurt import Spurt
from rtc.rtp import Unwrapper

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
PAUSE_NS: Final = 300 * _MS
"""No packet for this long ends a talk spurt."""
_LEAST_LAG_NS: Final = 150 * _MS
_MOST_LAG_NS: Final = 300 * _MS
"""After a pause RTP and arrival may disagree by half the pause, within these limits, before it counts as
a stop of the RTP clock: more than jitter, less than the shortest mute that somebody can do."""
STEP_NS: Final = _NS
"""A lag this large without a pause is a step of the sender's clock, not the network."""
_FORWARD_NS: Final = _NS // 2
"""No network gets faster by this much at once: the sender's clock has stepped forward."""
_REPORT_REACH_NS: Final = 1500 * _MS
_UNEVEN_BUCKET_NS: Final = 5 * _NS
_UNEVEN_BUCKETS: Final = 4
_NONE: Final = -(1 << 62)


class SourceClock:
    """Made once for each SSRC.

    `arrived` for each packet as it comes, `place` for each one in order later: between the two the clock
    may learn better. Sequence numbers are unwrapped by the caller, timestamps here.
    """

    def __init__(
        self,
        clock_rate_hz: int,
        *,
        is_audio: bool,
        settle_ns: int = 0,
        not_before_ns: int = 0,
    ) -> None:
        """`settle_ns`: how long to look before a spurt is placed. `not_before_ns`: no answer is earlier;
        where another SSRC of the same source went before."""
        self._clock_rate_hz = clock_rate_hz
        self._is_audio = is_audio
        self._settle_ns = settle_ns
        self._unwrapper = Unwrapper(32)
        self._before: Spurt | None = None
        self._spurt: Spurt | None = None
        self._candidate: Spurt | None = None
        self._candidate_limit_ns = 0
        self._settled_at_ns = 0
        self._unevenness: Floor | None = None
        """How much slower than the fastest packets the slowest ones were, below 0."""
        self._newest_sequence = _NONE
        self._newest_timestamp = 0
        self._last_arrival_ns = 0
        self._last_answer_ns = not_before_ns
        self.spurts = 0
        """Placed by arrival: the first one, and each after a stop or step of the sender's clock."""
        self.reports_ignored = 0
        """Sender reports that did not fit to the packets around them."""

    @property
    def settling(self) -> bool:
        """It is not yet clear where the newest packets belong; hold them, and call `settle`."""
        return self._candidate is not None

    @property
    def last_answer_ns(self) -> int:
        return self._last_answer_ns

    def arrived(self, sequence: int, timestamp: int, arrival_ns: int) -> int:
        """A packet came; returns its unwrapped timestamp, which `place` wants."""
        unwrapped = self._unwrapper.unwrap(timestamp)
        media_ns = unwrapped * _NS // self._clock_rate_hz
        observed_ns = arrival_ns - media_ns
        newest = sequence > self._newest_sequence
        if self._candidate is not None:
            self._weigh(sequence, observed_ns, arrival_ns)
        elif self._spurt is None or (
            newest and self._departs(observed_ns - self._spurt.offset_ns, arrival_ns)
        ):
            self._begin(sequence, observed_ns, arrival_ns)
        elif sequence >= self._spurt.start:
            self._spurt.arrived(observed_ns, arrival_ns)
            self._note_unevenness(self._spurt.offset_ns - observed_ns, arrival_ns)
        if newest:
            self._newest_sequence, self._newest_timestamp = sequence, unwrapped
        self._last_arrival_ns = max(self._last_arrival_ns, arrival_ns)
        return unwrapped

    def restarted(self) -> None:
        """The sender counts from elsewhere; all its packets from before are placed."""
        self._newest_sequence = _NONE
        self._before = None
        self.settle(None)
        if self._spurt is not None:
            self._spurt.start = _NONE

    def settle(self, now_ns: int | None) -> None:
        """Decide if it is time; None: decide now."""
        candidate = self._candidate
        if candidate is not None and (now_ns is None or now_ns >= self._settled_at_ns):
            candidate.settle(self._known_unevenness_ns())
            self._before, self._spurt, self._candidate = self._spurt, candidate, None
            self.spurts += 1

    def place(self, sequence: int, unwrapped_timestamp: int) -> int:
        """When the media of this packet was captured; never before the last answer.

        Needs that `arrived` was called for the packet.
        """
        candidate = self._candidate
        if candidate is not None and sequence >= candidate.start:
            self.settle(None)
        spurt = self._spurt
        if spurt is None or (sequence < spurt.start and self._before is not None):
            spurt = self._before or spurt
        media_ns = unwrapped_timestamp * _NS // self._clock_rate_hz
        if spurt is not None:
            self._last_answer_ns = max(self._last_answer_ns, media_ns + spurt.offset_ns)
        return self._last_answer_ns

    def reported(self, rtp_timestamp: int, captured_ns: int, now_ns: int) -> None:
        """A sender report: media of this timestamp was captured at `captured_ns`, on our clock.

        Used within the running spurt only: SFUs go on to report by the old relation during a mute.
        """
        spurt = self._candidate or self._spurt
        if spurt is None:
            return
        ahead = (rtp_timestamp - self._newest_timestamp) & 0xFFFFFFFF
        ahead -= ahead >> 31 << 32
        near = not self._is_audio or (
            now_ns - self._last_arrival_ns <= PAUSE_NS
            and abs(ahead) * _NS <= _REPORT_REACH_NS * self._clock_rate_hz
        )
        media_ns = (self._newest_timestamp + ahead) * _NS // self._clock_rate_hz
        if not near or not spurt.reported(captured_ns - media_ns, now_ns):
            self.reports_ignored += 1

    def _departs(self, lag_ns: int, arrival_ns: int) -> bool:
        """Has the sender's clock stopped or jumped? Sets how much lag tells so."""
        gap_ns = arrival_ns - self._last_arrival_ns
        self._candidate_limit_ns = STEP_NS
        if self._is_audio and gap_ns > PAUSE_NS:
            self._candidate_limit_ns = min(max(gap_ns // 2, _LEAST_LAG_NS), _MOST_LAG_NS)
        return lag_ns > self._candidate_limit_ns or lag_ns < -_FORWARD_NS

    def _known_unevenness_ns(self) -> int | None:
        """None too where the slow packets cannot be here yet when a spurt is placed."""
        if self._unevenness is None or -2 * self._unevenness.value > self._settle_ns:
            return None
        return -self._unevenness.value

    def _note_unevenness(self, ahead_ns: int, arrival_ns: int) -> None:
        if self._unevenness is None:
            self._unevenness = Floor(
                ahead_ns, arrival_ns, bucket_ns=_UNEVEN_BUCKET_NS, buckets=_UNEVEN_BUCKETS
            )
        else:
            self._unevenness.observe(ahead_ns, arrival_ns)

    def _begin(self, sequence: int, observed_ns: int, arrival_ns: int) -> None:
        forward = self._spurt is not None and observed_ns < self._spurt.offset_ns
        self._candidate = Spurt(
            start=sequence, offset_ns=observed_ns, now_ns=arrival_ns, smooth=self._is_audio
        )
        self._settled_at_ns = arrival_ns + (0 if forward else self._settle_ns)
        self.settle(arrival_ns)

    def _weigh(self, sequence: int, observed_ns: int, arrival_ns: int) -> None:
        """One more packet while it is open whether the sender's clock or the network stood still."""
        candidate, spurt = self._candidate, self._spurt
        if candidate is None:
            return
        if spurt is not None and observed_ns - spurt.offset_ns <= self._candidate_limit_ns:
            if sequence >= candidate.start:
                self._candidate = None  # the backlog has been caught up with: it was the network
            spurt.arrived(observed_ns, arrival_ns)
            return
        candidate.start = min(candidate.start, sequence)
        candidate.gather(observed_ns, arrival_ns)

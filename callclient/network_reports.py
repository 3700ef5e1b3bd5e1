"""How the connection does, as Calls clients tell the SFU over the data channel (calls-plugin.md 4.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from callclient.receive.tracks import RemoteTrack
from rtc.calls_dc import DcMessage, DcType

REPORT_INTERVAL_S: Final = 10
"""As the web client; the transcriber of the reference reports every 4 s."""


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """One received track since its first packet."""

    track_id: str
    received: int
    lost: int
    """For good; repeated ones were received."""
    jitter_s: float

    @classmethod
    def of(cls, track: RemoteTrack) -> StreamCounters:
        """What the track has counted so far."""
        counted = track.statistics
        return cls(
            track.track_id,
            counted.packets_received,
            counted.packets_lost,
            counted.jitter_ms / 1000,
        )


class NetworkReports:
    """Makes the reports from counters; keeps the counters of the last one. `pinged` and `ponged` measure the
    way to the SFU and back where ICE has not."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._before: dict[str, StreamCounters] = {}
        self._pinged_ns: int | None = None
        self._ping_rtt_s: float | None = None

    def pinged(self) -> None:
        """A ping goes out; one that is not answered before the next counts no more."""
        self._pinged_ns = self._clock_ns()

    def ponged(self) -> None:
        if self._pinged_ns is not None:
            self._ping_rtt_s = (self._clock_ns() - self._pinged_ns) / 1e9
            self._pinged_ns = None

    def messages(
        self, streams: Iterable[StreamCounters], *, rtt_s: float | None
    ) -> list[DcMessage]:
        """The reports for the time since the last ones; none about what nobody has measured.

        `rtt_s`: of the selected path, if known.
        """
        now = {stream.track_id: stream for stream in streams}
        grown = [self._since_before(stream) for stream in now.values()]
        self._before = now
        received, lost = sum(g.received for g in grown), sum(g.lost for g in grown)
        messages = []
        if received + lost > 0:
            loss_rate = min(max(lost / (received + lost), 0.0), 1.0)
            messages.append(DcMessage(DcType.LOSS_RATE, loss_rate))
        rtt_s = self._ping_rtt_s if rtt_s is None else rtt_s
        if rtt_s is not None:
            messages.append(DcMessage(DcType.ROUND_TRIP_TIME, float(rtt_s)))
        if received > 0:
            jitter_s = sum(g.jitter_s * g.received for g in grown) / received
            messages.append(DcMessage(DcType.JITTER, jitter_s))
        return messages

    def _since_before(self, stream: StreamCounters) -> StreamCounters:
        before = self._before.get(stream.track_id)
        if before is None:
            return stream
        return replace(
            stream, received=stream.received - before.received, lost=stream.lost - before.lost
        )

"""What one client and one session may take of this server; beyond it is refused or dropped, and counted.

rtcd has no such limits (rtcd.md 3.1): the defaults are far above what the plugin, clients and jobs do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rtc.ice.bounds import IceBounds
from sfu.flood import BURST_S, TokenBucket
from sfu.media_port import JoinError

BIT_RATE_BURST_S: Final = 5
"""So many seconds' worth may come at once: what waited for a network that was away."""
LEAST_TCP_QUEUE_BYTES: Final = 16 * 1024
LEAST_SIGNAL_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit where nothing else is said."""

    client_sessions: int = 10_000
    client_calls: int = 5_000
    session_tracks: int = 20
    """That a session publishes at a time."""
    session_candidates: int = 100
    """Remote ones, of each ICE generation; never 0."""
    audio_bps: int = 2_000_000
    video_bps: int = 30_000_000
    """Of one track, all its layers together."""
    tcp_queue_bytes: int = 256 * 1024
    """Never 0."""
    signal_bytes: int = 512 * 1024
    """Of a description, inflated; never 0."""
    signal_bytes_per_s: int = 2 * 1024 * 1024
    """Of all descriptions of a session."""
    checks_per_s: int = 20
    """Connectivity checks of a session to addresses that have not answered."""
    link_local: bool = False
    """Link-local and metadata addresses may be candidates."""

    def pack(self) -> dict[str, Any]:
        """For a worker, which sees a part of each client only."""
        return asdict(replace(self, client_sessions=0, client_calls=0))

    @classmethod
    def unpack(cls, value: Mapping[str, Any]) -> Limits:
        return cls(**value)

    def ice(self) -> IceBounds:
        """What concerns connectivity checks."""
        return IceBounds(
            candidates=self.session_candidates,
            checks_per_s=self.checks_per_s,
            link_local=self.link_local,
        )

    def signal_rate(self, now_ns: int) -> TokenBucket:
        """Of bytes, for the descriptions of one session; room for the largest one in any case."""
        burst = max(self.signal_bytes_per_s * BURST_S, self.signal_bytes)
        return TokenBucket(self.signal_bytes_per_s, burst, now_ns=now_ns)

    def bit_rate(self, kind: str, now_ns: int) -> TokenBucket:
        """Of bytes, for one track; `kind`: audio or video."""
        bytes_per_s = (self.audio_bps if kind == "audio" else self.video_bps) / 8
        return TokenBucket(bytes_per_s, bytes_per_s * BIT_RATE_BURST_S, now_ns=now_ns)


class Occupancy:
    """How many sessions and calls each client has; as long as it has any."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sessions: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()

    def enter(self, group_id: str, *, new_call: bool) -> None:
        """One more session, perhaps in one more call.

        Raises:
            JoinError: the client has as many as it may have.
        """
        for wanted, kind, held, most in (
            (True, "sessions", self._sessions, self._limits.client_sessions),
            (new_call, "calls", self._calls, self._limits.client_calls),
        ):
            if wanted and most and held[group_id] >= most:
                raise JoinError(
                    f"this client has {most} {kind} already: see limits.client_{kind}", reason=kind
                )
        self._sessions[group_id] += 1
        self._calls[group_id] += new_call

    def leave(self, group_id: str, *, call_over: bool) -> None:
        """What `enter` counted, the other way round."""
        for held, gone in ((self._sessions, 1), (self._calls, int(call_over))):
            held[group_id] -= gone
            if held[group_id] <= 0:
                del held[group_id]

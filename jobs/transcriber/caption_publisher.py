"""Sends caption messages: paced, the newest form of each line, finished lines first, and measures lag."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from foundation.clock import Clock
from foundation.logs import get_logger
from jobs.transcriber.caption_speaker import CaptionMessage

_INTERVAL_S: Final = 0.125
"""Eight messages a second: the plugin takes ten of a session, pings and metrics included."""
_LINES_PER_SPEAKER: Final = 8
_LAGS_KEPT: Final = 2000
_log = get_logger(component="captions")


class CaptionSink(Protocol):
    """Where captions go: the call client."""

    async def send_caption(self, *, session_id: str, text: str, new_audio_len_ms: float) -> None:
        """Queue one message."""


@dataclass(frozen=True, slots=True)
class LagSummary:
    """Seconds from the end of a message's last word to its sending; 0 when there was none."""

    count: int
    p50_s: float
    p95_s: float


def summarise(lags_s: Sequence[float]) -> LagSummary:
    """Nearest-rank percentiles."""
    if not lags_s:
        return LagSummary(0, 0.0, 0.0)
    ordered = sorted(lags_s)
    last = len(ordered) - 1
    return LagSummary(
        len(ordered), round(ordered[round(0.5 * last)], 3), round(ordered[round(0.95 * last)], 3)
    )


class CaptionPublisher:
    """`offer` takes messages at any rate; `run` sends them, in one task of the owner."""

    def __init__(
        self, sink: CaptionSink, *, clock: Clock, call_ns_to_monotonic_ns: Callable[[int], int]
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._to_monotonic_ns = call_ns_to_monotonic_ns
        self._waiting: dict[str, deque[CaptionMessage]] = {}
        self._news = asyncio.Event()
        self._closing = False
        self._partial_lags_s: deque[float] = deque(maxlen=_LAGS_KEPT)
        self._final_lags_s: deque[float] = deque(maxlen=_LAGS_KEPT)
        self.sent = 0
        self.lines_dropped = 0

    def offer(self, message: CaptionMessage) -> None:
        """Put a message in; it replaces a waiting one of the same line."""
        lines = self._waiting.setdefault(message.session_id, deque())
        if lines and lines[-1].line == message.line:
            earlier = lines.pop()
            heard_ms = earlier.new_audio_len_ms + message.new_audio_len_ms
            message = replace(message, new_audio_len_ms=heard_ms)
        elif len(lines) >= _LINES_PER_SPEAKER:
            dropped = lines.popleft()
            heard_ms = dropped.new_audio_len_ms + lines[0].new_audio_len_ms
            lines[0] = replace(lines[0], new_audio_len_ms=heard_ms)
            self.lines_dropped += 1
        lines.append(message)
        self._news.set()

    def close(self) -> None:
        """Let `run` end when everything offered is sent."""
        self._closing = True
        self._news.set()

    async def run(self) -> None:
        """Send until `close`. Errors of the sink pass through."""
        while True:
            message = self._take()
            if message is None:
                if self._closing:
                    return
                self._news.clear()
                await self._news.wait()
                continue
            await self._sink.send_caption(
                session_id=message.session_id,
                text=message.text,
                new_audio_len_ms=message.new_audio_len_ms,
            )
            self._measure(message)
            await asyncio.sleep(_INTERVAL_S)

    def partial_lags(self) -> LagSummary:
        return summarise(self._partial_lags_s)

    def final_lags(self) -> LagSummary:
        return summarise(self._final_lags_s)

    def _take(self) -> CaptionMessage | None:
        """Finished utterances before growing lines, each by the age of its words."""
        heads = [lines[0] for lines in self._waiting.values() if lines]
        if not heads:
            return None
        chosen = min(heads, key=lambda message: (not message.final, message.spoken_until_ns))
        self._waiting[chosen.session_id].popleft()
        return chosen

    def _measure(self, message: CaptionMessage) -> None:
        spoken_ns = self._to_monotonic_ns(message.spoken_until_ns)
        lag_s = (self._clock.monotonic_ns() - spoken_ns) / 1_000_000_000
        (self._final_lags_s if message.final else self._partial_lags_s).append(lag_s)
        self.sent += 1
        _log.debug(
            "caption.sent",
            session_id=message.session_id,
            final=message.final,
            lag_s=round(lag_s, 3),
            chars=len(message.text),
        )

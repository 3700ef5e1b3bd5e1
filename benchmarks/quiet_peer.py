"""As much of a call as the transcriber's pipeline sees, for benchmarks without a network."""

from __future__ import annotations

from collections import Counter
from typing import Any

from callclient.state import CallState


class QuietPeer:
    """A `CaptioningPeer` of which nobody hears; counts what it is given to send."""

    def __init__(self) -> None:
        self.state = CallState()
        self.captions = 0
        self.metrics: Counter[str] = Counter()

    async def run(self) -> None: ...

    async def leave(self) -> None: ...

    def events(self) -> Any: ...

    def server_ms_to_monotonic_ns(self, server_ms: int) -> int:
        return server_ms * 1_000_000

    async def send_caption(self, *, session_id: str, text: str, new_audio_len_ms: float) -> None:
        self.captions += 1

    async def send_metric(self, name: str, *, session_id: str) -> None:
        self.metrics[name] += 1

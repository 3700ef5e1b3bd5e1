"""The ears of all tracks during the call: packets to the captures at once, and in small batches to the ears.

One ticker and one worker thread serve every track: a hundred silent tracks cost a loop over a list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from callclient.receive.latency import CAPTIONS, LatencyBudget
from callclient.receive.tracks import RemoteTrack
from foundation.clock import Clock
from foundation.logs import get_logger
from jobs.transcriber.capture import TrackCapture, VoicePacket
from jobs.transcriber.listening import Ear, UtteranceEvent

_TICK_S: Final = 0.1
_LATE_NS: Final = 280_000_000
"""A packet that has not come this long after the receive path's patience does not come any more: the speaker
is muted."""
_MAX_WAITING: Final = 3000
"""Packets per track that may wait for the ear: one minute."""
_FAILURES_LOGGED: Final = 3
"""Per track: a fault that stays would come ten times a second."""
_log = get_logger(component="live")


class LiveVoice:
    """One voice track during the call."""

    def __init__(
        self, track: RemoteTrack, capture: TrackCapture, make_ear: Callable[[], Ear]
    ) -> None:
        self.track = track
        self.capture = capture
        self.packets = 0
        self.packets_dropped = 0
        """Not heard live because the machine is too slow; they are on disk all the same."""
        self.ear_failures = 0
        self._make_ear = make_ear
        self._ear = make_ear()
        self._waiting: deque[VoicePacket] = deque()
        self._ended = False
        self._closed = False

    @property
    def session_id(self) -> str:
        return self.track.session_id

    @property
    def done(self) -> bool:
        """Ended, and everything was heard."""
        return self._closed

    @property
    def packets_waiting(self) -> int:
        """For the ear."""
        return len(self._waiting)

    @property
    def packets_broken(self) -> int:
        return self._ear.decoder.packets_broken

    async def read(self, *, zero_ns: int) -> None:
        """Follow the track to its end. Frames from before `zero_ns` (monotonic) are dropped."""
        async for frame in self.track.frames():
            call_ns = frame.time_ns - zero_ns
            if call_ns < 0:
                continue
            lost_ns = frame.lost_ns if frame.lost_ns <= call_ns else 0
            packet = VoicePacket(
                frame.payload,
                call_ns,
                frame.duration_ns,
                lost_ns,
                frame.repairs_loss and lost_ns > 0,
            )
            self.capture.add(packet)
            self.packets += 1
            if len(self._waiting) >= _MAX_WAITING:
                self._waiting.popleft()
                self.packets_dropped += 1
            self._waiting.append(packet)
        self._ended = True

    def replace_ear(self) -> None:
        """It failed on this track's sound: a fresh one takes over from the next packet on."""
        self.ear_failures += 1
        self._ear = self._make_ear()

    def pending(self, silent_until_ns: int) -> Callable[[], list[UtteranceEvent]] | None:
        """What the worker thread should do for this track now, or None."""
        if self._waiting:
            batch = list(self._waiting)
            self._waiting.clear()
            return lambda: self._ear.hear(batch)
        if self._ended and not self._closed:
            self._closed = True
            return self._ear.close
        if self._ear.speaking:
            return lambda: self._ear.silence(silent_until_ns)
        return None


class LiveListener:
    """Runs the ears. `run` until cancelled or until `finish`."""

    def __init__(
        self,
        *,
        clock: Clock,
        zero_ns: int,
        executor: Executor,
        on_event: Callable[[LiveVoice, UtteranceEvent], None],
        latency: LatencyBudget = CAPTIONS,
    ) -> None:
        """`latency`: what the receive path was told, which holds packets back that long."""
        self._late_ns = round(latency.audio_wait_s * 1e9) + _LATE_NS
        self._clock = clock
        self._zero_ns = zero_ns
        self._executor = executor
        self._on_event = on_event
        self._voices: list[LiveVoice] = []
        self._finishing = False

    def add(self, voice: LiveVoice) -> None:
        self._voices.append(voice)

    def finish(self) -> None:
        """All tracks have ended or will soon: let `run` return when everything was heard."""
        self._finishing = True

    async def run(self) -> None:
        """Hear what came, ten times a second."""
        while True:
            await self._tick()
            self._voices = [voice for voice in self._voices if not voice.done]
            if self._finishing and not self._voices:
                return
            await asyncio.sleep(_TICK_S)

    async def _tick(self) -> None:
        silent_until_ns = self._clock.monotonic_ns() - self._zero_ns - self._late_ns
        work = [
            (voice, todo)
            for voice in self._voices
            if (todo := voice.pending(silent_until_ns)) is not None
        ]
        if not work:
            return
        loop = asyncio.get_running_loop()
        heard = await loop.run_in_executor(self._executor, _hear_all, work)
        for voice, events in heard:
            for event in events:
                self._on_event(voice, event)


def _hear_all(
    work: list[tuple[LiveVoice, Callable[[], list[UtteranceEvent]]]],
) -> list[tuple[LiveVoice, list[UtteranceEvent]]]:
    heard: list[tuple[LiveVoice, list[UtteranceEvent]]] = []
    for voice, todo in work:
        try:
            heard.append((voice, todo()))
        except Exception as error:  # noqa: BLE001 - one bad track must not silence the others
            voice.replace_ear()
            if voice.ear_failures <= _FAILURES_LOGGED:
                _log.warning(
                    "ear.failed", session_id=voice.session_id, error_type=type(error).__name__
                )
    return heard

"""Receives a call through bad weather, and keeps what is needed to judge it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from callclient.events import CallEvent, TrackAdded
from callclient.receive.latency import LatencyBudget
from callclient.receive.tracks import EncodedFrame, RemoteTrack, TrackSource
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.screen import ScreenTrack
from sfu.server import SfuServer
from testbed.bots.picture import Picture
from testbed.lossy.member import Member
from testbed.lossy.proxy import LossyProxy
from testbed.lossy.sources import ScreenSource

_STEP_PX: Final = 8
"""Every eighth row and column is compared: enough for each block of the codec."""
_WRONG_LUMA: Final = 30
_MAX_WRONG_SHARE: Final = 0.01
"""Of the compared points. A picture put onto the wrong one before is wrong in far more."""


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """A decoded picture."""

    index: int
    """Which of the source's it claims to be."""
    delivered_ns: int
    right: bool
    """It shows what the source drew."""


@dataclass(slots=True)
class Heard:
    """A voice."""

    track: RemoteTrack
    frames: list[EncodedFrame] = field(default_factory=list)


class Listener:
    """Made for one proxy. `join`; `leave` in the end."""

    def __init__(
        self,
        server: SfuServer,
        name: str,
        proxy: LossyProxy,
        *,
        latency: LatencyBudget,
        screen: ScreenSource | None,
    ) -> None:
        """`screen`: look at the shared screen, which is this one."""
        self.proxy = proxy
        self.voices: dict[str, Heard] = {}
        """By session."""
        self.pictures: list[SeenPicture] = []
        self.screen_track: RemoteTrack | None = None
        self._screen = screen
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"eye-{name}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._member = Member(
            server, name, emit=self._happened, latency=latency, proxy_port=proxy.port
        )

    async def join(self) -> None:
        """Raises TimeoutError."""
        await self._member.join()

    async def leave(self) -> None:
        await self._member.leave()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        self._worker.shutdown()
        self.proxy.close()

    def lost_packets(self, track: RemoteTrack) -> int:
        """What the network kept of a track."""
        ssrcs = self._member.ssrcs.get(track.track_id, set())
        passed = [self.proxy.passed[ssrc] for ssrc in ssrcs if ssrc in self.proxy.passed]
        return sum(one.lost for one in passed)

    def _happened(self, event: CallEvent) -> None:
        if not isinstance(event, TrackAdded):
            return
        track = event.track
        if track.source is TrackSource.VOICE:
            work = self._listen(track)
        elif self._screen is not None:
            self.screen_track = track
            work = self._watch(track, self._screen)
        else:
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, track: RemoteTrack) -> None:
        heard = self.voices[track.session_id] = Heard(track)
        async for frame in track.frames():
            heard.frames.append(frame)

    async def _watch(self, track: RemoteTrack, source: ScreenSource) -> None:
        loop, decoder, picture = asyncio.get_running_loop(), ScreenTrack(LocalDecoder()), Picture()

        def look(frame: EncodedFrame, delivered_ns: int) -> None:
            decoder.push(frame)
            seen = decoder.take(frame.time_ns)
            index = source.frames.get(frame.payload)
            if seen is None or index is None:
                return
            luma = seen.frame.to_ndarray()[: seen.frame.height : _STEP_PX, ::_STEP_PX]
            drawn = picture.frame(index)[: seen.frame.height : _STEP_PX, ::_STEP_PX]
            wrong = np.abs(luma.astype(np.int16) - drawn) > _WRONG_LUMA
            right = bool(wrong.mean() <= _MAX_WRONG_SHARE)
            self.pictures.append(SeenPicture(index, delivered_ns, right))

        async for frame in track.frames():
            await loop.run_in_executor(self._worker, look, frame, time.monotonic_ns())
            if decoder.wants_key_frame:
                track.request_key_frame()

"""Everything between the voice tracks and the segments of the transcript, wired for one call.

RemoteTrack → LiveVoice → capture (disk) and Ear → CaptionBoard and TranscriptBacklog → SpeechScheduler →
engines → CaptionPublisher and Segments.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from callclient.receive.tracks import RemoteTrack
from foundation.channel import Channel
from foundation.clock import Clock
from jobs.presence import CallPeer
from jobs.transcriber.caption_publisher import CaptionPublisher, CaptionSink
from jobs.transcriber.captions import PACKETS_DROPPED, CaptionBoard, CaptionOptions
from jobs.transcriber.capture import TrackIdentity
from jobs.transcriber.capture_store import CaptureStore
from jobs.transcriber.listening import Ear, UtteranceEnded, UtteranceEvent
from jobs.transcriber.live import LiveListener, LiveVoice
from jobs.transcriber.models import Models
from jobs.transcriber.scheduler import SpeechScheduler, WorkSource
from jobs.transcriber.transcript import TranscriptBacklog

_SECOND_S: Final = 1.0


class CaptioningPeer(CallPeer, CaptionSink, Protocol):
    """What the transcriber needs of `callclient.client.CallClient`."""

    async def send_metric(self, name: str, *, session_id: str) -> None: ...


class CallPipeline:
    """From the start of the recording to the last segment. `run` once, in a task of the owner."""

    def __init__(
        self,
        peer: CaptioningPeer,
        models: Models,
        *,
        directory: Path,
        zero_ns: int,
        clock: Clock,
        caption_options: CaptionOptions,
        on_figures: Callable[[dict[str, int | float]], None],
        on_backlog: Callable[[int, int], None],
    ) -> None:
        """`zero_ns`: the monotonic time of call time 0. `on_figures` gets `figures` every second,
        `on_backlog` after the end of the call pieces done and pieces in all."""
        self._peer = peer
        self._models = models
        self._zero_ns = zero_ns
        # One thread hears all tracks, one writes to disk, each engine worker has its own.
        self._ears = ThreadPoolExecutor(1, thread_name_prefix="ears")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._speech = ThreadPoolExecutor(models.workers, thread_name_prefix="speech")
        self.captures = CaptureStore(directory, executor=self._disk)
        self.backlog = TranscriptBacklog(models.transcript, on_progress=self._piece_done)
        self.publisher = CaptionPublisher(
            peer, clock=clock, call_ns_to_monotonic_ns=lambda call_ns: call_ns + zero_ns
        )
        self._board: CaptionBoard | None = None
        sources: list[WorkSource] = [self.backlog]
        if models.captions is not None:
            self._board = CaptionBoard(
                models.captions,
                options=caption_options,
                publish=self.publisher.offer,
                report_metric=self._count,
            )
            sources.insert(0, self._board)
        self._scheduler = SpeechScheduler(sources, workers=models.workers, execute=self._speech)
        self._listener = LiveListener(
            clock=clock, zero_ns=zero_ns, executor=self._ears, on_event=self._heard
        )
        self._voices: list[LiveVoice] = []
        self._on_figures = on_figures
        self._on_backlog = on_backlog
        self._call_over = False
        self._counts: Counter[str] = Counter()
        self._unsent_metrics: dict[str, str] = {}

    async def run(self, tracks: Channel[RemoteTrack]) -> None:
        """Listen to every track of the channel, until `end_call` and until everything has its text."""
        try:
            async with asyncio.TaskGroup() as tasks:
                during_call = [
                    tasks.create_task(self._follow(tracks), name="voice-tracks"),
                    tasks.create_task(self.captures.run(), name="capture-flush"),
                    tasks.create_task(self.publisher.run(), name="caption-publisher"),
                ]
                throughout = [
                    tasks.create_task(self._scheduler.run(), name="speech-scheduler"),
                    tasks.create_task(self._every_second(), name="figures"),
                ]
                await self._listener.run()
                for task in during_call:
                    task.cancel()
                await self.captures.flush()
                self.backlog.max_running = self._models.workers
                self._scheduler.notify()
                await self.backlog.until_idle()
                for task in throughout:
                    task.cancel()
        finally:
            for pool in (self._ears, self._disk, self._speech):
                pool.shutdown(wait=False, cancel_futures=True)

    def end_call(self) -> None:
        """No more audio comes: hear the rest, then finish the transcript. Captions stop. Idempotent."""
        self._call_over = True
        for voice in self._voices:
            voice.track.end()
        if self._board is not None:
            self._board.stop()
        self._listener.finish()

    def figures(self) -> dict[str, int | float]:
        """For the job's metrics line."""
        partial, final = self.publisher.partial_lags(), self.publisher.final_lags()
        return {
            "tracks": len(self._voices),
            "packets": sum(voice.packets for voice in self._voices),
            "packets_lost": sum(voice.track.statistics.packets_lost for voice in self._voices),
            "packets_broken": sum(voice.packets_broken for voice in self._voices),
            "packets_dropped": self._packets_dropped(),
            "ear_failures": sum(voice.ear_failures for voice in self._voices),
            "capture_write_errors": self.captures.write_errors,
            "captions_sent": self.publisher.sent,
            "caption_lines_dropped": self.publisher.lines_dropped,
            "caption_partial_lag_p50_s": partial.p50_s,
            "caption_partial_lag_p95_s": partial.p95_s,
            "caption_final_lag_p50_s": final.p50_s,
            "caption_final_lag_p95_s": final.p95_s,
            "caption_load_level": self._board.level if self._board is not None else 0,
            "segments": self.backlog.pieces,
            "segments_done": self.backlog.pieces_done,
            "segments_failed": self.backlog.pieces_failed,
            "speech_jobs_failed": self._scheduler.jobs_failed,
            **self._counts,
        }

    async def _follow(self, tracks: Channel[RemoteTrack]) -> None:
        async with asyncio.TaskGroup() as readers:
            async for track in tracks:
                participant = self._peer.state.participants.get(track.session_id)
                user_id = participant.user_id if participant is not None else ""
                identity = TrackIdentity(track.track_id, track.session_id, user_id)
                make_ear = partial(Ear, self._models.voice_activity)
                voice = LiveVoice(track, self.captures.open(identity), make_ear)
                self._voices.append(voice)
                self._listener.add(voice)
                readers.create_task(voice.read(zero_ns=self._zero_ns), name="voice-track")

    def _heard(self, voice: LiveVoice, event: UtteranceEvent) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._board is not None:
            self._board.hear(voice.session_id, event, now_s=now_s)
        if isinstance(event, UtteranceEnded):
            self.backlog.add(voice.capture, event)
        self._scheduler.notify()

    def _count(self, name: str, session_id: str) -> None:
        self._counts[name] += 1
        self._unsent_metrics[name] = session_id

    def _piece_done(self) -> None:
        if self._call_over:
            self._on_backlog(self.backlog.pieces_done, self.backlog.pieces)

    async def _every_second(self) -> None:
        dropped = 0
        while True:
            await asyncio.sleep(_SECOND_S)
            self._scheduler.notify()  # what was flushed meanwhile can be transcribed
            if self._packets_dropped() > dropped and self._voices:
                dropped = self._packets_dropped()
                self._count(PACKETS_DROPPED, self._voices[-1].session_id)
            self._on_figures(self.figures())
            if not self._call_over:
                await self._send_metrics()

    async def _send_metrics(self) -> None:
        """At most one message per metric and second (calls-plugin.md 2)."""
        for name, session_id in self._unsent_metrics.items():
            await self._peer.send_metric(name, session_id=session_id)
        self._unsent_metrics.clear()

    def _packets_dropped(self) -> int:
        """Lost on this machine, between the network and the ear or the disk."""
        on_the_way = sum(
            voice.track.statistics.frames_dropped + voice.packets_dropped for voice in self._voices
        )
        return on_the_way + self.captures.packets_dropped

"""Everything between the voice tracks and the segments of the transcript, wired for one call.

RemoteTrack → LiveVoice → capture (disk) and Ear → CaptionBoard and TranscriptBacklog → SpeechScheduler →
engines → CaptionPublisher and Segments.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from callclient.receive.latency import CAPTIONS, LatencyBudget
from callclient.receive.tracks import RemoteTrack
from foundation.channel import Channel
from foundation.clock import Clock
from foundation.groups import unwrapped
from foundation.logs import get_logger
from jobs.presence import CallPeer
from jobs.transcriber.caption_publisher import CaptionPublisher, CaptionSink
from jobs.transcriber.captions import PACKETS_DROPPED, CaptionBoard, CaptionOptions
from jobs.transcriber.capture import TrackIdentity
from jobs.transcriber.capture_store import CaptureStore
from jobs.transcriber.handover import HandOver
from jobs.transcriber.listening import Ear, UtteranceEnded, UtteranceEvent
from jobs.transcriber.live import LiveListener, LiveVoice
from jobs.transcriber.models import Models
from jobs.transcriber.scheduler import SpeechScheduler, WorkSource
from jobs.transcriber.transcript import TranscriptBacklog
from jobs.transcriber.workers import EngineGone, EngineThreads

_SECOND_S: Final = 1.0
_log = get_logger(component="pipeline")


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
        latency: LatencyBudget = CAPTIONS,
        on_figures: Callable[[dict[str, int | float]], None],
        on_backlog: Callable[[int, int], None],
        handover: HandOver | None = None,
    ) -> None:
        """`zero_ns`: the monotonic time of call time 0. `latency`: as the peer was told. `on_figures` gets
        `figures` every second, `on_backlog` after the end of the call pieces done and pieces in all.
        `handover`: who has the final text made elsewhere, after the call."""
        self._peer = peer
        self._models = models
        self._zero_ns = zero_ns
        # One thread hears all tracks, one writes to disk, each engine worker has its own.
        self._ears = ThreadPoolExecutor(1, thread_name_prefix="ears")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._speech = EngineThreads(workers=models.workers)
        self.captures = CaptureStore(directory, executor=self._disk)
        self.backlog = TranscriptBacklog(
            models.transcript, languages=models.languages, on_progress=self._piece_done
        )
        self.publisher = CaptionPublisher(
            peer, clock=clock, call_ns_to_monotonic_ns=lambda call_ns: call_ns + zero_ns
        )
        self._board: CaptionBoard | None = None
        sources: list[WorkSource] = []
        if models.captions is not None:
            self._board = CaptionBoard(
                models.captions,
                options=replace(caption_options, language_of=self._spoken_by),
                publish=self.publisher.offer,
                report_metric=self._count,
            )
            sources.append(self._board)
        # A service is asked while the call goes on, and has little left to do at its end.
        self._handover = None if models.transcript.info.remote else handover
        self._backlog_workers = models.workers
        self._backlog_threads = self._speech
        self._schedulers: list[SpeechScheduler] = []
        if models.transcript.info.remote:
            # Who waits for a network takes no worker away from captions, and need not wait for the end.
            self._backlog_workers = models.transcript.info.workers
            self.backlog.max_running = self._backlog_workers
            self._backlog_threads = EngineThreads(workers=self._backlog_workers)
            self._schedulers.append(
                SpeechScheduler(
                    [self.backlog],
                    workers=self._backlog_workers,
                    execute=self._backlog_threads.execute,
                )
            )
        else:
            sources.append(self.backlog)
            self.backlog.max_running = self._while_in_call
        self._schedulers.append(
            SpeechScheduler(sources, workers=models.workers, execute=self._speech.execute)
        )
        self._listener = LiveListener(
            clock=clock,
            zero_ns=zero_ns,
            executor=self._ears,
            on_event=self._heard,
            latency=latency,
        )
        self._voices: list[LiveVoice] = []
        self._on_figures = on_figures
        self._on_backlog = on_backlog
        self._call_over = False
        self._counts: Counter[str] = Counter()
        self._unsent_metrics: dict[str, str] = {}

    async def run(self, tracks: Channel[RemoteTrack]) -> None:
        """Listen to every track of the channel, until `end_call` and until everything has its text.

        Raises:
            EngineGone: the engine does not answer or start any more; what was said is on disk for `salvage`.
        """
        try:
            with unwrapped(EngineGone):
                await self._run(tracks)
        finally:
            for pool in (self._ears, self._disk):
                pool.shutdown(wait=False, cancel_futures=True)
            for threads in {self._speech, self._backlog_threads}:
                threads.close()

    async def _run(self, tracks: Channel[RemoteTrack]) -> None:
        async with asyncio.TaskGroup() as tasks:
            during_call = [
                tasks.create_task(self._follow(tracks), name="voice-tracks"),
                tasks.create_task(self.captures.run(), name="capture-flush"),
                tasks.create_task(self.publisher.run(), name="caption-publisher"),
            ]
            throughout = [
                tasks.create_task(scheduler.run(), name="speech-scheduler")
                for scheduler in self._schedulers
            ]
            throughout.append(tasks.create_task(self._every_second(), name="figures"))
            await self._listener.run()
            for task in during_call:
                task.cancel()
            await self.captures.flush()
            _log.info("captures.complete", tracks=len(self._voices))
            self.backlog.max_running = self._backlog_workers
            self._notify()
            if self._handover is not None:
                await self._handover.run(self.backlog, on_news=self._handed_back)
            await self._until_transcribed()
            for task in throughout:
                task.cancel()

    async def _until_transcribed(self) -> None:
        """After the call: until everything has its text, or none can be had in this process."""
        done = asyncio.ensure_future(self.backlog.until_idle())
        gone = asyncio.ensure_future(self._backlog_threads.until_gone())
        try:
            await asyncio.wait([done, gone], return_when=asyncio.FIRST_COMPLETED)
            # Also when the last pieces hang: another process can still tell what was said.
            if not done.done() or self._backlog_threads.given_up:
                raise EngineGone("the speech engine does not answer; salvage can finish the job")
            done.result()
        finally:
            done.cancel()
            gone.cancel()

    def end_call(self) -> None:
        """No more audio comes: hear the rest, then finish the transcript. Captions stop. Idempotent."""
        self._call_over = True
        for voice in self._voices:
            voice.track.end()
        if self._board is not None:
            self._board.stop()
        self._listener.finish()

    @property
    def packets_waiting(self) -> int:
        """Of all voices, for their ears."""
        return sum(voice.packets_waiting for voice in self._voices)

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
            **self._board_figures(),
            "segments": self.backlog.pieces,
            "segments_done": self.backlog.pieces_done,
            "segments_failed": self.backlog.pieces_failed,
            "speech_jobs_failed": sum(scheduler.jobs_failed for scheduler in self._schedulers),
            "speech_workers_replaced": sum(
                threads.replaced for threads in {self._speech, self._backlog_threads}
            ),
            "speech_engine_restarts": self._models.restarts.count,
            **self._handover_figures(),
            **self._counts,
        }

    def _board_figures(self) -> dict[str, int | float]:
        board = self._board
        return {
            "caption_load_level": board.level if board is not None else 0,
            "caption_backlog_s": round(board.backlog_s, 1) if board is not None else 0.0,
            "caption_audio_dropped_s": round(board.audio_dropped_s, 1)
            if board is not None
            else 0.0,
        }

    def _handover_figures(self) -> dict[str, int | float]:
        if self._handover is None:
            return {}
        return {
            "segments_elsewhere": self.backlog.handed_out,
            "segments_taken_back": self._handover.taken_back,
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
        self._notify()

    def _spoken_by(self, session_id: str) -> str:
        """The language that the final texts have settled on, under the key that they use."""
        participant = self._peer.state.participants.get(session_id)
        languages = self._models.languages
        user_id = participant.user_id if participant is not None else ""
        return languages.of(user_id or session_id) if languages is not None else ""

    def _notify(self) -> None:
        for scheduler in self._schedulers:
            scheduler.notify()

    def _count(self, name: str, session_id: str) -> None:
        self._counts[name] += 1
        self._unsent_metrics[name] = session_id

    def _piece_done(self) -> None:
        if self._call_over:
            elsewhere = self._handover.done_elsewhere if self._handover is not None else 0
            self._on_backlog(self.backlog.pieces_done + elsewhere, self.backlog.pieces)

    def _handed_back(self) -> None:
        self._notify()
        if self.backlog.handed_out:  # else the last piece has told
            self._piece_done()

    async def _every_second(self) -> None:
        dropped = 0
        while True:
            await asyncio.sleep(_SECOND_S)
            self._notify()  # what was flushed meanwhile can be transcribed
            if self._packets_dropped() > dropped and self._voices:
                dropped = self._packets_dropped()
                self._count(PACKETS_DROPPED, self._voices[-1].session_id)
            self._on_figures(self.figures())
            if not self._call_over:
                self._yield_to_captions()
                await self._send_metrics()

    def _yield_to_captions(self) -> None:
        """The final text waits while captions cannot keep up; after the call it gets everything."""
        if self._board is not None and self._backlog_threads is self._speech:
            self.backlog.max_running = 0 if self._board.strained else self._while_in_call

    @property
    def _while_in_call(self) -> int:
        """Final texts in the making at once: none where others make them afterwards."""
        return 1 if self._handover is None else 0

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

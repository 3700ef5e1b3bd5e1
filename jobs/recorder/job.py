"""The recording job from join to post (calls-plugin.md 9.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from callclient.client import CallClient, CallClientConfig
from callclient.events import CallEvent, JobKind, JobStateChanged
from callclient.plugin_api import ApiError
from foundation.groups import unwrapped
from jobs import job_directory
from jobs.harness import Interrupted, JobContext, StartFailed
from jobs.presence import CallPeer, Presence
from jobs.recorder.inbox import Inbox
from jobs.recorder.outcome import PART_NAME, complete_file, publish
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.watcher import CallWatcher

if TYPE_CHECKING:
    from jobs.recorder.compositor import Compositor
    from jobs.recorder.mp4 import Mp4Writer
    from jobs.recorder.recording import RecordingLoop

_START_TIMEOUT_S: Final = 20.0
_ENCODER_TIMEOUT_S: Final = 5.0
_START_EVENT_TIMEOUT_S: Final = 2.0
"""The plugin tells the recording's start right after `started`; without it our own clock has to do."""
_STOP_TIMEOUT_S: Final = 10.0
_STOP_TOLERANCE_NS: Final = 5_000_000_000
"""An `end_at` farther from now than this is not the end of our recording, or a clock has jumped."""


class RecordingCutShort(Exception):
    """Recording ended before the call did; what there was is published."""


class RecorderJob:
    """One job; `run` once."""

    def __init__(
        self, context: JobContext, settings: RecorderSettings, *, peer: CallPeer | None = None
    ) -> None:
        """`peer` is the real one unless a test brings its own."""
        self._context = context
        self._settings = settings
        self._peer: CallPeer = peer or CallClient(
            CallClientConfig(
                site_url=settings.site_url,
                auth_token=settings.auth_token,
                channel_id=settings.call_id,
                job_id=settings.job_id,
                ca_file=settings.ca_file,
            )
        )
        self._inbox = Inbox()
        self._base_name = settings.call_id
        self._cut_short: Exception | None = None

    async def run(self) -> None:
        """Join, record, publish.

        Raises:
            StartFailed: the job could not begin.
            ApiError, Mp4Error: the result could not be published; it is kept in the job's directory.
            Interrupted: a second signal came.
            RecordingCutShort: the disk or an encoder failed; what was recorded before is published.
        """
        for text in self._settings.warnings:
            self._context.log.warning("settings.corrected", text=text)
        directory = self._settings.directory
        try:
            await asyncio.to_thread(job_directory.create, self._settings, base_name=self._base_name)
        except OSError as error:
            raise StartFailed(f"{directory}: {error.strerror}") from error
        try:
            with unwrapped(StartFailed, Interrupted):
                recorded = await self._take_part()
        except StartFailed:
            await asyncio.to_thread(job_directory.remove, directory)
            raise
        if recorded:
            await self._context.unless_hurried(self._publish())
        else:
            self._context.log.info("recording.empty")
            await asyncio.to_thread(job_directory.remove, directory)
        if self._cut_short is not None:
            raise RecordingCutShort(str(self._cut_short)) from self._cut_short

    async def _take_part(self) -> bool:
        """Be in the call until it is over; was anything recorded?"""
        # One thread does everything that blocks: imports, decoding, drawing, encoding, writing.
        with ThreadPoolExecutor(1, thread_name_prefix="recording") as thread:
            async with asyncio.TaskGroup() as tasks:
                watcher = CallWatcher(
                    self._peer.state,
                    self._inbox,
                    self._context.api,
                    tasks,
                    channel_id=self._settings.call_id,
                )

                def event_came(event: CallEvent) -> None:
                    watcher.event_came(event)
                    if _is_end(event):  # `job_stop` may get lost with a WebSocket
                        presence.end("the recording is over")

                presence = Presence(self._peer, on_event=event_came)
                staying = tasks.create_task(presence.run(), name="presence")
                watching = tasks.create_task(self._end_on_signal(presence), name="signals")
                try:
                    recording = await self._start(presence, thread)
                    if recording is not None:
                        await self._record(presence, recording, thread)
                finally:
                    watching.cancel()
                    await presence.leave(staying)
                    watcher.close()
        return recording is not None and not recording.empty

    async def _start(self, presence: Presence, thread: ThreadPoolExecutor) -> RecordingLoop | None:
        """Join, start the encoders, report `started`, learn the start; None when over before."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._find_name()
                if not await presence.until_joined():
                    if presence.failure is not None:
                        raise StartFailed(str(presence.failure))
                    return None  # asked to stop before it began
                compositor, writer = await self._start_encoders(thread)
                await self._context.report_started()
        except TimeoutError:
            raise StartFailed(f"not in the call within {_START_TIMEOUT_S:g} s") from None
        except (ApiError, OSError) as error:
            raise StartFailed(str(error)) from error
        reported_ns, reported_utc = time.monotonic_ns(), datetime.now(UTC)
        try:
            async with asyncio.timeout(_START_EVENT_TIMEOUT_S):
                await presence.until_recording_starts()
        except TimeoutError:
            self._context.log.warning("recording.start_unknown", taken="our own clock")
        zero_ns, zero_utc = reported_ns, reported_utc
        if presence.recording_start_ms:
            zero_ns = self._peer.server_ms_to_monotonic_ns(presence.recording_start_ms)
            zero_utc = datetime.fromtimestamp(presence.recording_start_ms / 1000, UTC)
        return self._recording_loop(writer, compositor, zero_ns=zero_ns, zero_utc=zero_utc)

    async def _find_name(self) -> None:
        """The file's name; the reference asks first, so that a bad token shows before the join."""
        self._base_name = await self._context.api.filename(self._settings.call_id)
        await asyncio.to_thread(job_directory.create, self._settings, base_name=self._base_name)

    async def _start_encoders(self, thread: ThreadPoolExecutor) -> tuple[Compositor, Mp4Writer]:
        path = self._settings.directory / PART_NAME

        def start() -> tuple[Compositor, Mp4Writer]:
            from jobs.recorder.compositor import Compositor
            from jobs.recorder.mp4 import Mp4Error, Mp4Writer

            try:
                writer = Mp4Writer(path, self._settings)
            except Mp4Error as error:
                raise StartFailed(str(error)) from error
            return Compositor(self._settings.width_px, self._settings.height_px), writer

        try:
            async with asyncio.timeout(_ENCODER_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(thread, start)
        except TimeoutError:
            raise StartFailed(f"no encoder within {_ENCODER_TIMEOUT_S:g} s") from None

    def _recording_loop(
        self, writer: Mp4Writer, compositor: Compositor, *, zero_ns: int, zero_utc: datetime
    ) -> RecordingLoop:
        from jobs.recorder.recording import Recording, RecordingLoop

        loop = asyncio.get_running_loop()
        recording = Recording(
            writer, compositor, self._settings, zero_ns=zero_ns, zero_utc=zero_utc
        )
        return RecordingLoop(
            recording,
            self._inbox,
            interval_s=1 / self._settings.frame_rate,
            on_blocked=lambda track: _call_on(loop, track.request_key_frame),
            on_figures=lambda figures: _call_on(
                loop, lambda: self._context.metrics.update(figures)
            ),
        )

    async def _record(
        self, presence: Presence, recording: RecordingLoop, thread: ThreadPoolExecutor
    ) -> None:
        """Record until the call is over, the job is asked to stop, or writing fails."""
        from jobs.recorder.mp4 import Mp4Error

        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(thread, recording.run)
        over = asyncio.create_task(presence.until_over(), name="until-over")
        try:
            await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            recording.stop(self._stop_ns(presence))
        try:
            await self._until_written(running)
        except Mp4Error as error:
            self._context.log.error("recording.cut_short", reason=str(error))
            self._cut_short = error

    async def _until_written(self, running: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.shield(running)
        except TimeoutError:
            # The thread may still be catching up: waiting longer loses nothing, giving up would.
            self._context.log.warning("recording.stop_slow", limit_s=_STOP_TIMEOUT_S)
            await self._context.unless_hurried(asyncio.shield(running))

    def _stop_ns(self, presence: Presence) -> int:
        now_ns = time.monotonic_ns()
        if presence.recording_end_ms:
            told_ns = self._peer.server_ms_to_monotonic_ns(presence.recording_end_ms)
            if abs(told_ns - now_ns) < _STOP_TOLERANCE_NS:
                return told_ns
        return now_ns

    async def _end_on_signal(self, presence: Presence) -> None:
        await self._context.shutdown.requested.wait()
        presence.end("a signal")

    async def _publish(self) -> None:
        path = await asyncio.to_thread(complete_file, self._settings.directory)
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        self._context.log.info("recording.ready", bytes=size_bytes)
        certain = await publish(
            self._context.api,
            self._settings,
            base_name=self._base_name,
            on_progress=self._context.progress,
        )
        if certain:
            await asyncio.to_thread(job_directory.remove, self._settings.directory)


def _is_end(event: CallEvent) -> bool:
    """Has the host stopped the recording?

    An end with an error is told when the transcription could not be started; the recording's row stays open
    then and its job runs on (calls-plugin.md 6.7).
    """
    return (
        isinstance(event, JobStateChanged)
        and event.kind is JobKind.RECORDING
        and event.end_at_ms > 0
        and not event.error
    )


def _call_on(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """From the media thread; the loop may be gone already when a job is torn down."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(action)

"""The recording job from join to post (calls-plugin.md 9.1)."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from callclient.client import CallClient, CallClientConfig
from callclient.events import CallEvent
from callclient.plugin_api import ApiError
from callclient.receive.decoders import can_decode
from callclient.receive.latency import RECORDING
from callclient.receive.tracks import Codec
from foundation.error_place import place
from foundation.groups import unwrapped
from foundation.spans import step
from jobs import job_directory, manifest
from jobs.connection_gaps import ConnectionGaps
from jobs.disk_watch import RESERVE_BYTES, DiskFull, check_disk, watch_disk
from jobs.harness import Interrupted, JobContext, StartFailed
from jobs.presence import CallPeer, Presence
from jobs.recorder.artifacts import ARTIFACTS_DIR, make_artifacts
from jobs.recorder.call_times import believed_end_ns, believed_start, is_end
from jobs.recorder.decoding.decoder import Decoder
from jobs.recorder.encoder_choice import choose_encoder
from jobs.recorder.inbox import Inbox
from jobs.recorder.mishaps import Mishaps, innermost, plain_reason
from jobs.recorder.outcome import (
    NothingRecorded,
    anything_recorded,
    complete_file,
    publish,
)
from jobs.recorder.recording_thread import RecordingThread
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.vigil import keep_vigil
from jobs.recorder.watcher import CallWatcher
from jobs.tracing import figures

if TYPE_CHECKING:
    from jobs.recorder.recording import RecordingLoop

_START_TIMEOUT_S: Final = 20.0
_START_EVENT_TIMEOUT_S: Final = 2.0
"""The plugin tells the recording's start right after `started`; without it our own clock has to do."""
_UNEXPECTED: Final = "the recorder met an unexpected error"


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
                site_is_allowed=settings.site_is_allowed,
                ice_transport=settings.ice_transport,
                latency=RECORDING,
                av1_support=can_decode(Codec.AV1),
            )
        )
        self._inbox = Inbox()
        self._mishaps = Mishaps()
        self._decoder = Decoder()
        self._begun = False
        """`started` was reported."""
        self._base_name = settings.call_id
        self._gaps = ConnectionGaps()
        self._zero_ns = 0
        self._cut_short: RecordingCutShort | None = None

    async def run(self) -> None:
        """Join, record, publish.

        Raises:
            StartFailed: the job could not begin.
            ApiError, Mp4Error: the result could not be published; it is kept in the job's directory.
            Interrupted: a second signal came.
            RecordingCutShort: the disk, an encoder or anything else failed; what was recorded before is
                published.
        """
        for text in self._settings.warnings:
            self._context.log.warning("settings.corrected", text=text)
        directory = self._settings.directory
        try:
            await asyncio.to_thread(job_directory.create, self._settings, base_name=self._base_name)
            await asyncio.to_thread(check_disk, directory, reserve_bytes=RESERVE_BYTES)
        except OSError as error:
            raise StartFailed(f"{directory}: {error.strerror}") from error
        except DiskFull as error:
            await asyncio.to_thread(job_directory.remove, directory)
            raise StartFailed(str(error)) from error
        with job_directory.held(directory):
            self._context.copy.begin()
            await self._take_part_and_publish()
        if self._cut_short is not None:
            raise self._cut_short

    async def _take_part_and_publish(self) -> None:
        directory = self._settings.directory
        try:
            with unwrapped(StartFailed, Interrupted):
                recorded = await self._take_part()
        except StartFailed:
            await self._remove_files()
            raise
        except Interrupted:
            raise
        except Exception as error:
            error = innermost(error)
            if not self._begun:
                self._context.log.error("start.broken", error=type(error).__name__, at=place(error))
                await self._remove_files()
                raise StartFailed(_UNEXPECTED) from error
            await self._cut(error, call_goes_on=True)
            recorded = await asyncio.to_thread(anything_recorded, directory)
        if recorded:
            with suppress(NothingRecorded):  # the disk has refused everything
                await self._context.unless_hurried(self._publish())
                return
        self._context.log.info("recording.empty")
        await self._remove_files()

    async def _take_part(self) -> bool:
        """Be in the call until it is over; was anything recorded?"""
        with RecordingThread(
            self._context,
            self._settings,
            inbox=self._inbox,
            decoder=self._decoder,
            mishaps=self._mishaps,
        ) as thread:
            async with asyncio.TaskGroup() as tasks:
                watcher = CallWatcher(
                    self._peer.state,
                    self._inbox,
                    self._context.api,
                    tasks,
                    channel_id=self._settings.call_id,
                    face=self._decoder.face,
                    mishaps=self._mishaps,
                )

                def event_came(event: CallEvent) -> None:
                    watcher.event_came(event)
                    if self._zero_ns and self._gaps.saw(event, zero_ns=self._zero_ns):
                        saving = asyncio.to_thread(self._gaps.save, self._settings.directory)
                        tasks.create_task(saving, name="connection-gaps")
                    if is_end(event):  # `job_stop` may get lost with a WebSocket
                        presence.end("the recording is over")

                presence = Presence(self._peer, on_event=event_came)
                staying = tasks.create_task(presence.run(), name="presence")
                helpers = [tasks.create_task(self._end_on_signal(presence), name="signals")]
                try:
                    recording = await self._start(presence, thread)
                    if recording is not None:
                        vigil = keep_vigil(watcher, end=presence.end, metrics=self._context.metrics)
                        helpers.append(tasks.create_task(vigil, name="vigil"))
                        with step("recording") as span:
                            await self._record(presence, recording, thread)
                            span.note(figures(self._context.metrics))
                finally:
                    for helper in helpers:
                        helper.cancel()
                    await presence.leave(staying)
                    watcher.close()
                    await asyncio.to_thread(self._decoder.close)
        return recording is not None and not recording.empty

    async def _start(self, presence: Presence, thread: RecordingThread) -> RecordingLoop | None:
        """Join, start the encoders, report `started`, learn the start; None when over before."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                encoder = await self._prepare()
                if not await presence.until_joined():
                    if presence.failure is not None:
                        raise StartFailed(str(presence.failure))
                    return None  # asked to stop before it began
                compositor, writer = await thread.start_encoders(encoder)
                await self._context.report_started()
                self._context.metrics["clock_offset_s"] = presence.clock_offset_s()
                self._begun = True
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
        if start_ms := presence.recording_start_ms:
            told_ns = self._peer.server_ms_to_monotonic_ns(start_ms)
            if believed := believed_start(start_ms, told_ns=told_ns, reported_ns=reported_ns):
                zero_ns, zero_utc = believed
            else:
                off_s = round((told_ns - reported_ns) / 1e9, 1)
                self._context.log.warning(
                    "recording.start_impossible", off_s=off_s, taken="our own clock"
                )
        self._zero_ns = zero_ns
        return thread.recording_from(zero_ns, zero_utc, compositor=compositor, writer=writer)

    async def _prepare(self) -> str:
        """Find the file's name, and meanwhile the encoder to begin with."""
        choosing = asyncio.create_task(choose_encoder(self._settings), name="encoder")
        try:
            await self._find_name()
            return await choosing
        finally:
            choosing.cancel()
            await asyncio.gather(choosing, return_exceptions=True)

    async def _find_name(self) -> None:
        """The file's name; the reference asks first, so that a bad token shows before the join."""
        self._base_name = await self._context.api.filename(self._settings.call_id)
        await asyncio.to_thread(job_directory.create, self._settings, base_name=self._base_name)

    async def _record(
        self, presence: Presence, recording: RecordingLoop, thread: RecordingThread
    ) -> None:
        """Record until the call is over, the job is asked to stop, or recording fails."""
        running = thread.run(recording)
        over = asyncio.create_task(presence.until_over(), name="until-over")
        watch = watch_disk(self._settings.directory, reserve_bytes=RESERVE_BYTES)
        disk = asyncio.create_task(watch, name="disk")
        try:
            await asyncio.wait([running, over, disk], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            disk.cancel()
            recording.stop(self._stop_ns(presence))
        try:
            await asyncio.gather(over, disk, return_exceptions=True)
            await thread.until_written(running)
            if not disk.cancelled() and (full := disk.exception()) is not None:
                raise full
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails there: what was recorded is published
            await self._cut(error, call_goes_on=not presence.over)
        self._context.log.info("recording.written")

    async def _cut(self, error: Exception, *, call_goes_on: bool) -> None:
        """Recording has ended by `error`; what there is will be published."""
        from jobs.recorder.mp4 import Mp4Error

        known = isinstance(error, Mp4Error | DiskFull | OSError)
        reason = str(error) if known else type(error).__name__  # a message may hold names
        self._cut_short = RecordingCutShort(reason)
        self._context.log.error("recording.cut_short", reason=reason, at=place(error))
        if call_goes_on:
            # People should know that it is not recorded any more.
            text = plain_reason(error) if known else _UNEXPECTED
            await self._context.status.failed(f"the recording ended early: {text}")

    def _stop_ns(self, presence: Presence) -> int:
        now_ns = time.monotonic_ns()
        if not presence.recording_end_ms:
            return now_ns
        told_ns = self._peer.server_ms_to_monotonic_ns(presence.recording_end_ms)
        return believed_end_ns(told_ns, now_ns=now_ns)

    async def _end_on_signal(self, presence: Presence) -> None:
        await self._context.shutdown.requested.wait()
        presence.end("a signal")

    async def _remove_files(self, *, keep: str = "") -> None:
        self._context.copy.release()
        await asyncio.to_thread(job_directory.remove, self._settings.directory, keep=keep)

    async def _publish(self) -> None:
        directory = self._settings.directory
        await self._context.copy.before_derived()
        path = await asyncio.to_thread(complete_file, directory, chapters=self._settings.chapters)
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        self._context.log.info("recording.ready", bytes=size_bytes)
        certain = await publish(
            self._context.api,
            self._settings,
            base_name=self._base_name,
            on_progress=self._context.progress,
            before_post=self._context.copy.before_post,
        )
        if certain:
            await asyncio.to_thread(make_artifacts, self._settings, path)
            await asyncio.to_thread(manifest.seal, directory, "kept")
            await self._remove_files(keep=ARTIFACTS_DIR)

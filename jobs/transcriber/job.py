"""The transcribing job from join to post (calls-plugin.md 9.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from callclient.client import CallClient, CallClientConfig
from callclient.events import CallEvent, TrackAdded
from callclient.plugin_api import ApiError
from callclient.receive.tracks import RemoteTrack, TrackSource
from foundation.channel import Channel
from foundation.clock import Clock, SystemClock
from foundation.groups import unwrapped
from jobs import job_directory
from jobs.harness import Interrupted, JobContext, StartFailed
from jobs.presence import Presence
from jobs.transcriber.captions import CaptionOptions
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.models import Models, load_models
from jobs.transcriber.outcome import language_of, publish, write_files
from jobs.transcriber.pipeline import CallPipeline, CaptioningPeer
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.transcript import Segment

_START_TIMEOUT_S: Final = 30.0
_TRACKS: Final = 4096


class TranscriberJob:
    """One job; `run` once."""

    def __init__(
        self,
        context: JobContext,
        settings: TranscriberSettings,
        *,
        peer: CaptioningPeer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`peer` and `clock` are the real ones unless a test brings its own."""
        self._context = context
        self._settings = settings
        self._clock = clock or SystemClock()
        self._peer: CaptioningPeer = peer or CallClient(
            CallClientConfig(
                site_url=settings.site_url,
                auth_token=settings.auth_token,
                channel_id=settings.call_id,
                job_id=settings.job_id,
                ca_file=settings.ca_file,
            )
        )
        self._tracks: Channel[RemoteTrack] = Channel(_TRACKS)
        self._speakers = SpeakerDirectory(settings.directory)
        self._base_name = settings.call_id

    async def run(self) -> None:
        """Join, listen, transcribe, publish.

        Raises:
            StartFailed: the job could not begin.
            ApiError: the result could not be published; it is kept in the job's directory.
            Interrupted: a second signal came.
        """
        for text in self._settings.warnings:
            self._context.log.warning("settings.corrected", text=text)
        try:
            await self._describe()
        except OSError as error:
            raise StartFailed(f"{self._settings.directory}: {error.strerror}") from error
        try:
            with unwrapped(StartFailed, Interrupted):
                segments = await self._take_part()
        except StartFailed:
            await asyncio.to_thread(job_directory.remove, self._settings.directory)
            raise
        call_over_s = time.monotonic()
        if segments:
            await self._context.unless_hurried(self._publish(segments, not_before_s=call_over_s))
        else:
            # Nobody said anything: nothing is published (calls-plugin.md 8.5).
            self._context.log.info("transcript.empty")
            await asyncio.to_thread(job_directory.remove, self._settings.directory)

    async def _take_part(self) -> list[Segment]:
        """Be in the call until it is over and everything said has its text."""
        async with asyncio.TaskGroup() as tasks:
            presence = Presence(self._peer, on_event=partial(self._event_came, tasks))
            staying = tasks.create_task(presence.run(), name="presence")
            watching = tasks.create_task(self._end_on_signal(presence), name="signals")
            listening: asyncio.Task[None] | None = None
            try:
                pipeline = await self._start(presence)
                if pipeline is not None:
                    listening = tasks.create_task(pipeline.run(self._tracks), name="pipeline")
                    await presence.until_over()
            finally:
                watching.cancel()
                await presence.leave(staying)
            if pipeline is None or listening is None:
                return []
            pipeline.end_call()
            await self._context.unless_hurried(asyncio.shield(listening))
            self._context.metrics.update(pipeline.figures())
            return pipeline.backlog.segments

    async def _start(self, presence: Presence) -> CallPipeline | None:
        """Join, load the models, wait for the recording, report `started`; None when over before."""
        loading = asyncio.create_task(self._prepare(presence), name="prepare")
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                if not await presence.until_started():
                    _fail_unless_asked_to_stop(presence)
                    return None
                models = await loading
                zero_ns = self._peer.server_ms_to_monotonic_ns(presence.recording_start_ms)
                await self._context.report_started()
        except TimeoutError:
            missing = "the recording did not start" if presence.joined else "no connection"
            raise StartFailed(f"{missing} within {_START_TIMEOUT_S:g} s") from None
        except (ApiError, EngineLoadError, OSError) as error:
            raise StartFailed(str(error)) from error
        finally:
            loading.cancel()
            await asyncio.wait([loading])
        return CallPipeline(
            self._peer,
            models,
            directory=self._settings.directory,
            zero_ns=zero_ns,
            clock=self._clock,
            caption_options=CaptionOptions(language=self._settings.live_captions_language),
            on_figures=self._context.metrics.update,
            on_backlog=partial(self._context.progress, "transcribe"),
        )

    async def _prepare(self, presence: Presence) -> Models:
        """The files' name and the models; heavy imports wait for the join."""
        await presence.until_joined()
        with suppress(ApiError):
            self._base_name = await self._context.api.filename(self._settings.call_id)
            await self._describe()
        return await asyncio.to_thread(load_models, self._settings)

    async def _describe(self) -> None:
        await asyncio.to_thread(job_directory.create, self._settings, base_name=self._base_name)

    def _event_came(self, tasks: asyncio.TaskGroup, event: CallEvent) -> None:
        # Screen sound is left out on purpose (calls-plugin.md 12, trap 28).
        if isinstance(event, TrackAdded) and event.track.source is TrackSource.VOICE:
            self._voice_found(tasks, event.track)

    def _voice_found(self, tasks: asyncio.TaskGroup, track: RemoteTrack) -> None:
        self._tracks.offer(track)
        participant = self._peer.state.participants.get(track.session_id)
        # At once: later the speaker may be gone, and with it the name (trap 33).
        look_up = self._speakers.look_up(
            self._context.api,
            channel_id=self._settings.call_id,
            session_id=track.session_id,
            user_id=participant.user_id if participant is not None else "",
        )
        tasks.create_task(look_up, name="speaker-lookup")

    async def _end_on_signal(self, presence: Presence) -> None:
        await self._context.shutdown.requested.wait()
        presence.end("a signal")

    async def _publish(self, segments: list[Segment], *, not_before_s: float) -> None:
        await self._find_missing_names(segments)
        await asyncio.to_thread(write_files, segments, self._speakers, self._settings)
        self._context.log.info("transcript.ready", segments=len(segments))
        early_s = not_before_s + self._settings.publish_after_s - time.monotonic()
        await asyncio.sleep(max(0.0, early_s))
        certain = await publish(
            self._context.api,
            self._settings,
            language=language_of(segments),
            base_name=self._base_name,
            on_progress=self._context.progress,
        )
        if certain:
            await asyncio.to_thread(job_directory.remove, self._settings.directory)

    async def _find_missing_names(self, segments: Iterable[Segment]) -> None:
        for session_id, user_id in {(s.session_id, s.user_id) for s in segments}:
            await self._speakers.look_up_by_id(
                self._context.api, session_id=session_id, user_id=user_id
            )


def _fail_unless_asked_to_stop(presence: Presence) -> None:
    if presence.failure is not None:
        raise StartFailed(str(presence.failure))
    if presence.recording_over:
        raise StartFailed("the recording was over before it began")

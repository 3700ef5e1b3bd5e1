"""The transcribing job from join to post (calls-plugin.md 9.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from callclient.client import CallClient, CallClientConfig
from callclient.events import CallEvent, TrackAdded
from callclient.plugin_api import ApiError
from callclient.receive.latency import CAPTIONS, RECORDING
from callclient.receive.tracks import RemoteTrack, TrackSource
from foundation.channel import Channel
from foundation.clock import Clock, SystemClock
from foundation.groups import unwrapped
from foundation.spans import step
from jobs import job_directory
from jobs.connection_gaps import ConnectionGaps
from jobs.harness import Interrupted, JobContext, StartFailed
from jobs.presence import Presence
from jobs.tracing import figures
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.engines.hints import CallHints, channel_name_of
from jobs.transcriber.models import ModelsInUse, engine_used, hints_of
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.workers import EngineGone

if TYPE_CHECKING:
    from jobs.transcriber.models import Models
    from jobs.transcriber.pipeline import CallPipeline, CaptioningPeer
    from jobs.transcriber.transcript import Segment

_START_TIMEOUT_S: Final = 30.0
_TRACKS: Final = 4096
_TEXT_BYTES: Final = 8 << 20
"""Of the disk, kept for the transcript: with all its words three hours of talk have 3 MB."""
_FUTURE_NS: Final = 5_000_000_000
"""A recording that is said to begin later than that has not been announced by a clock that runs right."""


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
        # Without captions nobody waits: rather late words than lost ones.
        self._latency = CAPTIONS if settings.live_captions_on else RECORDING
        self._peer: CaptioningPeer = peer or CallClient(
            CallClientConfig(
                site_url=settings.site_url,
                auth_token=settings.auth_token,
                channel_id=settings.call_id,
                job_id=settings.job_id,
                ca_file=settings.ca_file,
                site_is_allowed=settings.site_is_allowed,
                ice_transport=settings.ice_transport,
                latency=self._latency,
            )
        )
        self._tracks: Channel[RemoteTrack] = Channel(_TRACKS)
        self._speakers = SpeakerDirectory(settings.directory)
        self._base_name = settings.call_id
        self._hints = hints_of(settings)
        self._gaps = ConnectionGaps()
        self._zero_ns = 0
        self._engine_used: dict[str, str] = {}
        self._models = ModelsInUse()

    async def run(self) -> None:
        """Join, listen, transcribe, publish.

        Raises:
            StartFailed: the job could not begin.
            ApiError: the result could not be published; it is kept in the job's directory.
            Interrupted: a second signal came.
            EngineGone, NothingUnderstood: what was said is on disk, but nothing could understand it.
        """
        for text in self._settings.warnings:
            self._context.log.warning("settings.corrected", text=text)
        try:
            await self._describe()
        except OSError as error:
            raise StartFailed(f"{self._settings.directory}: {error.strerror}") from error
        with job_directory.held(self._settings.directory):
            self._context.copy.begin()
            await self._take_part_and_publish()

    async def _take_part_and_publish(self) -> None:
        try:
            with unwrapped(StartFailed, Interrupted, EngineGone):
                segments = await self._take_part()
        except StartFailed:
            self._context.copy.release()
            await asyncio.to_thread(job_directory.remove, self._settings.directory)
            raise
        finally:
            await asyncio.to_thread(self._models.close)
        call_over_s = time.monotonic()
        if segments:
            await self._context.unless_hurried(self._publish(segments, not_before_s=call_over_s))
        else:
            # Nobody said anything: nothing is published (calls-plugin.md 8.5).
            from jobs.transcriber.kept import finish_directory

            self._context.log.info("transcript.empty")
            self._context.copy.release()
            await asyncio.to_thread(finish_directory, self._settings)

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
                    with step("listening") as span:
                        await presence.until_over()
                        span.note(figures(self._context.metrics))
            finally:
                watching.cancel()
                await presence.leave(staying)
            if pipeline is None or listening is None:
                return []
            pipeline.end_call()
            with step("transcribing") as span:
                await self._context.unless_hurried(asyncio.shield(listening))
                self._context.metrics.update(pipeline.figures())
                span.note(figures(self._context.metrics))
            return pipeline.backlog.segments

    async def _start(self, presence: Presence) -> CallPipeline | None:
        """Join, load the models, wait for the recording, report `started`; None when over before."""
        loading = asyncio.create_task(self._prepare(presence), name="prepare")
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                zero_ns = await self._until_zero(presence)
                if zero_ns is None:
                    _fail_unless_asked_to_stop(presence)
                    return None
                models = await loading
                self._engine_used = engine_used(self._settings, models.transcript.info)
                self._zero_ns = zero_ns
                await self._context.report_started()
                self._context.metrics["clock_offset_s"] = presence.clock_offset_s()
        except TimeoutError:
            missing = "the recording did not start" if presence.joined else "no connection"
            raise StartFailed(f"{missing} within {_START_TIMEOUT_S:g} s") from None
        except (ApiError, EngineLoadError, OSError) as error:
            raise StartFailed(str(error)) from error
        finally:
            loading.cancel()
            await asyncio.wait([loading])
        from jobs.transcriber.captions import CaptionOptions
        from jobs.transcriber.handover import hand_over_of
        from jobs.transcriber.pipeline import CallPipeline

        return CallPipeline(
            self._peer,
            models,
            directory=self._settings.directory,
            zero_ns=zero_ns,
            clock=self._clock,
            caption_options=CaptionOptions(
                language=self._settings.live_captions_language or None,
                context_s=self._settings.live_captions_context_s,
            ),
            latency=self._latency,
            on_figures=self._context.metrics.update,
            on_backlog=partial(self._context.progress, "transcribe"),
            handover=hand_over_of(self._settings, self._hints, models.transcript.info),
        )

    async def _until_zero(self, presence: Presence) -> int | None:
        """The monotonic time of call time 0: the recording's start, or the join where none is expected."""
        if self._settings.without_recording:
            return self._clock.monotonic_ns() if await presence.until_joined() else None
        if not await presence.until_started():
            return None
        told_ns = self._peer.server_ms_to_monotonic_ns(presence.recording_start_ms)
        now_ns = self._clock.monotonic_ns()
        if told_ns <= now_ns + _FUTURE_NS:
            return told_ns
        # A clock has jumped. Everything said would lie before the beginning.
        off_s = round((told_ns - now_ns) / 1e9, 1)
        self._context.log.warning("recording.start_impossible", off_s=off_s, taken="our own clock")
        return now_ns

    async def _prepare(self, presence: Presence) -> Models:
        """The files' name and the models; heavy imports wait for the join."""
        await presence.until_joined()
        with suppress(ApiError):
            self._base_name = await self._context.api.filename(self._settings.call_id)
            self._hints.channel(channel_name_of(self._base_name))
            await self._describe()
        load = partial(_load, self._settings, self._hints)
        return await asyncio.to_thread(self._models.load, load)

    async def _describe(self) -> None:
        await asyncio.to_thread(
            job_directory.create,
            self._settings,
            base_name=self._base_name,
            reserve_bytes=_TEXT_BYTES,
        )

    def _event_came(self, tasks: asyncio.TaskGroup, event: CallEvent) -> None:
        # Screen sound is left out on purpose (calls-plugin.md 12, trap 28).
        if isinstance(event, TrackAdded) and event.track.source is TrackSource.VOICE:
            self._voice_found(tasks, event.track)
        elif self._zero_ns and self._gaps.saw(event, zero_ns=self._zero_ns):
            saving = asyncio.to_thread(self._gaps.save, self._settings.directory)
            tasks.create_task(saving, name="connection-gaps")

    def _voice_found(self, tasks: asyncio.TaskGroup, track: RemoteTrack) -> None:
        self._tracks.offer(track)
        participant = self._peer.state.participants.get(track.session_id)
        # At once: later the speaker may be gone, and with it the name (trap 33).
        user_id = participant.user_id if participant is not None else ""
        tasks.create_task(self._look_up(track.session_id, user_id), name="speaker-lookup")

    async def _look_up(self, session_id: str, user_id: str) -> None:
        await self._speakers.look_up(
            self._context.api,
            channel_id=self._settings.call_id,
            session_id=session_id,
            user_id=user_id,
        )
        if self._speakers.knows(session_id):
            self._hints.participant(self._speakers.name(session_id))

    async def _end_on_signal(self, presence: Presence) -> None:
        await self._context.shutdown.requested.wait()
        presence.end("a signal")

    async def _publish(self, segments: list[Segment], *, not_before_s: float) -> None:
        from jobs.transcriber.document import language_of
        from jobs.transcriber.kept import finish_directory
        from jobs.transcriber.outcome import check_understood, publish, write_files

        await self._find_missing_names(segments)
        check_understood(segments)
        await asyncio.to_thread(
            write_files, segments, self._speakers, self._settings, engine=self._engine_used
        )
        self._context.log.info("transcript.ready", segments=len(segments))
        # The recording's post has to be there first (calls-plugin.md, trap 38), and nothing tells: the bot is
        # in no channel (3.1) and may not read the call's post, whose props would say so (5.8); no route and
        # no event names recordings that are posted; the recording's file ID is known to the recorder alone.
        early_s = not_before_s + self._settings.publish_after_s - time.monotonic()
        await asyncio.sleep(max(0.0, early_s))
        certain = await publish(
            self._context.api,
            self._settings,
            language=language_of(segments),
            base_name=self._base_name,
            on_progress=self._context.progress,
            before_post=self._context.copy.before_post,
        )
        if certain:
            self._context.copy.release()
            await asyncio.to_thread(finish_directory, self._settings)

    async def _find_missing_names(self, segments: Iterable[Segment]) -> None:
        for session_id, user_id in {(s.session_id, s.user_id) for s in segments}:
            await self._speakers.look_up_by_id(
                self._context.api, session_id=session_id, user_id=user_id
            )


def _load(settings: TranscriberSettings, hints: CallHints) -> Models:
    """In a thread: with what it imports, a tenth of a second and more."""
    import jobs.transcriber.pipeline  # noqa: F401 - for whoever needs it next, on the loop
    from jobs.transcriber.models import load_models

    return load_models(settings, hints=hints)


def _fail_unless_asked_to_stop(presence: Presence) -> None:
    if presence.failure is not None:
        raise StartFailed(str(presence.failure))
    if presence.recording_over:
        raise StartFailed("the recording was over before it began")

"""The life of a recording and its transcription, seen from the plugin (section 6.7)."""

from __future__ import annotations

import asyncio

from foundation.logs import get_logger
from testbed.plugin.call import CAPTIONING, RECORDING, TRANSCRIBING, Call, Job, Session
from testbed.plugin.calls import Calls
from testbed.plugin.job_service import (
    JobServiceClient,
    JobServiceError,
    PluginSettings,
    recording_input,
    transcribing_input,
)
from testbed.plugin.server_clock import now_ms
from testbed.plugin.spare_jobs import spare_reported

_TIMEOUT_TEXTS = {
    RECORDING: "failed to start recording job: timed out waiting for bot to join call",
    TRANSCRIBING: "failed to start transcriber job: timed out waiting for bot to join call",
}


class RequestRefused(Exception):
    """A host or job request is refused: HTTP status and the plugin's text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class JobLifecycle:
    """Starts, stops and watches the jobs of a call."""

    def __init__(self, calls: Calls, service: JobServiceClient, settings: PluginSettings) -> None:
        self._calls = calls
        self._service = service
        self._settings = settings
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._log = get_logger(component="jobs")
        calls.on_session_ended = self._session_ended

    async def start(self, call: Call | None, user_id: str) -> Job:
        """The host presses record. Raises RequestRefused."""
        if call is None:
            raise RequestRefused(403, "no call ongoing")
        if not self._service.initialized:
            raise RequestRefused(403, "Job service is not initialized")
        if user_id != call.host_id:
            raise RequestRefused(403, "no permissions to record")
        if call.active_job(RECORDING) is not None:
            raise RequestRefused(403, "recording already in progress")
        recording = Job(RECORDING, now_ms())
        call.jobs = {RECORDING: recording}
        self._calls.job_state(call, recording.state())
        await self._create_recording(call, recording)
        if self._settings.transcriptions and recording.active:
            await self._create_transcription(call, recording)
        self._link_jobs(call)
        self._calls.job_state(call, recording.state())
        for job in (recording, call.active_job(TRANSCRIBING)):
            if job is not None and job.active:
                self._start_timer(call, job)
        return recording

    async def stop(self, call: Call | None, user_id: str) -> Job:
        """The host presses stop. Raises RequestRefused."""
        if call is None:
            raise RequestRefused(403, "no call ongoing")
        if user_id != call.host_id:
            raise RequestRefused(403, "no permissions to record")
        recording = call.active_job(RECORDING)
        if recording is None:
            raise RequestRefused(403, "no recording in progress")
        recording.end(now_ms())
        transcription = call.active_job(TRANSCRIBING)
        if transcription is not None:
            self._end(call, transcription)
            self._request_stop(transcription)
        self._request_stop(recording)
        self._calls.job_state(call, recording.state())
        return recording

    def report(
        self, call: Call | None, job_id: str, *, job_type: str, status: str, error: str
    ) -> None:
        """A job's status report (section 5.6); the checks in the plugin's order. Raises RequestRefused."""
        if call is None:
            raise RequestRefused(400, "no call ongoing")
        if job_type not in (RECORDING, TRANSCRIBING):
            raise RequestRefused(400, "invalid job type")
        if (spare := call.spares.get(job_id)) is not None:
            spare_reported(self._calls, call, spare, status=status, error=error)
            return
        job = call.jobs.get(job_type)
        if job is None:
            raise RequestRefused(400, "no job ongoing")
        if job.job_id != job_id:
            raise RequestRefused(400, "invalid job ID")
        if not job.active and status != "failed":
            raise RequestRefused(400, "job has ended")
        if status == "started":
            self._started(call, job)
        elif status == "failed":
            self._fail(call, job, error)
        else:
            raise RequestRefused(400, "unsupported status type")

    async def close(self) -> None:
        """End the timers."""
        timers = list(self._timers.values())
        for timer in timers:
            timer.cancel()
        if timers:
            await asyncio.wait(timers)

    async def _create_recording(self, call: Call, recording: Job) -> None:
        inputs = recording_input(
            self._settings,
            channel_id=call.channel_id,
            post_id=call.post_id,
            job_id=recording.job_id,
            token=self._calls.world.bot.token,
        )
        try:
            recording.service_job_id = await self._service.create(RECORDING, inputs)
        except JobServiceError as error:
            self._end(call, recording, str(error))
            raise RequestRefused(500, str(error)) from error

    async def _create_transcription(self, call: Call, recording: Job) -> None:
        transcription = Job(TRANSCRIBING, now_ms())
        call.jobs[TRANSCRIBING] = transcription
        if self._settings.live_captions:
            call.jobs[CAPTIONING] = Job(CAPTIONING, now_ms())
        self._calls.job_state(call, transcription.state())
        inputs = transcribing_input(
            self._settings,
            channel_id=call.channel_id,
            post_id=call.post_id,
            job_id=transcription.job_id,
            token=self._calls.world.bot.token,
        )
        try:
            transcription.service_job_id = await self._service.create(TRANSCRIBING, inputs)
        except JobServiceError as error:
            # Clients hear that the recording failed, but its row stays open and its job runs on,
            # without timer and links (6.7, 3).
            self._end(call, transcription, str(error))
            failed = {"end_at": now_ms(), "err": str(error)}
            self._calls.job_state(call, recording.state() | failed)
            raise RequestRefused(500, str(error)) from error
        self._calls.job_state(call, transcription.state())

    def _link_jobs(self, call: Call) -> None:
        props = self._calls.archive.posts[call.post_id].props
        recording, transcription = call.jobs[RECORDING], call.jobs.get(TRANSCRIBING)
        tr_id = transcription.job_id if transcription is not None else ""
        props.setdefault("recordings", {})[recording.job_id] = {"tr_id": tr_id}
        if transcription is not None:
            entry = {"rec_id": recording.job_id}
            props.setdefault("transcriptions", {})[transcription.job_id] = entry

    def _start_timer(self, call: Call, job: Job) -> None:
        async def expire() -> None:
            await asyncio.sleep(self._settings.start_timeout_s)
            self._timers.pop(job.job_id, None)
            if job.active and job.start_at == 0:
                self._fail(call, job, _TIMEOUT_TEXTS[job.type])

        self._timers[job.job_id] = asyncio.create_task(expire(), name="job-start-timer")

    def _started(self, call: Call, job: Job) -> None:
        if job.start_at:
            raise RequestRefused(400, "job has already started")
        job.start_at = now_ms()
        timer = self._timers.pop(job.job_id, None)
        if timer is not None:
            timer.cancel()
        self._calls.job_state(call, job.state())
        captioning = call.active_job(CAPTIONING)
        if job.type == TRANSCRIBING and captioning is not None:
            captioning.start_at = job.start_at
            self._calls.job_state(call, captioning.state())

    def _fail(self, call: Call, job: Job, error: str) -> None:
        """One job fails: the sibling is stopped."""
        self._end(call, job, error)
        sibling = call.active_job(TRANSCRIBING if job.type == RECORDING else RECORDING)
        if sibling is not None:
            self._end(call, sibling)
            self._request_stop(sibling)

    def _end(self, call: Call, job: Job, error: str = "") -> None:
        job.end(now_ms(), error)
        self._calls.job_state(call, job.state())
        captioning = call.active_job(CAPTIONING)
        if job.type == TRANSCRIBING and captioning is not None:
            captioning.end(now_ms(), error)
            self._calls.job_state(call, captioning.state())

    def _request_stop(self, job: Job) -> None:
        """`job_stop` carries no channel (trap 2)."""
        bot = self._calls.world.bot
        self._calls.hub.to_user(bot.user_id, "job_stop", {"job_id": job.job_id})

    def _session_ended(self, call: Call, session: Session) -> None:
        if session.user is self._calls.world.bot:
            job = next(
                (j for j in call.jobs.values() if j.bot_session_id == session.session_id), None
            )
            if job is not None and job.active:
                self._fail(call, job, "")
            return
        if not call.people(self._calls.world.bot):
            # Everybody left: the jobs are asked to stop, and their leaving ends them (6.7).
            for type_ in (TRANSCRIBING, RECORDING):
                job = call.active_job(type_)
                if job is not None:
                    self._request_stop(job)

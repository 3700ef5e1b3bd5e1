"""Many jobs in one call, each as if it were alone: what the plugin itself never has.

A spare job is known to nobody but itself: what everybody would be told goes to its own connection only.
"""

from __future__ import annotations

from typing import Any

from testbed.plugin.call import RECORDING, TRANSCRIBING, Call, Job
from testbed.plugin.calls import Calls
from testbed.plugin.server_clock import now_ms


def add_spare(calls: Calls, call: Call, type_: str) -> Job:
    """A job that may join, linked in the call's post. Raises ValueError for an unknown type."""
    if type_ not in (RECORDING, TRANSCRIBING):
        raise ValueError(f"type = {type_!r}: should be {RECORDING} or {TRANSCRIBING}")
    job = Job(type_, now_ms())
    call.spares[job.job_id] = job
    props = calls.archive.posts[call.post_id].props
    for kind in ("recordings", "transcriptions"):
        props.setdefault(kind, {})[job.job_id] = {}
    return job


def spare_joined(calls: Calls, call: Call, job: Job) -> None:
    """A transcriber learns that its recording has begun: that is when it was made, then."""
    if job.type == TRANSCRIBING:
        job.init_at = now_ms()
        _tell_recording(calls, call, job, start_at=job.init_at)


def spare_reported(calls: Calls, call: Call, job: Job, *, status: str, error: str) -> None:
    """As section 5.6 has it, told to the job alone."""
    if status == "started":
        job.start_at = now_ms()
        if job.type == RECORDING:
            _tell_recording(calls, call, job, start_at=job.start_at)
    else:
        job.end(now_ms(), error)


def stop_spare(calls: Calls, call: Call, job: Job) -> None:
    """As when the host presses stop."""
    job.end(now_ms())
    calls.hub.to_user(calls.world.bot.user_id, "job_stop", {"job_id": job.job_id})


def _tell_recording(calls: Calls, call: Call, job: Job, *, start_at: int) -> None:
    session = call.sessions.get(job.bot_session_id)
    if session is None:
        return
    state: dict[str, Any] = Job(RECORDING, job.init_at, start_at=start_at).state()
    event = {"callID": call.channel_id, "channelID": call.channel_id, "jobState": state}
    calls.hub.to_connection(session.connection_id, "call_job_state", event)

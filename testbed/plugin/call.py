"""A call as the plugin keeps it. Pure data and rules: no sockets, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from testbed.plugin.world import User, new_call_id, random_id

RECORDING = "recording"
TRANSCRIBING = "transcribing"
CAPTIONING = "captioning"


@dataclass(slots=True)
class Job:
    """One job of the call (section 6.7)."""

    type: str
    init_at: int
    job_id: str = field(default_factory=random_id)
    """The plugin's own id."""
    start_at: int = 0
    end_at: int = 0
    error: str = ""
    service_job_id: str = ""
    """What the job service called it; never told to the job."""
    bot_session_id: str = ""

    @property
    def active(self) -> bool:
        return self.end_at == 0

    def end(self, now_ms: int, error: str = "") -> None:
        self.end_at, self.error = now_ms, error

    def state(self) -> dict[str, Any]:
        """`jobState` of an event: `err` is always there."""
        return {
            "type": self.type,
            "init_at": self.init_at,
            "start_at": self.start_at,
            "end_at": self.end_at,
            "err": self.error,
        }


@dataclass(slots=True)
class Session:
    """One participant's connection; its id never changes."""

    session_id: str
    connection_id: str
    user: User
    job_id: str = ""
    unmuted: bool = False
    raised_hand: int = 0
    video: bool = False

    def who(self) -> dict[str, Any]:
        """How most events name it."""
        return {"userID": self.user.user_id, "session_id": self.session_id}

    def public(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "user_id": self.user.user_id,
            "unmuted": self.unmuted,
            "raised_hand": self.raised_hand,
            "video": self.video,
        }


@dataclass(slots=True)
class Call:
    """From the first join until the last session left."""

    channel_id: str
    host_id: str
    owner_id: str
    start_at: int
    post_id: str
    sfu_address: str
    """Where the call's SFU is: it stays there, whatever happens (rtcd.md 4.2)."""
    call_id: str = field(default_factory=new_call_id)
    sessions: dict[str, Session] = field(default_factory=dict)
    """By session id, bots included."""
    jobs: dict[str, Job] = field(default_factory=dict)
    """The newest job of each type."""
    spares: dict[str, Job] = field(default_factory=dict)
    """By job id: jobs beyond the one of each type that the plugin knows (testbed.plugin.spare_jobs)."""
    screen_session_id: str = ""
    ended_by_host: bool = False

    def people(self, bot: User) -> list[Session]:
        return [s for s in self.sessions.values() if s.user is not bot]

    def active_job(self, type_: str) -> Job | None:
        job = self.jobs.get(type_)
        return job if job is not None and job.active else None

    def job_by_id(self, job_id: str) -> Job | None:
        spare = self.spares.get(job_id)
        return spare or next((j for j in self.jobs.values() if j.job_id == job_id), None)

    def state(self, bot: User) -> dict[str, Any]:
        """`call_state.call` before it becomes a string (section 3.3): bots are left out."""
        state: dict[str, Any] = {
            "id": self.call_id,
            "start_at": self.start_at,
            "sessions": [session.public() for session in self.people(bot)],
            "thread_id": self.post_id,
            "post_id": self.post_id,
            "screen_sharing_session_id": self.screen_session_id,
            "owner_id": self.owner_id,
            "host_id": self.host_id,
            "dismissed_notification": {},
        }
        for key, type_ in (
            ("recording", RECORDING),
            ("transcription", TRANSCRIBING),
            ("live_captions", CAPTIONING),
        ):
            job = self.active_job(type_)
            if job is not None:
                state[key] = {k: v for k, v in job.state().items() if k != "err" or v}
        return state

    def join_refusal(self, bot: User, user: User, job_id: str) -> str:
        """Why this user may not join now, or empty (section 2.1)."""
        if user is not bot:
            return ""
        if not job_id:
            return "JobID should not be empty for bot connections"
        spare = self.spares.get(job_id)
        if spare is not None and spare.active and spare.start_at == 0:
            return ""
        jobs = [self.active_job(RECORDING), self.active_job(TRANSCRIBING)]
        if not any(jobs):
            return "no job in progress"
        if not any(j is not None and j.job_id == job_id and j.start_at == 0 for j in jobs):
            return "job not in progress or already started"
        return ""

"""From a Job and its pod to an `Observation`: pure. Reasons become sentences with a next step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from offloader.backends.base import Observation, Phase
from offloader.backends.kubernetes.options import (
    ATTEMPT_DEADLINE_S,
    CONTAINER,
    NOTE,
    SALVAGE_LABEL,
    STOPPED,
)

Thing = Mapping[str, Any]

KILLED: Final = 137
TERMINATED: Final = 143
_OWN_END: Final = 142
"""SIGALRM: the job's own timer (docs/job-contract.md 3)."""
_NODE_SILENT_S: Final = 120.0
"""A pod that was to be gone so long ago is on a node that does not answer."""
_NEVER_RUNS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NOT_STARTED: Final = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_GONE_NODE: Final = frozenset({"NodeLost", "NodeShutdown", "Shutdown", "Terminated"})


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a workload in one moment."""

    job: Thing
    pod: Thing | None
    """The newest; also one that is gone, as it was seen last."""
    pod_gone: bool = False


def observe(look: Look, *, now: datetime, start_timeout_s: float) -> Observation:
    """What a workload is. Beyond `start_timeout_s` a job that has not begun counts as failed; nobody waits
    for a salvage or a retranscription, which have longer.

    `now`: by the server's clock, as the times of its objects.
    """
    if _is_attempt(look.job):
        start_timeout_s = ATTEMPT_DEADLINE_S
    note = end_note(look.job)
    if note is not None:
        return note
    if look.pod is not None:
        seen = _of_pod(look, now=now)
        if seen is not None:
            if seen.phase is Phase.STARTING and _age_s(look.job, now) > start_timeout_s:
                return Observation(
                    Phase.EXITED, stopped_at=now, detail=_too_late(look.job, seen.detail)
                )
            return seen
    return _of_job(look.job, now=now, start_timeout_s=start_timeout_s)


def has_begun(pod: Thing) -> bool:
    """Whether the job's container runs or ran: only then it has a log."""
    state = _container(pod).get("state") or {}
    return "running" in state or "terminated" in state


def has_ended(pod: Thing) -> bool:
    """Whether the job's container has run to its end."""
    return "terminated" in (_container(pod).get("state") or {})


def noted(observation: Observation) -> str:
    """An end as the annotation keeps it."""
    stopped = observation.stopped_at
    return json.dumps(
        {
            "exit_code": observation.exit_code,
            "stopped_at": stopped.isoformat() if stopped else None,
            "detail": observation.detail[:1000],
            "lost": observation.phase is Phase.LOST,
        }
    )


def end_note(job: Thing) -> Observation | None:
    """The end that the service has written down; None: it has not."""
    text = (job["metadata"].get("annotations") or {}).get(NOTE)
    if not text:
        return None
    try:
        note = json.loads(text)
        code, stopped = note.get("exit_code"), note.get("stopped_at")
        return Observation(
            Phase.LOST if note.get("lost") else Phase.EXITED,
            exit_code=int(code) if code is not None else None,
            stopped_at=datetime.fromisoformat(stopped) if stopped else None,
            detail=str(note.get("detail") or ""),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None  # somebody else's text


def told_to_stop(job: Thing) -> bool:
    """Whether a stop was asked for before there was a pod."""
    return STOPPED in (job["metadata"].get("annotations") or {})


def parse_time(text: str | None) -> datetime | None:
    """Kubernetes' `2026-11-21T07:16:51Z`."""
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def _of_pod(look: Look, *, now: datetime) -> Observation | None:
    pod = look.pod
    assert pod is not None
    status = pod.get("status") or {}
    state = _container(pod).get("state") or {}
    if "terminated" in state:
        return _of_end(pod, state["terminated"])
    deleted_at = parse_time(pod["metadata"].get("deletionTimestamp"))
    if status.get("phase") == "Failed" or status.get("reason") in ("Evicted", "NodeLost"):
        began = bool(status.get("startTime")) and "waiting" not in state
        return Observation(
            Phase.EXITED,
            exit_code=KILLED if began else None,
            stopped_at=deleted_at or now,
            detail=_pod_reason(pod) or "its pod failed; kubectl describe pod tells why",
        )
    if look.pod_gone:
        if "running" in state:
            return _of_vanished(look.job)
        if deleted_at is not None and told_to_stop(look.job):
            return _never_began(now)
        return None
    if "running" in state:
        if deleted_at is not None and (now - deleted_at).total_seconds() > _NODE_SILENT_S:
            return Observation(Phase.LOST, detail="its node does not answer any more")
        return Observation(Phase.RUNNING)
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in _NEVER_RUNS:
        return Observation(Phase.EXITED, stopped_at=now, detail=_waiting_text(waiting))
    if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
        return Observation(Phase.STARTING, detail=_waiting_text(waiting))
    return Observation(Phase.STARTING, detail=_unscheduled(status))


def _of_vanished(job: Thing) -> Observation | None:
    """It ran when it was seen last, and its pod is gone. The Job may know that it ended well."""
    verdict = _verdict(job)
    if verdict is not None and verdict["type"] == "Complete":
        return None
    if verdict is None and not job["spec"].get("suspend"):
        return Observation(Phase.RUNNING, detail="its pod is gone; its Job does not say why yet")
    return Observation(Phase.LOST, detail="its pod was removed by force: its node may be gone")


def _verdict(job: Thing) -> Mapping[str, Any] | None:
    """The condition by which the Job controller calls the Job over."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            assert isinstance(condition, Mapping)
            return condition
    return None


def _of_end(pod: Thing, terminated: Mapping[str, Any]) -> Observation:
    reason, code = terminated.get("reason") or "", int(terminated["exitCode"])
    stopped_at = parse_time(terminated.get("finishedAt"))
    message = str(terminated.get("message") or "").strip()
    if reason in _NOT_STARTED:
        return Observation(
            Phase.EXITED,
            stopped_at=stopped_at,
            detail=f"the container could not be started: {message}: check the image and its command",
        )
    return Observation(
        Phase.EXITED,
        exit_code=code,
        stopped_at=stopped_at,
        detail=_end_text(pod, code, reason),
    )


def _end_text(pod: Thing, code: int, reason: str) -> str:
    if reason == "OOMKilled":
        limit = _memory_limit(pod)
        needed = f"more memory than its limit of {limit}" if limit else "memory that its node lacks"
        return (
            f"killed (OOMKilled): it needed {needed}; raise limits.memory of its type in "
            "jobs.kubernetes.jobs_resource_requirements"
        )
    if told := _pod_reason(pod):
        return told
    if code == KILLED and pod["metadata"].get("deletionTimestamp"):
        return (
            "killed: it did not end within the grace; raise jobs.stop_grace_s if uploads are slow"
        )
    if code == _OWN_END:
        return (
            "ended by its own timer: longest duration and grace had passed, and nobody stopped it"
        )
    return f"ended by signal {code - 128}" if 128 < code < 160 else ""


def _pod_reason(pod: Thing) -> str:
    """Why Kubernetes itself ended the pod."""
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", str(status.get("message") or "").strip()
    if reason == "Evicted":
        advice = "give its type requests.ephemeral-storage and requests.memory that fit, or a claim"
        return f"evicted by its node: {message or 'it ran short of something'}; {advice}"
    if reason == "DeadlineExceeded" and _is_attempt(pod):
        return (
            "ended by Kubernetes (DeadlineExceeded): it had not done its work within a day; a smaller model, "
            "or a node with more cores or a GPU, is faster"
        )
    if reason == "DeadlineExceeded":
        return (
            "ended by Kubernetes (DeadlineExceeded): longest duration and grace had passed and no service "
            "stopped it; see why the service did not run"
        )
    if reason in ("Preempting", "Preempted"):
        advice = "give job pods a priorityClassName by jobs.kubernetes.pod_template"
        return f"preempted by a pod of higher priority: {message}; {advice}"
    if reason in _GONE_NODE:
        return f"its node was lost or shut down ({reason}): {message}"
    if reason in ("UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "NodeAffinity"):
        return f"its node refused the pod ({reason}): {message}"
    return f"{reason}: {message}" if reason else ""


def image_problem(waiting: Thing) -> str:
    """Why a container that waits cannot have its image; empty: for all that is known it can."""
    return _waiting_text(waiting) if waiting.get("reason") in _IMAGE else ""


def _waiting_text(waiting: Mapping[str, Any]) -> str:
    reason, message = waiting["reason"], str(waiting.get("message") or "").strip()
    if reason in _IMAGE:
        return (
            f"its image cannot be pulled ({reason}): {message}; set jobs.runner_images to an image that the "
            "nodes reach, or imagePullSecrets by jobs.kubernetes.pod_template"
        )
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        return f"its container cannot be made ({reason}): {message}; check the pod template's references"
    return f"{reason}: {message}"


def _unscheduled(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            message = str(condition.get("message") or "").strip()
            return (
                f"no node takes it ({condition.get('reason') or 'Unschedulable'}): {message}; add nodes, or "
                "lower jobs.kubernetes.jobs_resource_requirements, or set tolerations"
            )
    return ""


def _of_job(job: Thing, *, now: datetime, start_timeout_s: float) -> Observation:
    """There is no pod, and nobody has written down how it ended."""
    verdict = _verdict(job)
    if verdict is not None and verdict["type"] == "Complete":
        stopped_at = parse_time(verdict.get("lastTransitionTime"))
        return Observation(Phase.EXITED, exit_code=0, stopped_at=stopped_at)
    if told_to_stop(job):
        return _never_began(now)
    if verdict is not None:
        message = str(verdict.get("message") or "").strip()
        return Observation(
            Phase.LOST,
            stopped_at=parse_time(verdict.get("lastTransitionTime")),
            detail=f"its pod is gone, and no service saw how it ended: {message}",
        )
    if _age_s(job, now) <= start_timeout_s:
        return Observation(Phase.STARTING)
    if job["spec"].get("suspend"):
        return Observation(Phase.EXITED, detail="its Job was made, but never started")
    why = (
        "no pod was made for it: a quota or Pod Security may forbid it; kubectl describe job tells"
    )
    return Observation(Phase.EXITED, stopped_at=now, detail=_too_late(job, why))


def _never_began(now: datetime) -> Observation:
    return Observation(
        Phase.EXITED, exit_code=TERMINATED, stopped_at=now, detail="stopped before it had started"
    )


def _too_late(job: Thing, why: str) -> str:
    limit = "it did not start within jobs.kubernetes.start_timeout_s"
    if _is_attempt(job):
        limit = "it did not start within a day"
    return f"{limit}: {why}" if why else f"{limit}; kubectl describe pod tells why"


def _is_attempt(thing: Thing) -> bool:
    """Whether a Job or its pod is a salvage or a retranscription."""
    return SALVAGE_LABEL in (thing["metadata"].get("labels") or {})


def _age_s(job: Thing, now: datetime) -> float:
    made_at = parse_time(job["metadata"].get("creationTimestamp"))
    return (now - made_at).total_seconds() if made_at else 0.0


def _container(pod: Thing) -> Mapping[str, Any]:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == CONTAINER:
            assert isinstance(status, Mapping)
            return status
    return {}


def _memory_limit(pod: Thing) -> str:
    for container in pod["spec"]["containers"]:
        if container["name"] == CONTAINER:
            return str(((container.get("resources") or {}).get("limits") or {}).get("memory") or "")
    return ""

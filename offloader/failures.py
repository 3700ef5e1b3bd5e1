"""What went wrong with a job, told well: stage, cause in plain words, evidence, and what to do next.

By tables over what the record has: why it ended, its exit code, `detail`, how its publication stands. For the
job's owner and the admin; people in the call get one sentence of the job itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from foundation.clock import rfc3339
from offloader.advice import next_step
from offloader.models import Job, JobType, Publication, StopReason

_CONTENT_STAGE: Final = {
    JobType.RECORDING: "recording",
    JobType.TRANSCRIBING: "transcription",
}
STAGES: Final = (
    *("admission", "launch", "settings", "join", "media", "recording", "transcription"),
    *("upload", "publication", "host"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One job's."""

    stage: str
    """One of `STAGES`: how far it came."""
    cause: str
    """A sentence."""
    evidence: Mapping[str, Any]
    """What shows it: JSON values by name."""
    next_step: str
    """A sentence; empty when there is nothing to do."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    stage: str
    """Empty: whatever stage the job was in."""
    cause: str
    step: str
    """Empty: what the job's end as such asks for."""


def _rule(pattern: str, stage: str, cause: str, step: str = "") -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), stage, cause, step)


_RETRY: Final = "then POST /jobs/{id}/republish"
_REFUSED: Final = (
    _rule(
        "max concurrent jobs",
        "admission",
        "all places for calls are taken",
        "wait for a call to end, or raise jobs.max_concurrent_jobs",
    ),
    _rule(
        "not enough disk",
        "admission",
        "too little disk is free where jobs write",
        "free some, or lower jobs.min_free_disk",
    ),
    _rule(
        "too many unpublished results",
        "admission",
        "as much waits to be published as may",
        "publish or delete some, or raise jobs.unpublished_quota",
    ),
    _rule("drained", "admission", "the service is being drained", "offloader undrain"),
    _rule(
        "shutting down", "admission", "the service is about to end", "try again when it has started"
    ),
)
_LAUNCH: Final = (
    _rule(
        r"no such image|image \S+ is not on the engine|image cannot be pulled|imagepull",
        "launch",
        "its image is not there and could not be fetched",
        "load or pull it on every host that runs jobs; offloader doctor names what is missing",
    ),
    _rule(
        "site URL",
        "launch",
        "the job would not reach the site under this URL",
        "set jobs.site_url_overrides, or jobs.docker.network",
    ),
    _rule(
        "ca_cert_file",
        "launch",
        "the CA file for jobs cannot be read",
        "put jobs.ca_cert_file right: the path, or the right to read it",
    ),
    _rule(
        r"permission denied",
        "launch",
        "the service may not do what starting a job takes",
        "give the service's user the right to it: the engine's socket, the jobs' directory",
    ),
    _rule(
        r"cannot be reached|does not answer|refused|no worker|no host",
        "launch",
        "what runs jobs cannot be reached",
        "see /readyz and offloader doctor, then start it again",
    ),
)
_MEMORY: Final = _rule(
    r"\bmemory\b|\boom",
    "",
    "it was killed because memory ran out",
    "raise jobs.docker.memory or jobs.process.memory_max, or take a smaller speech model",
)
_KILLED: Final = 137
"""Exit code by SIGKILL."""
_KILL: Final = _rule(
    "",
    "",
    "it was killed from outside (SIGKILL), most often because memory ran out",
    "look for `Out of memory` in the kernel's log of its host; if it is there, raise jobs.docker.memory or "
    "jobs.process.memory_max, or take a smaller speech model",
)
_RUN: Final = (
    _rule(
        "allowed_site_urls|no job connects to",
        "join",
        "jobs may not connect to this site's address",
        "if it is meant, name the site in jobs.allowed_site_urls",
    ),
    _rule(
        "LiveKit",
        "join",
        "the call's media is on LiveKit, which jobs cannot join",
        "let calls of this site use an rtcd or the bundled SFU",
    ),
    _rule(
        r"pairs tried|no media|\bICE\b|\bDTLS\b",
        "media",
        "no way to the SFU carried media",
        "open the SFU's port 8443, UDP and TCP, from where jobs run; offloader doctor tries both",
    ),
    _rule(
        r"certificate|\bTLS failed",
        "join",
        "the job does not trust Mattermost's certificate",
        "name the CA in jobs.ca_cert_file",
    ),
    _rule(
        "proxy",
        "join",
        "the proxy on the way to Mattermost refused or did not answer",
        "put jobs.https_proxy and jobs.no_proxy right",
    ),
    _rule(
        "does not resolve",
        "join",
        "the site's name is unknown where the job ran",
        "put DNS right there, or set jobs.extra_hosts or jobs.site_url_overrides",
    ),
    _rule(
        "HTTP 413|larger than",
        "upload",
        "a proxy before Mattermost, or its MaxFileSize, takes less per request",
        f"raise its limit (nginx: client_max_body_size) above 5 MiB; {_RETRY}",
    ),
    _rule(
        r"HTTP 401|no hello",
        "",
        "Mattermost does not accept the job's token: it ends with each restart of the Calls plugin",
        "start a recording on the same site, which brings a fresh token",
    ),
    _rule(
        "HTTP 403",
        "",
        "Mattermost, the Calls plugin or a proxy before them does not permit a request of the job",
        "see Mattermost's log for that moment: the licence, the bot's permissions, the proxy's rules",
    ),
    _rule(
        r"could not be joined",
        "join",
        "the Calls plugin refused the job the call",
        "see the reason in the evidence; start the recording again once that is put right",
    ),
    _rule(
        r"refused with HTTP 5|answered with HTTP",
        "",
        "Mattermost, or a proxy before it, answered with an error",
        "see Mattermost's log for that moment",
    ),
    _rule(
        r"no connection|no answer|WebSocket|not in the call within",
        "join",
        "Mattermost was not reached from where the job ran, or did not answer in time",
        "try the site's URL from there: firewall, proxy, jobs.site_url_overrides; offloader doctor",
    ),
    _rule(
        "no model|EngineLoadError|model.*needed",
        "transcription",
        "the speech model it was told to use is not there",
        "put it into the models' directory, or choose another in the System Console",
    ),
    _MEMORY,
    _rule(
        "disk is full|no space left",
        "",
        "the disk it writes to is full",
        "free some where jobs write, and raise jobs.min_free_disk",
    ),
    _rule(
        "within the grace",
        "",
        "it needed longer to end than it was given, and was killed",
        "raise jobs.stop_grace_s",
    ),
    _rule(
        "value is not valid|parsing failed|failed to parse|should not be empty|cannot be empty",
        "settings",
        "its settings cannot be used",
        "put right what the evidence names, in the plugin's settings",
    ),
    _rule("encoder", "recording", "no video encoder would start"),
)
_ENDS: Final[Mapping[StopReason, tuple[str, str]]] = {
    StopReason.START_FAILED: ("launch", "it could not be started"),
    StopReason.LOST: ("host", "it is gone with its host or engine, and nothing tells how it ended"),
    StopReason.MAX_DURATION: ("", "its longest duration had passed"),
    StopReason.CRASHED: ("", "its process ended with an error"),
}
_PUBLICATION: Final[Mapping[Publication, str]] = {
    Publication.WAITING: "its result is not published yet; it is tried again and again",
    Publication.RUNNING: "its result is not published yet; an attempt is under way",
    Publication.UNPUBLISHABLE: "its result could not be published, and is not tried any more",
}
_START_HINT: Final = "put that right and start the recording again"
_HTTP: Final = re.compile(r"\bHTTP (\d{3})\b")
_PAIRS: Final = re.compile(r"pairs tried: (.+?)(?:; relays: (.+))?$", re.DOTALL)


def failure_of(job: Job, *, said: str = "") -> Failure | None:
    """What went wrong; None of a live job, and of one whose end and result are as they should be.

    `said`: the newest error of its log, where somebody has read it.
    """
    if job.live or not _is_failure(job):
        return None
    started = not _never_began(job)
    publication = job.outbox.publication if job.outbox else Publication.WAITING
    lost = job.stop_reason is StopReason.LOST
    # What ended well, or is lost, may have got over the last error of its log.
    died = not lost and (job.exit_code not in (0, None) or not started)
    text = job.detail or (said if died else "")
    rules = _LAUNCH if job.stop_reason is StopReason.START_FAILED else _RUN
    rule = next((rule for rule in rules if rule.pattern.search(text)), None)
    if rule is None and job.exit_code == _KILLED and job.stop_reason is StopReason.CRASHED:
        rule = _KILL
    stage, cause = _of_end(job, started=started)
    step = next_step(job) or ("" if started else _START_HINT)
    # Exit code 1 says that it was not published; a signal, or being lost, says more.
    if job.unpublished and job.exit_code in (0, 1) and not lost:
        stage, cause = "publication", _PUBLICATION.get(publication, cause)
    if rule is not None:
        stage, cause = rule.stage or stage, rule.cause
        step = rule.step.replace("{id}", job.id) or step
        if job.unpublished and publication is Publication.UNPUBLISHABLE:
            step = next_step(job)
    return Failure(stage, cause, _evidence(job, text=text, said=said), step)


def refusal_of(reason: str) -> Failure:
    """Why a new job was not let in, or not launched."""
    for rule in (*_REFUSED, *_LAUNCH):
        if rule.pattern.search(reason):
            return Failure(rule.stage, rule.cause, {"detail": reason}, rule.step)
    return Failure("launch", "it could not be started", {"detail": reason}, _START_HINT)


def failure_line(failure: Failure, job: Job) -> bytes:
    """As the last line of the job's log, in the form of the lines before it."""
    document = {
        "event": "job.failure",
        "level": "error",
        "time": rfc3339(job.stopped_at) if job.stopped_at else None,
        **failure_document(failure),
    }
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def failure_document(failure: Failure) -> dict[str, Any]:
    """As JSON."""
    return asdict(failure) | {"evidence": dict(failure.evidence)}


def failure_fields(failure: Failure) -> dict[str, str]:
    """For the service's own log, whose line has the evidence already."""
    return {"stage": failure.stage, "cause": failure.cause, "next_step": failure.next_step}


def _is_failure(job: Job) -> bool:
    ended_badly = job.stop_reason in _ENDS or job.exit_code not in (0, None)
    return ended_badly or job.unpublished or _never_began(job)


def _never_began(job: Job) -> bool:
    """It could not start and said so, with exit code 0 (docs/job-contract.md 2)."""
    return bool(job.figures.get("start_failed"))


def _of_end(job: Job, *, started: bool) -> tuple[str, str]:
    here = "publication" if job.post_call else _CONTENT_STAGE[job.spec.type]
    if not started:
        return "join", "it could not take part in the call"
    stage, cause = _ENDS.get(job.stop_reason or StopReason.CRASHED, ("", ""))
    return stage or here, cause or "it ended with an error"


def _evidence(job: Job, *, text: str, said: str) -> dict[str, Any]:
    evidence: dict[str, Any] = {
        "stop_reason": job.stop_reason and job.stop_reason.value,
        "exit_code": job.exit_code,
        "detail": text,
        "log": said if said != text else "",
        "max_rss_bytes": job.figures.get("max_rss_bytes") if job.exit_code else None,
    }
    if status := _HTTP.search(text):
        evidence["http_status"] = int(status[1])
    if pairs := _PAIRS.search(text):
        evidence["detail"] = text[: pairs.start()].rstrip("; ")
        evidence["candidate_pairs"] = pairs[1].split("; ")
        if pairs[2]:
            evidence["relays"] = pairs[2].split("; ")
    if job.unpublished and job.outbox is not None:
        evidence["publication"] = job.outbox.detail
        evidence["publication_attempts"] = job.outbox.attempts
    return {name: value for name, value in evidence.items() if value not in (None, "")}

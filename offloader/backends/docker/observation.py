"""From what the engine says about a container to an `Observation`: pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from offloader.backends.base import Observation, Phase

STALE_START_S: Final = 120.0
"""A container that was made and not started within this time never will be: its launcher is gone."""
KILLED: Final = 137
OWN_END: Final = 128 + signal.SIGALRM
"""The job's own timer (docs/job-contract.md 3)."""
_NOT_RUN: Final = (126, 127)
_INIT_COMPLAINT: Final = b"[FATAL tini ("


def observe(
    container: Mapping[str, Any], *, now: datetime, killed_after_grace: bool, log_tail: bytes
) -> Observation:
    """What a container is by its inspection.

    `killed_after_grace`: this service killed it. `log_tail`: the end of its log, looked at when the exit code
    may be that of the engine's init process, which could not start the program.
    """
    state = container["State"]
    status = state["Status"]
    if status == "created":
        made_at = parse_time(container["Created"])
        if made_at is not None and (now - made_at).total_seconds() > STALE_START_S:
            return Observation(Phase.EXITED, detail="its container was made, but never started")
        return Observation(Phase.STARTING)
    if status in ("running", "paused", "restarting"):
        return Observation(Phase.RUNNING)
    stopped_at = parse_time(state.get("FinishedAt", ""))
    code = int(state["ExitCode"])
    if code in _NOT_RUN and _INIT_COMPLAINT in log_tail:
        complaint = log_tail[log_tail.rindex(_INIT_COMPLAINT) :].split(b"\n")[0]
        text = complaint.partition(b"] ")[2].decode(errors="replace")
        return Observation(Phase.EXITED, stopped_at=stopped_at, detail=text)
    return Observation(
        Phase.EXITED,
        exit_code=code,
        stopped_at=stopped_at,
        detail=_detail(container, code, killed_after_grace=killed_after_grace),
    )


def _detail(container: Mapping[str, Any], code: int, *, killed_after_grace: bool) -> str:
    state = container["State"]
    if state.get("OOMKilled"):
        limit_bytes = int((container.get("HostConfig") or {}).get("Memory") or 0)
        if not limit_bytes:
            return "killed: the host ran out of memory"
        return (
            f"killed: it needed more memory than its limit of {limit_bytes / 2**20:.0f} MiB "
            "(jobs.docker.memory)"
        )
    if killed_after_grace and code == KILLED:
        return "killed: it did not end within the grace"
    if code == OWN_END:
        return (
            "ended by its own timer: longest duration and grace had passed, and nobody stopped it"
        )
    if state.get("Error"):
        return str(state["Error"])
    return f"ended by signal {code - 128}" if 128 < code < 160 else ""


def may_not_have_run(container: Mapping[str, Any]) -> bool:
    """Whether `observe` needs the end of the log."""
    state = container["State"]
    return state["Status"] in ("exited", "dead") and int(state["ExitCode"]) in _NOT_RUN


def was_killed(container: Mapping[str, Any]) -> bool:
    """Whether it ended by SIGKILL, from whoever."""
    state = container["State"]
    return state["Status"] in ("exited", "dead") and int(state["ExitCode"]) == KILLED


def is_running(container: Mapping[str, Any]) -> bool:
    """Whether its program may still run."""
    return container["State"]["Status"] in ("running", "paused", "restarting")


def parse_time(text: str) -> datetime | None:
    """The engine's RFC 3339 times, whose nanoseconds Python does not read; year 1 means never."""
    if not text or text.startswith("0001-"):
        return None
    whole, _, rest = text.removesuffix("Z").partition(".")
    fraction = rest[:6].ljust(6, "0")
    if not fraction.isdigit():
        fraction = "000000"
    return datetime.fromisoformat(f"{whole[:19]}.{fraction}").replace(tzinfo=UTC)

"""What `exit.json` tells of an ended process job (docs/job-contract.md 6), as the service's observation."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from offloader.backends.base import Observation, Phase

MEMORY_TEXTS: Final[Mapping[str, str]] = {
    "limit": "killed for memory: it needed more than jobs.process.memory_max",
    "host": "killed for memory: the host, or what the service may use, had none left",
}
"""By `job_group.killed_for_memory`."""


def exited(document: Mapping[str, Any]) -> Observation:
    """The end of a job whose shim reported it."""
    code = document.get("exit_code")
    number = document.get("signal")
    if number is not None:
        code = 128 + int(number)
    return Observation(
        Phase.EXITED,
        exit_code=code,
        stopped_at=datetime.fromtimestamp(document["stopped_at_s"], UTC),
        detail=_detail(document, number),
        usage={
            name: float(document[name])
            for name in ("total_cpu_s", "max_rss_bytes")
            if name in document
        },
    )


def _detail(document: Mapping[str, Any], number: int | None) -> str:
    if size := document.get("killed_at_rss_bytes"):
        return f"killed at {size / 2**20:.0f} MiB: jobs.process.memory_max is less"
    if number == signal.SIGKILL and (whose := document.get("killed_for_memory")):
        return MEMORY_TEXTS[str(whose)]
    if document.get("killed_after_grace"):
        return "killed: it did not end within the grace"
    if number == signal.SIGALRM:  # docs/job-contract.md 3
        return (
            "ended by its own timer: longest duration and grace had passed, and nobody stopped it"
        )
    if number is not None:
        return f"ended by signal {number}"
    return str(document.get("error") or "")

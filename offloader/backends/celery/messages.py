"""What service and workers say to each other through the broker: names, and a launch in its sealed form.

The broker is not trusted: it sees job IDs, types and labels, and can neither read nor forge anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from offloader.backends.base import LaunchRequest
from offloader.backends.remote.wire import seal, unseal
from offloader.models import JobType
from offloader.store.secret_key import Cipher

LAUNCH_TASK: Final = "calls.launch"
"""Arguments: `job_id` and `sealed`, a `LaunchOrder`."""
CARD_COMMAND: Final = "calls_worker"
"""Remote-control command with a `nonce`; every worker answers with `{"sealed"}`, its `WorkerCard` sealed for
that question."""
_LONGEST_NONCE: Final = 64


def card_context(nonce: object) -> tuple[str, str]:
    """What a card is bound to: the one question that it answers. Whoever plays back an old one in the broker
    cannot make a dead worker look alive."""
    return "worker card", str(nonce)[:_LONGEST_NONCE]


def launch_queue(prefix: str, job_type: JobType, label: str = "") -> str:
    """Where jobs of that type wait for a worker; with `label`, for one that has it."""
    return ".".join(part for part in (prefix, job_type.value, label) if part)


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """What a worker has to know to launch a job."""

    job_type: JobType
    runner: str
    input_data: Mapping[str, Any] = field(repr=False)
    """With its secrets."""
    max_duration_s: int
    claim_url: str
    """Of the replica that launches it."""

    @classmethod
    def of(cls, request: LaunchRequest, *, claim_url: str) -> Self:
        """The order to launch what was asked for."""
        return cls(
            job_type=request.job_type,
            runner=request.runner,
            input_data=request.input_data,
            max_duration_s=request.max_duration_s,
            claim_url=claim_url,
        )

    def request(self, job_id: str) -> LaunchRequest:
        """For the worker's own backend."""
        return LaunchRequest(
            job_id, self.job_type, self.runner, self.input_data, self.max_duration_s
        )

    def sealed(self, cipher: Cipher, job_id: str) -> str:
        """Good for that job only."""
        document = {
            "job_type": self.job_type.value,
            "runner": self.runner,
            "input_data": dict(self.input_data),
            "max_duration_s": self.max_duration_s,
            "claim_url": self.claim_url,
        }
        return seal(cipher, document, context=("launch", job_id))

    @classmethod
    def unsealed(cls, cipher: Cipher, text: str, job_id: str) -> Self | None:
        """None: another key, another job, or damaged."""
        match unseal(cipher, text, context=("launch", job_id)):
            case {
                "job_type": str(job_type),
                "runner": str(runner),
                "input_data": dict(input_data),
                "max_duration_s": int(max_duration_s),
                "claim_url": str(claim_url),
            } if job_type in set(JobType):
                return cls(JobType(job_type), runner, input_data, max_duration_s, claim_url)
        return None

"""A track on offer, as it goes through the broker: nothing of it can be read there but the job's ID."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from offloader.backends.remote.wire import seal, unseal
from offloader.store.secret_key import Cipher

TRANSCRIBE_TASK: Final = "calls.transcribe"
"""Arguments: `job_id` and `sealed`, a `TrackOffer`."""
_QUEUE: Final = "transcribe"


def transcribe_queue(prefix: str, label: str = "") -> str:
    """Where tracks wait for a worker; with `label`, for one that has it."""
    return ".".join(part for part in (prefix, _QUEUE, label) if part)


def transcribe_queues(
    prefix: str, labels: Iterable[str], *, only_labelled: bool
) -> tuple[str, ...]:
    """Those that a worker takes from."""
    unlabelled = () if only_labelled else ("",)
    return tuple(transcribe_queue(prefix, label) for label in (*unlabelled, *labels))


@dataclass(frozen=True, slots=True)
class TrackOffer:
    """Where the sound is; all else is told there."""

    owner_url: str
    """The door of the worker that has it."""
    track: str

    def sealed(self, cipher: Cipher, job_id: str) -> str:
        """Good for that job only."""
        document = {"owner_url": self.owner_url, "track": self.track}
        return seal(cipher, document, context=("transcribe", job_id))

    @classmethod
    def unsealed(cls, cipher: Cipher, text: str, job_id: str) -> Self | None:
        """None: another key, another job, or damaged."""
        match unseal(cipher, text, context=("transcribe", job_id)):
            case {"owner_url": str(owner_url), "track": str(track)}:
                return cls(owner_url, track)
        return None

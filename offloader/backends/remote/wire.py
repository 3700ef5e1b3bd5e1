"""What goes through a worker's door: JSON forms of the port's values, and secrets sealed for one purpose."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import httpx

from offloader.backends.base import Artifact, Observation, Phase
from offloader.models import Workload
from offloader.store.secret_key import MOST_KEYS, Cipher

DOOR_KEY_PURPOSE: Final = "worker door"
"""What is derived for it is the bearer token between the service and its workers."""
_BETWEEN_KEYS: Final = "."
MOST_POLLED: Final = 500
"""Workloads in one request."""


class WireError(ValueError):
    """A document is not of the form it should have; the text names the member."""


def door_key(cipher: Cipher) -> str:
    """The bearer token of every request between the service and its workers: of each secret key, the newest
    first, since the other side may not have them all yet, or any more."""
    return _BETWEEN_KEYS.join(cipher.derived_texts(DOOR_KEY_PURPOSE))


def is_door_key(cipher: Cipher, token: str) -> bool:
    """Whether both sides have a secret key in common. Takes the same time however
    much of a wrong one is right."""
    sent = token.encode("latin-1", "replace").split(_BETWEEN_KEYS.encode())[:MOST_KEYS]
    own = [text.encode() for text in cipher.accepted_texts(DOOR_KEY_PURPOSE)]
    return any(hmac.compare_digest(theirs, ours) for theirs in sent for ours in own)


class DoorKey(httpx.Auth):
    """Shows the door key as it is at the time of each request."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx."""
        request.headers["Authorization"] = f"Bearer {door_key(self._cipher)}"
        yield request


def workload_document(workload: Workload) -> dict[str, Any]:
    """`{"backend", "reference"}`."""
    return {"backend": workload.backend, "reference": dict(workload.reference)}


def workload_of(document: Any) -> Workload:
    """Raises WireError."""
    match document:
        case {"backend": str(backend), "reference": dict(reference)} if all(
            isinstance(key, str) and isinstance(value, str | int)
            for key, value in reference.items()
        ):
            return Workload(backend, reference)
    raise WireError("workload: should be an object with backend and reference")


def observation_document(observation: Observation) -> dict[str, Any]:
    """`{"phase", "exit_code", "stopped_at", "detail", "usage", "unpublished"}`; the time in ISO 8601."""
    stopped_at = observation.stopped_at
    return {
        "phase": observation.phase.value,
        "exit_code": observation.exit_code,
        "stopped_at": stopped_at.isoformat() if stopped_at is not None else None,
        "detail": observation.detail,
        "usage": dict(observation.usage),
        "unpublished": observation.unpublished,
    }


def observation_of(document: Mapping[str, Any]) -> Observation:
    """Raises WireError."""
    try:
        stopped_at = document["stopped_at"]
        return Observation(
            phase=Phase(document["phase"]),
            exit_code=document["exit_code"],
            stopped_at=datetime.fromisoformat(stopped_at) if stopped_at is not None else None,
            detail=document["detail"],
            usage=document["usage"],
            unpublished=document["unpublished"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"observation: {error!r}") from error


def artifact_document(artifact: Artifact) -> dict[str, Any]:
    """`{"name", "size_bytes", "version"}`."""
    return {
        "name": artifact.name,
        "size_bytes": artifact.size_bytes,
        "version": artifact.version,
    }


def artifact_of(document: Mapping[str, Any]) -> Artifact:
    """Raises WireError."""
    try:
        return Artifact(document["name"], document["size_bytes"], document["version"])
    except (KeyError, TypeError) as error:
        raise WireError(f"artifact: {error!r}") from error


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a worker says of itself: at its door, and when all workers are asked over the broker."""

    name: str
    url: str
    version: str
    labels: tuple[str, ...]
    slots: int
    """Places for recordings, and as many for transcriptions."""
    recording: int
    """Places taken by recordings."""
    transcribing: int
    transcribe_slots: int
    """Tracks it transcribes at a time after calls."""
    draining: bool
    free_disk_bytes: int | None
    """None: unknown."""
    usable: str
    """Why no job could be launched there now; empty: one could."""
    only_labelled: bool = False
    """It takes nothing from the queues without a label."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "labels": list(self.labels)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Members that are not known are left out. Raises WireError."""
        kinds: Mapping[str, type | tuple[type, ...]] = {
            **dict.fromkeys(("name", "url", "version", "usable"), str),
            **dict.fromkeys(("slots", "recording", "transcribing", "transcribe_slots"), int),
            **dict.fromkeys(("draining", "only_labelled"), bool),
            "labels": list,
            "free_disk_bytes": (int, type(None)),
        }
        for name, kind in kinds.items():
            if not isinstance(document.get(name), kind):
                raise WireError(f"worker: {name}: {document.get(name)!r}")
        values: dict[str, Any] = {name: document.get(name) for name in kinds}
        return cls(**{**values, "labels": tuple(str(label) for label in document["labels"])})


def seal(cipher: Cipher, document: Mapping[str, Any], *, context: Sequence[str]) -> str:
    """`document` for whoever has one of the keys and names the same `context`, as URL-safe text."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    sealed = cipher.encrypt_each(text, context=context)
    return _BETWEEN_KEYS.join(base64.urlsafe_b64encode(each).decode() for each in sealed)


def unseal(cipher: Cipher, sealed: str, *, context: Sequence[str]) -> dict[str, Any] | None:
    """None: other keys, another context, damaged, or no object."""
    texts = (_opened(cipher, each, context) for each in sealed.split(_BETWEEN_KEYS)[:MOST_KEYS])
    text = next((text for text in texts if text is not None), None)
    try:
        document = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _opened(cipher: Cipher, sealed: str, context: Sequence[str]) -> str | None:
    try:
        data = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeError, binascii.Error):
        return None
    return cipher.decrypt(data, context=context)


def rescue_context(job_id: str, result: str) -> tuple[str, str, str]:
    """What the sealed variables of a rescue are bound to."""
    return "rescue", job_id, result


def variables_context(workload: Workload) -> tuple[str, str]:
    """What the sealed variables of a salvage or retranscription are bound to: that one workload."""
    return "variables", json.dumps(workload_document(workload), sort_keys=True)

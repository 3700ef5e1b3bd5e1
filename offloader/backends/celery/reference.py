"""A celery workload: which worker has the job, and what that worker's own backend calls it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final, Self

from offloader.backends.remote.wire import workload_document, workload_of
from offloader.errors import BackendError
from offloader.models import Workload

BACKEND: Final = "celery"


@dataclass(frozen=True, slots=True)
class Reference:
    """What `Workload.reference` of this backend says."""

    job_id: str
    worker: str
    """Its name."""
    url: str
    """Of its door, when it took the job."""
    local: Workload | None
    """Of its own backend; None: it had not told yet."""

    @classmethod
    def of(cls, workload: Workload) -> Self:
        """Raises BackendError: it is none of this backend."""
        reference = workload.reference
        try:
            text = str(reference["local"])
            local = workload_of(json.loads(text)) if text else None
            job_id, worker, url = (str(reference[name]) for name in ("job_id", "worker", "url"))
            return cls(job_id, worker, url, local)
        except (KeyError, ValueError) as error:
            raise BackendError(f"this is no workload of the celery backend: {error!r}") from error

    def workload(self) -> Workload:
        """As it is stored."""
        local = "" if self.local is None else json.dumps(workload_document(self.local))
        return Workload(
            BACKEND,
            {"job_id": self.job_id, "worker": self.worker, "url": self.url, "local": local},
        )

    def with_local(self, local: Workload) -> Self:
        """The same job, or another workload on its files."""
        return replace(self, local=local)

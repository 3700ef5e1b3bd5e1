"""What the celery backend can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from offloader.backends.celery.messages import launch_queue
from offloader.models import JobType
from offloader.setting_celery import CelerySettings
from offloader.setting_groups import JobsSettings


@dataclass(frozen=True, slots=True)
class CeleryOptions:
    """The settings `jobs.celery.*`, and those of every backend."""

    celery: CelerySettings
    ca_cert_file: Path | None
    """Whom to trust behind the workers' doors, and the broker's TLS."""

    @classmethod
    def of(cls, jobs: JobsSettings) -> Self:
        """What the backend needs of the service's settings."""
        return cls(celery=jobs.celery, ca_cert_file=jobs.network.ca_cert_file)

    def queue_of(self, job_type: JobType) -> str:
        """Where jobs of that type wait for a worker."""
        label = self.celery.labels.get(job_type, "")
        return launch_queue(self.celery.queue_prefix, job_type, label)

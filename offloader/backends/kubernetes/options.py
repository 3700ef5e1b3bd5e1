"""What the kubernetes backend can be told, and the names that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from offloader.backends.own_input import INPUT_VARIABLE, is_own_image_name
from offloader.backends.runner_images import PROGRAMS, RunnerImages
from offloader.backends.surroundings import Surroundings
from offloader.models import JobType, Workload
from offloader.setting_groups import JobsSettings
from offloader.setting_kubernetes import KubernetesSettings

BACKEND: Final = "kubernetes"
APP_LABEL: Final = "app"
APP: Final = "mattermost-calls-offloader"
NAME_LABEL: Final = "job_name"
"""These two are the reference's (job-service.md 4)."""
JOB_LABEL: Final = "calls-offloader.job-id"
TYPE_LABEL: Final = "calls-offloader.job-type"
INSTANCE_LABEL: Final = "calls-offloader.instance"
SALVAGE_LABEL: Final = "calls-offloader.salvage"
ATTEMPT_DEADLINE_S: Final = 24 * 3600
"""For a salvage or a retranscription, to begin and to end: long calls, large models, slow processors."""
CONTAINER: Final = "job"
"""Name of the job's container in its pod, by which a pod template changes it."""
NOTE: Final = "calls-offloader/end"
"""Annotation of a Job whose pod may go: how the job ended, as JSON."""
STOPPED: Final = "calls-offloader/stopped"
"""Annotation of a Job that was told to stop: when."""
LAUNCH: Final = "calls-offloader/launch"
"""Annotation: a random text by which a launch knows its own Job again after an answer was lost."""


_SERVICE_FIRST: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """The settings `jobs.kubernetes.*`, and those of every backend with containers."""

    kubernetes: KubernetesSettings
    images: RunnerImages
    surroundings: Surroundings
    stop_grace_s: float
    retention: timedelta | None
    """After which Kubernetes removes what the service has not: a day after anything that the service itself
    keeps it for. None: never."""
    restricted: bool
    """Jobs run under the restricted Pod Security standard: our images can, the reference's cannot."""

    @classmethod
    def of(cls, jobs: JobsSettings) -> Self:
        """What the backend needs of the service's settings."""
        return cls(
            kubernetes=jobs.kubernetes,
            images=RunnerImages(jobs.runner_images, jobs.use_reference_images),
            surroundings=Surroundings(jobs.network),
            stop_grace_s=jobs.stop_grace_s,
            retention=_longest_kept(jobs),
            restricted=not (jobs.use_reference_images or jobs.kubernetes.privileged),
        )

    @property
    def files_dir(self) -> Path:
        """Here each job has a folder: its log, and with the claim in reach its files below `data`."""
        root = self.kubernetes.claim_dir or self.kubernetes.state_dir / "kubernetes"
        return root / self.kubernetes.instance

    def gives_file(self, image: str) -> bool:
        """Whether a job of that image gets its input as a file: one that goes by our images' name does; into
        others nobody has looked, and they get variables."""
        return self.restricted and is_own_image_name(image)

    def has_host_network(self, job_type: JobType) -> bool:
        """Whether such a job is on its node's network: by the admin's template."""
        template = self.kubernetes.pod_templates.get(job_type, {})
        return bool((template.get("spec") or {}).get("hostNetwork"))

    @property
    def selector(self) -> str:
        """Of everything that is this installation's."""
        return f"{APP_LABEL}={APP},{INSTANCE_LABEL}={self.kubernetes.instance}"


def _longest_kept(jobs: JobsSettings) -> timedelta | None:
    kept = [jobs.failed_jobs_retention, jobs.completed_jobs_retention, jobs.outbox_max_age]
    ends = [each for each in kept if each is not None]
    return max(ends) + _SERVICE_FIRST if len(ends) == len(kept) else None


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a workload is found: the content of `Workload.reference`."""

    job_id: str
    job_type: JobType
    image: str
    salvage: int = 0
    """Number of the attempt; 0: the job itself."""
    file: bool = False
    """It gets its input as a file; jobs of earlier releases did not, and their images know none."""

    @property
    def job_name(self) -> str:
        """Of the Job of the job itself, and of the folder with its files."""
        return f"calls-{PROGRAMS[self.job_type]}-job-{self.job_id}"

    @property
    def name(self) -> str:
        """Of the Job, the Secret and the log folder of this workload."""
        return f"{self.job_name}-salvage-{self.salvage}" if self.salvage else self.job_name

    def workload(self) -> Workload:
        reference: dict[str, str | int] = {
            "job_id": self.job_id,
            "job_type": self.job_type.value,
            "image": self.image,
            "salvage": self.salvage,
            "file": int(self.file),
        }
        return Workload(BACKEND, reference)

    @classmethod
    def of(cls, workload: Workload) -> Reference:
        saved = workload.reference
        return cls(
            job_id=str(saved["job_id"]),
            job_type=JobType(str(saved["job_type"])),
            image=str(saved["image"]),
            salvage=int(saved.get("salvage", 0)),
            file=bool(saved.get("file", 0)),
        )

    @classmethod
    def of_job(cls, job: Mapping[str, Any]) -> Reference:
        """By the labels of a Job. Raises KeyError or ValueError when it is none of ours."""
        labels = job["metadata"]["labels"]
        containers = job["spec"]["template"]["spec"]["containers"]
        own = next(c for c in containers if c["name"] == CONTAINER)
        number = int(labels.get(SALVAGE_LABEL, 0))
        file = any(entry["name"] == INPUT_VARIABLE for entry in own.get("env") or [])
        return cls(labels[JOB_LABEL], JobType(labels[TYPE_LABEL]), own["image"], number, file)

    @classmethod
    def of_folder(cls, name: str) -> Reference | None:
        """By the name of a job's folder; None: it is not one."""
        for job_type, program in PROGRAMS.items():
            job_id = name.removeprefix(f"calls-{program}-job-")
            if job_id != name and job_id and "-salvage-" not in job_id:
                return cls(job_id, job_type, "")
        return None

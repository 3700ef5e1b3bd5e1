"""What the docker backend can be told, and the names that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from offloader.backends.runner_images import PROGRAMS, RunnerImages
from offloader.backends.surroundings import Surroundings
from offloader.models import JobType, Workload
from offloader.setting_groups import DockerSettings, JobsSettings

BACKEND: Final = "docker"
APP_LABEL: Final = "app"
APP: Final = "mattermost-calls-offloader"
"""The reference's label, which admins filter by (job-service.md 4)."""
JOB_LABEL: Final = "calls-offloader.job-id"
TYPE_LABEL: Final = "calls-offloader.job-type"
INSTANCE_LABEL: Final = "calls-offloader.instance"
SALVAGE_LABEL: Final = "calls-offloader.salvage"
RESULT_LABEL: Final = "calls-offloader.result"
"""The name of the directory below /data in which the job leaves its result."""
IMAGE_LABEL: Final = "calls-offloader.image"
"""On volumes: what can look inside when the container is gone."""
NETWORK_OF_THE_ENGINE: Final = "bridge"


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """The settings `jobs.docker.*`, and those of every backend with containers."""

    docker: DockerSettings
    images: RunnerImages
    surroundings: Surroundings
    stop_grace_s: float
    """What the engine itself leaves a job when it is told to stop it, by `docker stop` for example."""

    @classmethod
    def of(cls, jobs: JobsSettings) -> Self:
        """What the backend needs of the service's settings."""
        return cls(
            docker=jobs.docker,
            images=RunnerImages(jobs.runner_images, jobs.use_reference_images),
            surroundings=Surroundings(jobs.network),
            stop_grace_s=jobs.stop_grace_s,
        )

    @property
    def network_mode(self) -> str:
        return self.docker.network or NETWORK_OF_THE_ENGINE


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a workload is found: the content of `Workload.reference`."""

    job_id: str
    job_type: JobType
    image: str
    result: str = ""
    """Directory below /data that holds the job's result; empty: any."""
    salvage: int = 0
    """Number of the attempt; 0: the job itself."""

    @property
    def volume(self) -> str:
        """Also the name of the job's own container."""
        return f"calls-{PROGRAMS[self.job_type]}-{self.job_id}"

    @property
    def container(self) -> str:
        return f"{self.volume}-salvage-{self.salvage}" if self.salvage else self.volume

    def workload(self) -> Workload:
        reference: dict[str, str | int] = {
            "job_id": self.job_id,
            "job_type": self.job_type.value,
            "image": self.image,
            "result": self.result,
            "salvage": self.salvage,
        }
        return Workload(BACKEND, reference)

    @classmethod
    def of(cls, workload: Workload) -> Reference:
        saved = workload.reference
        return cls(
            job_id=str(saved["job_id"]),
            job_type=JobType(str(saved["job_type"])),
            image=str(saved["image"]),
            result=str(saved.get("result", "")),
            salvage=int(saved.get("salvage", 0)),
        )

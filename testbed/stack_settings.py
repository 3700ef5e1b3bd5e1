"""What a run of the whole product is told, and what its servers are told then."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.ports import HOST, Ports

IMAGES: Final = tuple(
    f"calls-native-offloader/calls-{program}:v1.0.0" for program in ("recorder", "transcriber")
)
"""What `make images` builds for jobs."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What to start, where."""

    work_dir: Path
    """Empty; databases, jobs, the stand-in's data."""
    log_dir: Path
    models_dir: Path
    """One directory per model size."""
    ports: Ports = field(default_factory=Ports)
    backend: str = "process"
    """How the offloader runs jobs: `process`, or `docker` with the images of this release."""
    tls: bool = False
    """The site is reached by https and wss, with a certificate of a private CA."""

    @property
    def site_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.ports.plugin}"

    @property
    def ca_file(self) -> Path | None:
        """The private CA."""
        return self.work_dir / "tls" / "ca.pem" if self.tls else None

    @property
    def instance(self) -> str:
        """What tells this run's containers from others on the engine."""
        return f"demo-{self.ports.offloader}-{os.getpid()}"

    @property
    def jobs_dir(self) -> Path:
        return self.work_dir / "jobs"

    @property
    def world_file(self) -> Path:
        return self.work_dir / "stand-in" / "world.json"


def sfu_environment(settings: StackSettings) -> dict[str, str]:
    """What the SFU is told."""
    return {
        "RTCD_API_HTTP_LISTENADDRESS": f"{HOST}:{settings.ports.sfu}",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "RTCD_RTC_ICEADDRESSUDP": HOST,
        "RTCD_RTC_ICEPORTUDP": str(settings.ports.media),
        "RTCD_STORE_DATASOURCE": str(settings.work_dir / "sfu"),
        "RTCD_LOGGER_CONSOLEJSON": "true",
        "RTCD_LOGGER_ENABLEFILE": "false",
    }


def offloader_environment(settings: StackSettings) -> dict[str, str]:
    """What the job service is told."""
    jobs = {
        "JOBS_PROCESS_JOBSDIR": str(settings.jobs_dir),
        "JOBS_PROCESS_MODELSDIR": str(settings.models_dir),
    }
    if settings.backend == "docker":
        jobs = {
            "DOCKER_NETWORK": "host",
            "JOBS_DOCKER_INSTANCE": settings.instance,
            "JOBS_DOCKER_MODELSDIR": str(settings.models_dir),
            "JOBS_DOCKER_PULLPOLICY": "never",
        }
    if settings.tls:
        jobs["JOBS_CACERTFILE"] = str(settings.ca_file)
    return {
        **jobs,
        "API_HTTP_LISTENADDRESS": f"{HOST}:{settings.ports.offloader}",
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "STORE_DATASOURCE": str(settings.work_dir / "offloader.db"),
        "JOBS_APITYPE": settings.backend,
        "LOGGER_CONSOLEJSON": "true",
        "LOGGER_ENABLEFILE": "false",
    }

"""What a run of the whole product is told, and what its servers are told then."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from testbed.ports import HOST, Ports

IMAGES: Final = tuple(
    f"calls-native-offloader/calls-{program}:v1.0.0" for program in ("recorder", "transcriber")
)
"""What `make images` builds for jobs."""

WORKER_IMAGE: Final = "calls-native-offloader/calls-worker:v1.0.0"
"""What it builds for hosts that run jobs as processes."""


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
    """How the offloader runs jobs: `process`, `docker` with the images of this release, or `celery` with a
    Redis and two workers that run them as processes."""
    rtcd_url: str = field(default="", repr=False)
    """`http(s)://[client id:auth key@]host:port` of an SFU that runs already; empty: the bundled one."""
    host: str = HOST
    """The IPv4 address of this machine at which the site and the SFU's media are reached; all else is on
    loopback."""
    real_models: bool = False
    """`models_dir` has others than the bundled one: the stand-in's page tells."""
    tls: bool = False
    """The site is reached by https and wss, with a certificate of a private CA."""
    quality: str = "medium"
    """The recordings' profile (calls-plugin.md 6.3)."""
    max_recording_minutes: int = 60
    """The plugin's default."""
    transcriptions: bool = True
    """A recording starts a transcription too."""
    plugin_environment: Mapping[str, str] = field(default_factory=dict)
    """`MM_CALLS_RECORDER_<X>` and the like, as an admin sets them (calls-plugin.md 6.5)."""
    offloader_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the job service is told besides."""
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """First and last names of people of the stand-in, by username; theirs otherwise."""
    image_registry: str = ""
    """Of the runners' names; empty: the stand-in's default."""
    images: Sequence[str] = IMAGES
    """Those that have to be on the engine."""
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """Of job service and workers."""

    @property
    def site_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.ports.plugin}"

    @property
    def sfu_url(self) -> str:
        """Where the SFU's API is, with credentials if the caller gave some."""
        return self.rtcd_url or f"http://{HOST}:{self.ports.sfu}"

    @property
    def ca_file(self) -> Path | None:
        """The private CA."""
        return self.work_dir / "tls" / "ca.pem" if self.tls else None

    @property
    def instance(self) -> str:
        """What tells this run's containers from others on the engine."""
        return f"demo-{self.ports.offloader}-{os.getpid()}"

    @property
    def admin_socket(self) -> Path:
        """Through which everybody is the job service's admin; beside its database."""
        return self.work_dir / "offloader.sock"

    @property
    def jobs_dir(self) -> Path:
        return self.work_dir / "jobs"

    @property
    def has_workers(self) -> bool:
        return self.backend == "celery"

    @property
    def workers(self) -> Mapping[str, int]:
        """The names of workers, and where their doors are."""
        if not self.has_workers:
            return {}
        return {"worker-1": self.ports.worker, "worker-2": self.ports.second_worker}

    @property
    def jobs_dirs(self) -> Sequence[Path]:
        """Wherever jobs that are processes may have their directories."""
        return [self.work_dir / name / "jobs" for name in self.workers] or [self.jobs_dir]

    @property
    def world_file(self) -> Path:
        return self.work_dir / "stand-in" / "world.json"


def without_credentials(url: str) -> str:
    """For people and logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def sfu_environment(settings: StackSettings) -> dict[str, str]:
    """What the SFU is told."""
    return {
        "RTCD_API_HTTP_LISTENADDRESS": f"{HOST}:{settings.ports.sfu}",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "RTCD_RTC_ICEADDRESSUDP": settings.host,
        "RTCD_RTC_ICEADDRESSTCP": settings.host,
        "RTCD_RTC_ICEPORTUDP": str(settings.ports.media),
        "RTCD_RTC_ICEPORTTCP": str(settings.ports.media),
        "RTCD_STORE_DATASOURCE": str(settings.work_dir / "sfu"),
        "RTCD_DRAIN_TIMEOUTSECONDS": "0",  # a demo that ends does not wait for its bots
        "RTCD_LOGGER_CONSOLEJSON": "true",
        "RTCD_LOGGER_ENABLEFILE": "false",
    }


def worker_environment(settings: StackSettings, name: str) -> dict[str, str]:
    """What the worker `name` is told: the broker, the key, and how to run jobs; of no database."""
    directory = settings.work_dir / name
    trust = {"JOBS_CACERTFILE": str(settings.ca_file)} if settings.tls else {}
    return {
        **trust,
        "JOBS_CELERY_BROKERURL": _broker_url(settings),
        "OFFLOADER_SECRET_KEY": settings.secret_key,
        "WORKER_NAME": name,
        "WORKER_LISTENADDRESS": f"{HOST}:{settings.workers[name]}",
        "WORKER_SLOTS": "1",
        "JOBS_CELERY_TRANSCRIBESTAGE": "true",  # the tracks of a call go to both workers
        "JOBS_PROCESS_JOBSDIR": str(directory / "jobs"),
        "JOBS_PROCESS_MODELSDIR": str(settings.models_dir),
        "STATE_DIRECTORY": str(directory),
        "LOGGER_CONSOLEJSON": "true",
        "LOGGER_ENABLEFILE": "false",
    }


def _broker_url(settings: StackSettings) -> str:
    return f"redis://{HOST}:{settings.ports.broker}/0"


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
    if settings.has_workers:
        jobs = {
            "JOBS_CELERY_BROKERURL": _broker_url(settings),
            "OFFLOADER_SECRET_KEY": settings.secret_key,
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
        **settings.offloader_environment,
    }


def plugin_arguments(settings: StackSettings) -> list[str]:
    """What the stand-in is told by its command line, which everybody can read."""
    ports = settings.ports
    arguments = ["--listen", f"{settings.host}:{ports.plugin}"]
    arguments += ["--job-service-url", f"http://{HOST}:{ports.offloader}"]
    arguments += ["--data-dir", str(settings.world_file.parent)]
    arguments += ["--quality", settings.quality]
    arguments += ["--max-recording-minutes", str(settings.max_recording_minutes)]
    if not settings.transcriptions:
        arguments.append("--no-transcriptions")
    if settings.image_registry:
        arguments += ["--image-registry", settings.image_registry]
    if settings.real_models:
        arguments.append("--real-models")
    if settings.tls:
        tls = settings.work_dir / "tls"
        arguments += ["--tls-cert", str(tls / "site.pem"), "--tls-key", str(tls / "site.key")]
    return arguments


def plugin_environment(settings: StackSettings) -> dict[str, str]:
    """What the stand-in is told as the plugin itself is, credentials among it."""
    return {**settings.plugin_environment, "MM_CALLS_RTCD_SERVICE_URL": settings.sfu_url}

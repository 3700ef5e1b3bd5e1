"""The settings as frozen groups, validated. `settings.py` makes them, `setting_keys.py` explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from clientauth.registration_limits import RegistrationLimits
from clientauth.self_registration import Network, SelfRegistration
from offloader.client_limits import ClientLimits
from offloader.setting_audit import AuditSettings
from offloader.setting_celery import CelerySettings, WorkerSettings
from offloader.setting_kubernetes import KubernetesSettings
from offloader.setting_values import normal_site_url
from offloader.setting_watching import NotifySettings, TracingSettings


@dataclass(frozen=True, slots=True)
class TlsSettings:
    enable: bool
    cert_file: str
    cert_key: str


@dataclass(frozen=True, slots=True)
class ApiSettings:
    listen_address: str
    tls: TlsSettings
    enable_admin: bool
    admin_secret_key: str = field(repr=False)
    allow_self_registration: bool
    expiration_minutes: int
    admin_page: bool
    """Where there is an admin's key: the page at / for browsers."""
    admin_show_content: bool
    """The page gives out files of jobs."""
    admin_socket: Path | None
    """None: there is none."""
    admin_socket_wanted: bool
    """Somebody asked for it; otherwise a place where it cannot be is only a warning."""
    trusted_proxies: tuple[Network, ...] = ()
    """From whom `X-Forwarded-For` and `X-Forwarded-Proto` count."""
    self_registration: SelfRegistration = field(default_factory=SelfRegistration)
    """Whose is accepted, where it is at all."""
    registration_limits: RegistrationLimits = field(default_factory=RegistrationLimits)
    """How many are accepted, of whoever is not the admin."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """The process backend's own group."""

    jobs_dir: Path
    models_dir: str
    recorder_command: tuple[str, ...]
    transcriber_command: tuple[str, ...]
    stop_grace_s: float
    log_max_bytes: int
    memory_max_bytes: int = 0
    """0: no limit."""
    cpus: float = 0.0
    """0: no limit."""
    pids: int = 1024
    user: str = ""
    """Whom jobs run as; empty: the service's own user."""


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """The docker backend's own group."""

    output_logs: bool
    network: str
    """Network mode; empty: the engine's default bridge."""
    host: str
    """Empty: as the docker SDK finds it."""
    memory_bytes: int | None
    """None: no limit."""
    cpus: float | None
    """None: no limit."""
    pids: int
    log_max_bytes: int
    pull_policy: str
    """One of `PULL_POLICIES`."""
    models_dir: str = ""
    """Directory on the engine's host, or a volume's name, mounted at /models; empty: what the image has."""
    instance: str = "default"
    """Services that share an engine and no store must differ in it; replicas must not."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What jobs of every backend are told about the network they live in."""

    ca_cert_file: Path | None
    http_proxy: str = field(repr=False)
    """May hold a password. Empty: none."""
    https_proxy: str = field(repr=False)
    no_proxy: str
    site_url_overrides: Mapping[str, str]
    """Both sides as `normal_site_url` writes them."""
    allowed_sites: frozenset[str]
    """As `normal_site_url` writes them; empty: any but forbidden addresses."""
    extra_hosts: tuple[tuple[str, str], ...]
    """Name and address."""
    copies_url: str
    """Where jobs copy their files to; empty: nowhere."""
    bucket_variables: Mapping[str, str] = field(repr=False)
    """The service's own AWS_* variables, with secrets."""
    tracing_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What programs of ours are told of a collector of traces; empty: there is none."""
    allowed_speech: frozenset[str] = frozenset()
    """Servers of speech services that a client may name, as `normal_site_url` writes them."""

    def names_site(self, site_url: str) -> bool:
        """Whether the admin has named it, here or in an override: then it may have any address."""
        try:
            normal = normal_site_url(site_url)
        except ValueError:
            return False
        return normal in self.allowed_sites or normal in self.site_url_overrides

    def site_url_for_jobs(self, site_url: str) -> str:
        """Under which URL a job reaches the site that the plugin calls `site_url`."""
        try:
            return self.site_url_overrides.get(normal_site_url(site_url), site_url)
        except ValueError:
            return site_url  # the job will refuse it with the wire's own text


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that a client may ask of a job."""

    duration_s: int
    width_px: int
    height_px: int
    frame_rate: int


@dataclass(frozen=True, slots=True)
class JobsSettings:
    api_type: str
    max_concurrent_jobs: int | None
    """`auto` is a number here. None: the backend alone knows how many places there are."""
    failed_jobs_retention: timedelta | None
    """None: for ever."""
    completed_jobs_retention: timedelta | None
    """None: for ever."""
    keep_published: timedelta
    """After the publication."""
    unpublished_quota_bytes: int | None
    """None: any."""
    admission_wait_s: float
    min_free_disk_bytes: int | None
    """None: not looked at."""
    post_call_slots: int
    outbox_max_age: timedelta | None
    """None: for ever."""
    stop_grace_s: float
    image_registry: str
    runner_images: Mapping[str, str]
    """Runner name, `*` for any text, to image; what the admin set."""
    use_reference_images: bool
    check_runners: bool
    """Off when DEV_MODE or TEST_MODE is `true`."""
    ceilings: Ceilings
    network: NetworkSettings
    docker: DockerSettings
    kubernetes: KubernetesSettings
    celery: CelerySettings
    process: ProcessSettings
    client_limits: ClientLimits = field(default_factory=ClientLimits)


@dataclass(frozen=True, slots=True)
class LoggerSettings:
    enable_console: bool
    console_json: bool
    console_level: str
    enable_file: bool
    file_json: bool
    file_level: str
    file_location: str
    file_max_bytes: int
    file_max_age: timedelta | None
    """None: by size alone."""
    file_keep: int
    file_wanted: bool
    """Somebody asked for the file; otherwise a place that cannot be written is only a warning."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the service can be told, validated."""

    api: ApiSettings
    data_source: str
    jobs: JobsSettings
    worker: WorkerSettings
    logger: LoggerSettings
    warnings: tuple[str, ...]
    """What the admin should know: unknown keys by name, a missing file."""
    tracing: TracingSettings = field(default_factory=TracingSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    audit: AuditSettings = field(default_factory=AuditSettings)

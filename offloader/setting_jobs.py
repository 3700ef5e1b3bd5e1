"""Reads what `jobs.*` says: places, retention, images, the way to the sites, the backends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from offloader.capacity_auto import calls_that_fit, read_machine
from offloader.client_limits import ClientLimits
from offloader.setting_backend_keys import PULL_POLICIES
from offloader.setting_celery import read_celery
from offloader.setting_groups import (
    Ceilings,
    DockerSettings,
    JobsSettings,
    NetworkSettings,
    ProcessSettings,
)
from offloader.setting_keys import API_TYPES
from offloader.setting_kubernetes import read_kubernetes
from offloader.setting_reader import Reader
from offloader.setting_values import (
    engine_without_tls,
    parse_allowed_sites,
    parse_copies_url,
    parse_extra_hosts,
    parse_keep,
    parse_models_place,
    parse_proxy,
    parse_site_urls,
)
from offloader.setting_watching import TracingSettings


def read_jobs(
    reader: Reader, environ: Mapping[str, str], tracing: TracingSettings, *, state_dir: Path
) -> JobsSettings:
    """`environ`: of the service. `state_dir`: where it keeps what is its own."""
    if reader["jobs.api_type"] not in API_TYPES:
        text = f"invalid APIType value: {reader['jobs.api_type']}: should be one of {' '.join(API_TYPES)}"
        reader.complain("jobs.api_type", text)
    post_call_slots = int(reader.at_least("jobs.post_call_slots", 0))
    return JobsSettings(
        api_type=reader["jobs.api_type"],
        max_concurrent_jobs=_max_concurrent_jobs(reader, post_call_slots),
        failed_jobs_retention=reader.retention("jobs.failed_jobs_retention_time"),
        completed_jobs_retention=reader.retention("jobs.completed_jobs_retention_time"),
        keep_published=reader.parsed("jobs.keep_published", parse_keep, stand_in=timedelta(0)),
        unpublished_quota_bytes=reader.size("jobs.unpublished_quota") or None,
        admission_wait_s=reader.at_least("jobs.admission_wait_s", 0),
        min_free_disk_bytes=reader.size("jobs.min_free_disk") or None,
        post_call_slots=post_call_slots,
        outbox_max_age=reader.retention("jobs.outbox_max_age"),
        stop_grace_s=_stop_grace(reader),
        image_registry=reader["jobs.image_registry"],
        runner_images=_texts(reader, "jobs.runner_images"),
        use_reference_images=reader["jobs.use_reference_images"],
        check_runners="true" not in (environ.get("DEV_MODE"), environ.get("TEST_MODE")),
        ceilings=_ceilings(reader),
        network=_network(reader, environ, tracing),
        docker=_docker(reader, environ),
        kubernetes=read_kubernetes(
            reader,
            wanted=reader["jobs.api_type"] == "kubernetes",
            state_dir=state_dir,
        ),
        celery=read_celery(reader, wanted=reader["jobs.api_type"] == "celery"),
        process=_process(reader),
        client_limits=ClientLimits(
            slots=int(reader.at_least("jobs.client_limits.slots", 0)) or None,
            queue=int(reader.at_least("jobs.client_limits.queue", 0)) or None,
            disk_bytes=reader.size("jobs.client_limits.disk") or None,
            event_streams=int(reader.at_least("jobs.client_limits.event_streams", 0)) or None,
        ),
    )


def _ceilings(reader: Reader) -> Ceilings:
    return Ceilings(
        duration_s=reader.whole("jobs.max_duration_s", 60, 2**31 - 1),
        width_px=reader.whole("jobs.max_width_px", 1280, 3840),
        height_px=reader.whole("jobs.max_height_px", 720, 2160),
        frame_rate=reader.whole("jobs.max_frame_rate", 10, 60),
    )


def _max_concurrent_jobs(reader: Reader, post_call_slots: int) -> int | None:
    value = reader["jobs.max_concurrent_jobs"]
    elsewhere = reader["jobs.api_type"] == "celery"
    if elsewhere and (value == "auto" or not reader.given("jobs.max_concurrent_jobs")):
        return None  # the workers' places count
    if value == "auto":
        own_limits = reader["jobs.api_type"] == "process"
        return calls_that_fit(read_machine(own_limits=own_limits), post_call_slots=post_call_slots)
    if value <= 0:
        text = "invalid MaxConcurrentJobs value: should be greater than zero"
        reader.complain("jobs.max_concurrent_jobs", text)
    return int(value)


def _stop_grace(reader: Reader) -> float:
    """Under its name, else under the former one."""
    name, former = "jobs.stop_grace_s", "jobs.process.stop_grace_s"
    renamed = reader.given(name) or not reader.given(former)
    return reader.at_least(name if renamed else former, 0)


def _copies_url(reader: Reader) -> str:
    url = reader.parsed("jobs.copies_url", parse_copies_url, stand_in="")
    if url.startswith("file:") and reader["jobs.api_type"] == "docker":
        reader.complain(
            "jobs.copies_url",
            f'"{url}": containers see no directory of the host: should be s3://BUCKET[/PREFIX]',
        )
    return url


def _network(
    reader: Reader, environ: Mapping[str, str], tracing: TracingSettings
) -> NetworkSettings:
    ca_cert_file = reader["jobs.ca_cert_file"]
    none: dict[str, str] = {}
    overrides = reader.parsed("jobs.site_url_overrides", parse_site_urls, stand_in=none)
    return NetworkSettings(
        ca_cert_file=Path(ca_cert_file).absolute() if ca_cert_file else None,
        http_proxy=reader.parsed("jobs.http_proxy", parse_proxy, stand_in=""),
        https_proxy=reader.parsed("jobs.https_proxy", parse_proxy, stand_in=""),
        no_proxy=reader["jobs.no_proxy"],
        site_url_overrides=MappingProxyType(overrides),
        allowed_sites=reader.parsed(
            "jobs.allowed_site_urls", parse_allowed_sites, stand_in=frozenset()
        ),
        extra_hosts=reader.parsed("jobs.extra_hosts", parse_extra_hosts, stand_in=()),
        copies_url=_copies_url(reader),
        bucket_variables={k: v for k, v in environ.items() if k.startswith("AWS_")},
        tracing_variables=tracing.job_variables,
        allowed_speech=reader.parsed(
            "jobs.allowed_speech_urls", parse_allowed_sites, stand_in=frozenset()
        ),
    )


def _docker(reader: Reader, environ: Mapping[str, str]) -> DockerSettings:
    wanted = "docker" in (reader["jobs.api_type"], reader["worker.api_type"])
    plain = engine_without_tls(reader["jobs.docker.host"], environ)
    if wanted and plain and not reader["jobs.docker.allow_plain_tcp"]:
        text = (
            "without TLS whoever reaches that port is root on the engine's host: set DOCKER_TLS_VERIFY=1 and "
            "DOCKER_CERT_PATH, use unix:// or ssh://, or set jobs.docker.allow_plain_tcp = true"
        )
        reader.complain("jobs.docker.host", text)
    policy = reader["jobs.docker.pull_policy"]
    if policy not in PULL_POLICIES:
        text = f'"{policy}": should be one of {" ".join(PULL_POLICIES)}'
        reader.complain("jobs.docker.pull_policy", text)
    return DockerSettings(
        output_logs=reader["jobs.docker.output_logs"],
        network=reader["jobs.docker.network"],
        host=reader["jobs.docker.host"],
        memory_bytes=reader.size("jobs.docker.memory", least=256 << 20, or_zero=True) or None,
        cpus=reader.at_least("jobs.docker.cpus", 0) or None,
        pids=int(reader.at_least("jobs.docker.pids", 64)),
        log_max_bytes=reader.size("jobs.docker.log_max_size", least=64 << 10),
        pull_policy=policy,
        models_dir=reader.parsed("jobs.docker.models_dir", parse_models_place, stand_in=""),
        instance=reader.text("jobs.docker.instance", "Instance"),
    )


def _process(reader: Reader) -> ProcessSettings:
    models_dir = reader["jobs.process.models_dir"]
    return ProcessSettings(
        jobs_dir=Path(reader.text("jobs.process.jobs_dir", "JobsDir")).absolute(),
        models_dir=str(Path(models_dir).absolute()) if models_dir else "",
        recorder_command=_command(reader, "jobs.process.recorder_command"),
        transcriber_command=_command(reader, "jobs.process.transcriber_command"),
        stop_grace_s=_stop_grace(reader),
        log_max_bytes=int(reader.at_least("jobs.process.log_max_bytes", 64 << 10, below=2**40)),
        memory_max_bytes=reader.size("jobs.process.memory_max", least=64 << 20, or_zero=True),
        cpus=reader.at_least("jobs.process.cpus", 0),
        pids=int(reader.at_least("jobs.process.pids", 64)),
        user=reader["jobs.process.user"],
    )


def _command(reader: Reader, name: str) -> tuple[str, ...]:
    command = tuple(reader[name])
    if not command or not all(isinstance(part, str) and part for part in command):
        reader.complain(name, "should be a list of texts: the program, then its arguments")
    return command


def _texts(reader: Reader, name: str) -> Mapping[str, str]:
    table = reader[name]
    if not all(isinstance(value, str) and value for value in table.values()):
        reader.complain(name, "should be a table of texts that are not empty")
    return MappingProxyType(dict(table))

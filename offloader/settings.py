"""The settings of the job service (job-service.md 3): keys, environment names, defaults, validation.

`load_settings` reads the layers over the table of `setting_keys.py` and returns frozen groups.
Environment overrides the file, defaults apply always.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from foundation.layered_config import ConfigError, LayeredConfig, Problem, read_layers
from offloader.capacity_auto import calls_that_fit, read_machine
from offloader.setting_groups import (
    ApiSettings,
    DockerSettings,
    JobsSettings,
    LoggerSettings,
    NetworkSettings,
    ProcessSettings,
    Settings,
    TlsSettings,
)
from offloader.setting_keys import API_TYPES, KEYS, LOG_LEVELS, PULL_POLICIES
from offloader.setting_reader import Reader
from offloader.setting_values import (
    parse_extra_hosts,
    parse_proxy,
    parse_retention,
    parse_site_urls,
    parse_size,
    split_address,
)

__all__ = [
    "ApiSettings",
    "DockerSettings",
    "JobsSettings",
    "LoggerSettings",
    "NetworkSettings",
    "ProcessSettings",
    "Reading",
    "Settings",
    "TlsSettings",
    "default_state_dir",
    "load_settings",
    "read_settings",
]

_SWEPT: Final = (Path("/tmp"), Path("/var/tmp"), Path("/run"), Path("/dev/shm"))
"""Emptied by the system, at the next start at the latest."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: settings, and every problem. The settings are of use only without problems."""

    settings: Settings
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]
    values: Mapping[str, Any]
    """Every key, with the defaults that depend on the machine."""
    sources: Mapping[str, str]
    """`default`, `file` or the variable's name."""
    file_found: bool


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read defaults, `path` and `environ`; a missing file means defaults.

    Raises:
        ConfigError: with the key, where its value came from and the text of job-service.md 3.
    """
    reading = read_settings(path, environ)
    if reading.problems:
        raise ConfigError(str(reading.problems[0]))
    return reading.settings


def read_settings(path: Path, environ: Mapping[str, str]) -> Reading:
    """Like `load_settings`, but tells of every problem there is."""
    config = read_layers(KEYS, path=path, environ=environ)
    defaults = _machine_defaults(config, environ)
    reader = Reader(config, path, defaults=defaults)
    settings = Settings(
        api=_api(reader),
        data_source=reader.text("store.data_source", "DataSource"),
        jobs=_jobs(reader, environ),
        logger=_logger(reader),
        warnings=_warnings(path, config, environ, data_source=reader["store.data_source"]),
    )
    return Reading(
        settings=settings,
        problems=tuple(reader.problems),
        unknown=config.unknown,
        values=MappingProxyType({name: reader[name] for name in KEYS}),
        sources=config.sources,
        file_found=config.file_found,
    )


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """A directory that outlives reboots and tmp cleaners.

    systemd's `StateDirectory=`, else /var/lib/calls-offloader for root, else the user's XDG state home.
    """
    if named := environ.get("STATE_DIRECTORY"):
        return Path(named.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/calls-offloader")
    home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "calls-offloader"


def _machine_defaults(config: LayeredConfig, environ: Mapping[str, str]) -> dict[str, Any]:
    state_dir = default_state_dir(environ)
    data_source = config.values["store.data_source"] or str(state_dir / "offloader.db")
    socket = state_dir / "offloader.sock"
    if "://" not in data_source:
        store = Path(data_source)
        inside = store.is_dir() or data_source.endswith("/")
        socket = store / "offloader.sock" if inside else store.with_suffix(".sock")
    return {
        "store.data_source": str(state_dir / "offloader.db"),
        "api.admin_socket": str(socket.absolute()),
        "jobs.process.jobs_dir": str(state_dir / "jobs"),
        "jobs.http_proxy": _own_proxy(environ, "HTTP_PROXY"),
        "jobs.https_proxy": _own_proxy(environ, "HTTPS_PROXY"),
        "jobs.no_proxy": environ.get("NO_PROXY") or environ.get("no_proxy", ""),
    }


def _own_proxy(environ: Mapping[str, str], name: str) -> str:
    """The service's own proxy; one of a kind that jobs cannot use is none for them (and a warning)."""
    try:
        return parse_proxy(environ.get(name) or environ.get(name.lower(), ""))
    except ValueError:
        return ""


def _api(reader: Reader) -> ApiSettings:
    address = reader.text("api.http.listen_address", "ListenAddress")
    if address.strip():
        reader.parsed("api.http.listen_address", split_address, stand_in=("", 0))
    tls = TlsSettings(
        reader["api.http.tls.enable"],
        reader["api.http.tls.cert_file"],
        reader["api.http.tls.cert_key"],
    )
    for name, field_name in (("cert_file", "CertFile"), ("cert_key", "CertKey")):
        if tls.enable and not getattr(tls, name):
            text = f"invalid TLS config: invalid {field_name} value: should not be empty"
            reader.complain(f"api.http.tls.{name}", text)
    if reader["api.security.enable_admin"]:
        reader.text("api.security.admin_secret_key", "AdminSecretKey")
    expiration = "api.security.session_cache.expiration_minutes"
    if reader[expiration] <= 0:
        text = "invalid ExpirationMinutes value: should be a positive number"
        reader.complain(expiration, text)
    socket = reader["api.admin_socket"]
    return ApiSettings(
        listen_address=address,
        tls=tls,
        enable_admin=reader["api.security.enable_admin"],
        admin_secret_key=reader["api.security.admin_secret_key"],
        allow_self_registration=reader["api.security.allow_self_registration"],
        expiration_minutes=reader[expiration],
        admin_socket=Path(socket).absolute() if socket else None,
        admin_socket_wanted=reader.given("api.admin_socket"),
    )


def _jobs(reader: Reader, environ: Mapping[str, str]) -> JobsSettings:
    if reader["jobs.api_type"] not in API_TYPES:
        text = f"invalid APIType value: {reader['jobs.api_type']}: should be one of {' '.join(API_TYPES)}"
        reader.complain("jobs.api_type", text)
    post_call_slots = int(reader.at_least("jobs.post_call_slots", 0))
    return JobsSettings(
        api_type=reader["jobs.api_type"],
        max_concurrent_jobs=_max_concurrent_jobs(reader, post_call_slots),
        failed_jobs_retention=_retention(reader, "jobs.failed_jobs_retention_time"),
        completed_jobs_retention=_retention(reader, "jobs.completed_jobs_retention_time"),
        admission_wait_s=reader.at_least("jobs.admission_wait_s", 0),
        min_free_disk_bytes=_size(reader, "jobs.min_free_disk") or None,
        post_call_slots=post_call_slots,
        outbox_max_age=_retention(reader, "jobs.outbox_max_age"),
        image_registry=reader["jobs.image_registry"],
        runner_images=_texts(reader, "jobs.runner_images"),
        use_reference_images=reader["jobs.use_reference_images"],
        check_runners="true" not in (environ.get("DEV_MODE"), environ.get("TEST_MODE")),
        network=_network(reader),
        docker=_docker(reader),
        kubernetes=reader.group("jobs.kubernetes."),
        process=_process(reader),
    )


def _max_concurrent_jobs(reader: Reader, post_call_slots: int) -> int:
    value = reader["jobs.max_concurrent_jobs"]
    if value == "auto":
        own_limits = reader["jobs.api_type"] == "process"
        return calls_that_fit(read_machine(own_limits=own_limits), post_call_slots=post_call_slots)
    if value <= 0:
        text = "invalid MaxConcurrentJobs value: should be greater than zero"
        reader.complain("jobs.max_concurrent_jobs", text)
    return int(value)


def _network(reader: Reader) -> NetworkSettings:
    ca_cert_file = reader["jobs.ca_cert_file"]
    none: dict[str, str] = {}
    overrides = reader.parsed("jobs.site_url_overrides", parse_site_urls, stand_in=none)
    return NetworkSettings(
        ca_cert_file=Path(ca_cert_file).absolute() if ca_cert_file else None,
        http_proxy=reader.parsed("jobs.http_proxy", parse_proxy, stand_in=""),
        https_proxy=reader.parsed("jobs.https_proxy", parse_proxy, stand_in=""),
        no_proxy=reader["jobs.no_proxy"],
        site_url_overrides=MappingProxyType(overrides),
        extra_hosts=reader.parsed("jobs.extra_hosts", parse_extra_hosts, stand_in=()),
    )


def _docker(reader: Reader) -> DockerSettings:
    policy = reader["jobs.docker.pull_policy"]
    if policy not in PULL_POLICIES:
        text = f'"{policy}": should be one of {" ".join(PULL_POLICIES)}'
        reader.complain("jobs.docker.pull_policy", text)
    return DockerSettings(
        output_logs=reader["jobs.docker.output_logs"],
        network=reader["jobs.docker.network"],
        host=reader["jobs.docker.host"],
        memory_bytes=_size(reader, "jobs.docker.memory", least=256 << 20, or_zero=True) or None,
        cpus=reader.at_least("jobs.docker.cpus", 0) or None,
        pids=int(reader.at_least("jobs.docker.pids", 64)),
        log_max_bytes=_size(reader, "jobs.docker.log_max_size", least=64 << 10),
        pull_policy=policy,
        models_dir=reader["jobs.docker.models_dir"],
        instance=reader.text("jobs.docker.instance", "Instance"),
    )


def _process(reader: Reader) -> ProcessSettings:
    models_dir = reader["jobs.process.models_dir"]
    return ProcessSettings(
        jobs_dir=Path(reader.text("jobs.process.jobs_dir", "JobsDir")).absolute(),
        models_dir=str(Path(models_dir).absolute()) if models_dir else "",
        recorder_command=_command(reader, "jobs.process.recorder_command"),
        transcriber_command=_command(reader, "jobs.process.transcriber_command"),
        stop_grace_s=reader.at_least("jobs.process.stop_grace_s", 0),
        log_max_bytes=int(reader.at_least("jobs.process.log_max_bytes", 64 << 10, below=2**40)),
        memory_max_bytes=_size(reader, "jobs.process.memory_max", least=64 << 20, or_zero=True),
    )


def _logger(reader: Reader) -> LoggerSettings:
    values = dict(reader.group("logger."))
    del values["enable_color"]
    if not (values["enable_console"] or values["enable_file"]):
        reader.complain("logger.enable_console", "should enable at least one logging target")
    for target, field_name in (("console", "ConsoleLevel"), ("file", "FileLevel")):
        level = values[f"{target}_level"]
        if values[f"enable_{target}"] and level.lower() not in LOG_LEVELS:
            text = f'invalid {field_name} value "{level}": should be one of {" ".join(LOG_LEVELS)}'
            reader.complain(f"logger.{target}_level", text)
    if values["enable_file"]:
        reader.text("logger.file_location", "FileLocation")
    values["file_max_bytes"] = _size(reader, "logger.file_max_size", least=64 << 10)
    del values["file_max_size"]
    values["file_max_age"] = _retention(reader, "logger.file_max_age")
    values["file_keep"] = int(reader.at_least("logger.file_keep", 1, below=1000))
    asked = reader.given("logger.enable_file") or reader.given("logger.file_location")
    return LoggerSettings(**values, file_wanted=asked)


def _size(reader: Reader, name: str, *, least: int = 0, or_zero: bool = False) -> int:
    size = reader.parsed(name, parse_size, stand_in=least)
    if size < least and not (or_zero and size == 0):
        reader.complain(name, f"{reader[name]!r}: should be at least {least} bytes")
    return size


def _retention(reader: Reader, name: str) -> timedelta | None:
    return reader.parsed(name, parse_retention, stand_in=None)


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


def _warnings(
    path: Path, config: LayeredConfig, environ: Mapping[str, str], *, data_source: str
) -> tuple[str, ...]:
    warnings = [f"{path}: unknown key {name}: it has no effect" for name in config.unknown]
    if not config.file_found:
        warnings.append(f"{path}: no such file: defaults and environment apply")
    place = Path(data_source).absolute()
    if "://" not in data_source and any(swept in place.parents for swept in _SWEPT):
        warnings.append(
            f"store.data_source: {data_source}: the system empties this place from time to time; "
            "put the database where it lasts, such as /var/lib/calls-offloader"
        )
    for name, key in (("HTTP_PROXY", "jobs.http_proxy"), ("HTTPS_PROXY", "jobs.https_proxy")):
        unset = config.sources[key] == "default"
        if (
            unset
            and (environ.get(name) or environ.get(name.lower()))
            and not _own_proxy(environ, name)
        ):
            warnings.append(f"environment {name}: no HTTP proxy: jobs go without; set {key}")
    return tuple(warnings)

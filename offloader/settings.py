"""The settings of the job service (job-service.md 3): keys, environment names, defaults, validation.

`load_settings` reads the layers over the table of `setting_keys.py` and returns frozen groups.
Environment overrides the file, defaults apply always.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from foundation.layered_config import ConfigError, load_layers
from offloader.setting_keys import API_TYPES, KEYS, LOG_LEVELS


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


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """The process backend's own group."""

    jobs_dir: Path
    models_dir: str
    recorder_command: tuple[str, ...]
    transcriber_command: tuple[str, ...]
    stop_grace_s: float
    log_max_bytes: int


@dataclass(frozen=True, slots=True)
class JobsSettings:
    api_type: str
    max_concurrent_jobs: int
    failed_jobs_retention: timedelta | None
    """None: for ever."""
    completed_jobs_retention: timedelta | None
    """None: for ever."""
    admission_wait_s: float
    min_free_disk_bytes: int | None
    """None: not looked at."""
    post_call_slots: int
    outbox_max_age: timedelta | None
    """None: for ever."""
    image_registry: str
    check_runners: bool
    """Off when DEV_MODE or TEST_MODE is `true`."""
    docker: Mapping[str, Any]
    """The docker backend's keys by their last name."""
    kubernetes: Mapping[str, Any]
    """The kubernetes backend's keys by their last name."""
    process: ProcessSettings


@dataclass(frozen=True, slots=True)
class LoggerSettings:
    enable_console: bool
    console_json: bool
    console_level: str
    enable_file: bool
    file_json: bool
    file_level: str
    file_location: str
    file_wanted: bool
    """Somebody asked for the file; otherwise a place that cannot be written is only a warning."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the service can be told, validated."""

    api: ApiSettings
    data_source: str
    jobs: JobsSettings
    logger: LoggerSettings
    warnings: tuple[str, ...]
    """What the admin should know: unknown keys by name, a missing file."""


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read defaults, `path` and `environ`; a missing file means defaults.

    Raises:
        ConfigError: with the key, where its value came from and the text of job-service.md 3.
    """
    config = load_layers(KEYS, path=path, environ=environ)
    state_dir = default_state_dir(environ)
    defaults = {
        "store.data_source": str(state_dir / "offloader.db"),
        "jobs.process.jobs_dir": str(state_dir / "jobs"),
    }
    values = {k: defaults[k] if v is None else v for k, v in config.values.items()}
    reader = _Reader(values, config.sources, path)
    return Settings(
        api=_api(reader),
        data_source=reader.text("store.data_source", "DataSource"),
        jobs=_jobs(reader, environ),
        logger=_logger(reader),
        warnings=_warnings(path, found=config.file_found, unknown=config.unknown),
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


def parse_retention(text: str) -> timedelta | None:
    """`30d`, `12h`, `90m`; `0` in any unit means for ever (None).

    Raises:
        ValueError: with the text of job-service.md 3.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if match is None and text != "0":
        raise ValueError("invalid retention time format")
    if match is None or int(match[1]) == 0:
        return None
    unit = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[match[2]]
    return int(match[1]) * unit


class _Reader:
    """Gives values out and turns complaints into errors that say where the value came from."""

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str], path: Path) -> None:
        self._values, self._sources, self._path = values, sources, path

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def given(self, name: str) -> bool:
        return self._sources[name] != "default"

    def group(self, prefix: str) -> Mapping[str, Any]:
        """The values below `prefix`, by their last name."""
        names = [name for name in self._values if name.startswith(prefix)]
        return MappingProxyType({n.removeprefix(prefix): self._values[n] for n in names})

    def text(self, name: str, field_name: str) -> str:
        """A text that must not be empty."""
        value = str(self[name])
        if not value.strip():
            raise self.error(name, f"invalid {field_name} value: should not be empty")
        return value

    def error(self, name: str, text: str) -> ConfigError:
        source = self._sources[name]
        places = {
            "file": str(self._path),
            "default": f"not set in {self._path} or {KEYS[name].env}",
        }
        place = places.get(source, f"environment {source}")
        return ConfigError(f"{place}: {name}: {text}")


def _api(reader: _Reader) -> ApiSettings:
    address = reader.text("api.http.listen_address", "ListenAddress")
    try:
        split_address(address)
    except ValueError as error:
        raise reader.error("api.http.listen_address", str(error)) from error
    tls = TlsSettings(
        reader["api.http.tls.enable"],
        reader["api.http.tls.cert_file"],
        reader["api.http.tls.cert_key"],
    )
    for name, field_name in (("cert_file", "CertFile"), ("cert_key", "CertKey")):
        if tls.enable and not getattr(tls, name):
            text = f"invalid TLS config: invalid {field_name} value: should not be empty"
            raise reader.error(f"api.http.tls.{name}", text)
    if reader["api.security.enable_admin"]:
        reader.text("api.security.admin_secret_key", "AdminSecretKey")
    expiration = "api.security.session_cache.expiration_minutes"
    if reader[expiration] <= 0:
        text = "invalid ExpirationMinutes value: should be a positive number"
        raise reader.error(expiration, text)
    return ApiSettings(
        listen_address=address,
        tls=tls,
        enable_admin=reader["api.security.enable_admin"],
        admin_secret_key=reader["api.security.admin_secret_key"],
        allow_self_registration=reader["api.security.allow_self_registration"],
        expiration_minutes=reader[expiration],
    )


def split_address(address: str) -> tuple[str, int]:
    """Host (may be empty) and port of `host:port`; IPv6 hosts stand in brackets.

    Raises:
        ValueError: another form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f'invalid ListenAddress value: "{address}": should be host:port or :port')
    if int(port) > 65535:
        raise ValueError(f'invalid ListenAddress value: "{address}": the port is above 65535')
    return host[1:-1] if bracketed else host, int(port)


def _jobs(reader: _Reader, environ: Mapping[str, str]) -> JobsSettings:
    if reader["jobs.api_type"] not in API_TYPES:
        text = f"invalid APIType value: {reader['jobs.api_type']}"
        raise reader.error("jobs.api_type", text)
    if reader["jobs.max_concurrent_jobs"] <= 0:
        text = "invalid MaxConcurrentJobs value: should be greater than zero"
        raise reader.error("jobs.max_concurrent_jobs", text)
    return JobsSettings(
        api_type=reader["jobs.api_type"],
        max_concurrent_jobs=reader["jobs.max_concurrent_jobs"],
        failed_jobs_retention=_retention(reader, "jobs.failed_jobs_retention_time"),
        completed_jobs_retention=_retention(reader, "jobs.completed_jobs_retention_time"),
        admission_wait_s=_at_least(reader, "jobs.admission_wait_s", 0),
        min_free_disk_bytes=_size(reader, "jobs.min_free_disk"),
        post_call_slots=int(_at_least(reader, "jobs.post_call_slots", 0)),
        outbox_max_age=_retention(reader, "jobs.outbox_max_age"),
        image_registry=reader["jobs.image_registry"],
        check_runners="true" not in (environ.get("DEV_MODE"), environ.get("TEST_MODE")),
        docker=reader.group("jobs.docker."),
        kubernetes=reader.group("jobs.kubernetes."),
        process=_process(reader),
    )


def _at_least(reader: _Reader, name: str, least: float) -> float:
    value = reader[name]
    if not least <= value < 2**31:
        raise reader.error(name, f"{value}: should be a number that is at least {least:g}")
    return float(value)


def _size(reader: _Reader, name: str) -> int | None:
    try:
        return parse_size(reader[name]) or None
    except ValueError as error:
        raise reader.error(name, str(error)) from error


def parse_size(text: str) -> int:
    """Bytes of `5GiB`, `500MiB`, `1048576`.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|TiB)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r}: should be a number of bytes, or a size such as 500MiB or 5GiB")
    power = ("B", "KiB", "MiB", "GiB", "TiB").index(match[2] or "B")
    return int(match[1]) << (10 * power)


def _retention(reader: _Reader, name: str) -> timedelta | None:
    try:
        return parse_retention(reader[name])
    except ValueError as error:
        raise reader.error(name, str(error)) from error


def _process(reader: _Reader) -> ProcessSettings:
    for name, least in (("stop_grace_s", 0), ("log_max_bytes", 64 * 1024)):
        value = reader[f"jobs.process.{name}"]
        if not least <= value < 2**40:
            text = f"{value}: should be a number that is at least {least}"
            raise reader.error(f"jobs.process.{name}", text)
    return ProcessSettings(
        jobs_dir=Path(reader.text("jobs.process.jobs_dir", "JobsDir")).absolute(),
        models_dir=str(Path(reader["jobs.process.models_dir"]).absolute())
        if reader["jobs.process.models_dir"]
        else "",
        recorder_command=_command(reader, "jobs.process.recorder_command"),
        transcriber_command=_command(reader, "jobs.process.transcriber_command"),
        stop_grace_s=float(reader["jobs.process.stop_grace_s"]),
        log_max_bytes=reader["jobs.process.log_max_bytes"],
    )


def _command(reader: _Reader, name: str) -> tuple[str, ...]:
    command = tuple(reader[name])
    if not command or not all(isinstance(part, str) and part for part in command):
        raise reader.error(name, "should be a list of texts: the program, then its arguments")
    return command


def _logger(reader: _Reader) -> LoggerSettings:
    values = dict(reader.group("logger."))
    del values["enable_color"]
    if not (values["enable_console"] or values["enable_file"]):
        raise reader.error("logger.enable_console", "should enable at least one logging target")
    for target, field_name in (("console", "ConsoleLevel"), ("file", "FileLevel")):
        level = values[f"{target}_level"]
        if values[f"enable_{target}"] and level.lower() not in LOG_LEVELS:
            text = f'invalid {field_name} value "{level}": should be one of {" ".join(LOG_LEVELS)}'
            raise reader.error(f"logger.{target}_level", text)
    if values["enable_file"]:
        reader.text("logger.file_location", "FileLocation")
    asked = reader.given("logger.enable_file") or reader.given("logger.file_location")
    return LoggerSettings(**values, file_wanted=asked)


def _warnings(path: Path, *, found: bool, unknown: tuple[str, ...]) -> tuple[str, ...]:
    warnings = [f"{path}: unknown key {name}: it has no effect" for name in unknown]
    if not found:
        warnings.append(f"{path}: no such file: defaults and environment apply")
    return tuple(warnings)

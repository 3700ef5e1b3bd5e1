"""The settings of the job service (job-service.md 3): keys, environment names, defaults, validation.

`load_settings` reads the layers over the table of `setting_keys.py` and returns frozen groups.
Environment overrides the file, defaults apply always.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from clientauth.registration_limits import RegistrationLimits
from clientauth.self_registration import SelfRegistration
from foundation.layered_config import ConfigError, LayeredConfig, Problem, read_layers
from offloader.setting_audit import read_audit
from offloader.setting_celery import (
    CelerySettings,
    WorkerSettings,
    celery_defaults,
    read_worker,
)
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
from offloader.setting_jobs import read_jobs
from offloader.setting_keys import KEYS, LOG_LEVELS
from offloader.setting_kubernetes import KubernetesSettings
from offloader.setting_reader import Reader
from offloader.setting_values import (
    parse_client_ids,
    parse_networks,
    parse_proxy,
    split_address,
)
from offloader.setting_watching import (
    NotifySettings,
    TracingSettings,
    read_notify,
    read_tracing,
)

__all__ = [
    "SHORT_KEY",
    "ApiSettings",
    "CelerySettings",
    "DockerSettings",
    "JobsSettings",
    "KubernetesSettings",
    "LoggerSettings",
    "NetworkSettings",
    "NotifySettings",
    "ProcessSettings",
    "Reading",
    "Settings",
    "TlsSettings",
    "TracingSettings",
    "WorkerSettings",
    "default_state_dir",
    "load_settings",
    "read_settings",
    "reread_settings",
]

SWEPT: Final = (Path("/tmp"), Path("/var/tmp"), Path("/run"), Path("/dev/shm"))  # nosec B108  # compared, not used
"""Emptied by the system, at the next start at the latest."""
SHORT_KEY: Final = 16
"""Characters of an admin's key below which it may be guessed."""


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
    config: LayeredConfig
    """Of which it was made."""


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
    return _reading(read_layers(KEYS, path=path, environ=environ), path, environ)


def reread_settings(
    present: Reading,
    found: Reading,
    names: Collection[str],
    *,
    path: Path,
    environ: Mapping[str, str],
) -> Reading:
    """`present`, but for the settings `names`, which are as in `found`; checked as a whole."""
    old, new = present.config, found.config
    config = replace(
        new,
        values={name: (new if name in names else old).values[name] for name in KEYS},
        sources={name: (new if name in names else old).sources[name] for name in KEYS},
    )
    return _reading(config, path, environ)


def _reading(config: LayeredConfig, path: Path, environ: Mapping[str, str]) -> Reading:
    defaults = _machine_defaults(config, environ)
    reader = Reader(config, path, defaults=defaults)
    api = _api(reader)
    data_source = reader.text("store.data_source", "DataSource")
    tracing = read_tracing(reader, environ)
    jobs = read_jobs(reader, environ, tracing, state_dir=default_state_dir(environ))
    settings = Settings(
        api=api,
        data_source=data_source,
        jobs=jobs,
        worker=read_worker(reader),
        logger=_logger(reader),
        warnings=_warnings(path, config, environ, reader),
        tracing=tracing,
        notify=_notify(reader, jobs.network),
        audit=read_audit(reader),
    )
    return Reading(
        settings=settings,
        problems=tuple(reader.problems),
        unknown=config.unknown,
        values=MappingProxyType({name: reader[name] for name in KEYS}),
        sources=config.sources,
        file_found=config.file_found,
        config=config,
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
    socket, audit = state_dir / "offloader.sock", state_dir / "offloader.audit.jsonl"
    if "://" not in data_source:
        store = Path(data_source)
        inside = os.path.isdir(store) or data_source.endswith("/")
        socket = store / "offloader.sock" if inside else store.with_suffix(".sock")
        audit = socket.with_suffix(".audit.jsonl")
    return {
        "store.data_source": str(state_dir / "offloader.db"),
        "api.admin_socket": str(socket.absolute()),
        "audit.file": str(audit.absolute()),
        "jobs.process.jobs_dir": str(state_dir / "jobs"),
        "jobs.process.stop_grace_s": config.values["jobs.stop_grace_s"],
        "jobs.http_proxy": _own_proxy(environ, "HTTP_PROXY"),
        "jobs.https_proxy": _own_proxy(environ, "HTTPS_PROXY"),
        "jobs.no_proxy": environ.get("NO_PROXY") or environ.get("no_proxy", ""),
        **celery_defaults(config.values),
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
        admin_page=reader["api.admin.page"],
        admin_show_content=reader["api.admin.show_content"],
        admin_socket=Path(socket).absolute() if socket else None,
        admin_socket_wanted=reader.given("api.admin_socket"),
        trusted_proxies=reader.parsed("api.http.trusted_proxies", parse_networks, stand_in=()),
        self_registration=SelfRegistration(
            reader.parsed("api.security.allowed_clients", parse_client_ids, stand_in=frozenset()),
            reader.parsed("api.security.allowed_networks", parse_networks, stand_in=()),
        ),
        registration_limits=RegistrationLimits(
            int(reader.at_least("api.security.registration_limits.per_network", 0)) or None,
            int(reader.at_least("api.security.registration_limits.total", 0)) or None,
        ),
    )


def _notify(reader: Reader, network: NetworkSettings) -> NotifySettings:
    return read_notify(
        reader,
        ca_cert_file=network.ca_cert_file,
        http_proxy=network.http_proxy,
        https_proxy=network.https_proxy,
        no_proxy=network.no_proxy,
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
    values["file_max_bytes"] = reader.size("logger.file_max_size", least=64 << 10)
    del values["file_max_size"]
    values["file_max_age"] = reader.retention("logger.file_max_age")
    values["file_keep"] = int(reader.at_least("logger.file_keep", 1, below=1000))
    asked = reader.given("logger.enable_file") or reader.given("logger.file_location")
    return LoggerSettings(**values, file_wanted=asked)


def _warnings(
    path: Path, config: LayeredConfig, environ: Mapping[str, str], reader: Reader
) -> tuple[str, ...]:
    data_source = reader["store.data_source"]
    warnings = [f"{path}: unknown key {name}: it has no effect" for name in config.unknown]
    if not config.file_found:
        warnings.append(f"{path}: no such file: defaults and environment apply")
    place = Path(data_source).absolute()
    if "://" not in data_source and any(swept in place.parents for swept in SWEPT):
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
    admin_key = "api.security.admin_secret_key"
    if reader["api.security.enable_admin"] and 0 < len(reader[admin_key]) < SHORT_KEY:
        warnings.append(
            f"{admin_key}: has {len(reader[admin_key])} characters, should have {SHORT_KEY} or more: whoever "
            "guesses it may read recordings and stop jobs; openssl rand -base64 32 makes one"
        )
    if _lost_with_its_host(reader):
        warnings.append(
            f"jobs.copies_url: empty with jobs.api_type {reader['jobs.api_type']}: a node that is lost "
            "takes the recordings of its calls with it; set it, such as s3://BUCKET"
        )
    return tuple(warnings)


def _lost_with_its_host(reader: Reader) -> bool:
    """What jobs have recorded lies on hosts of their own, and nowhere else."""
    elsewhere = reader["jobs.copies_url"] or (
        reader["jobs.api_type"] == "kubernetes"
        and reader["jobs.kubernetes.persistent_volume_claim_name"]
    )
    return reader["jobs.api_type"] in ("celery", "kubernetes") and not elsewhere

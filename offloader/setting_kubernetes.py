"""The group `jobs.kubernetes`, read and checked; some values are YAML. `setting_keys.py` explains it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from offloader.models import JobType
from offloader.setting_reader import Reader
from offloader.setting_values import parse_size

_PREFIX: Final = "jobs.kubernetes."
_DEFAULT_TOLERATIONS: Final = (
    {"key": "utilities", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
)
"""The reference's (job-service.md 3)."""
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_SYSCTL: Final = re.compile(r"([a-z0-9_]+(?:[./][a-z0-9_-]+)+)=([A-Za-z0-9 ._-]+)")
_LEAST_LOG_BYTES: Final = 64 << 10

Parsed = TypeVar("Parsed")
Tolerations = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The kubernetes backend's own group."""

    namespace: str = ""
    """Empty: the service's own, or the kubeconfig's."""
    kubeconfig: str = ""
    """Empty: the pod's service account, else ~/.kube/config."""
    instance: str = "default"
    """Services that share a namespace and no store must differ in it; replicas must not."""
    resources: Mapping[JobType, Mapping[str, Any]] = field(default_factory=dict)
    """Of the job's container, as Kubernetes writes them (`requests`, `limits`)."""
    tolerations: Tolerations = _DEFAULT_TOLERATIONS
    pod_templates: Mapping[JobType, Mapping[str, Any]] = field(default_factory=dict)
    """Strategic-merge patches of the pod template."""
    privileged: bool = False
    node_sysctls: tuple[tuple[str, str], ...] = ()
    """Name and value; set by a privileged init container, so only with `privileged`."""
    node_sysctls_image: str = ""
    """Empty: the job's own image."""
    claim: str = ""
    """Persistent volume claim behind /data; empty: an emptyDir."""
    claim_dir: Path | None = None
    """Where this service sees that claim; None: it does not."""
    state_dir: Path = Path("/var/lib/calls-offloader")
    """Logs are kept below it when there is no `claim_dir`."""
    models_claim: str = ""
    ca_config_map: tuple[str, str] | None = None
    """Name and key of the PEM file."""
    prepull_nodes: int = 0
    """On how many nodes images are pulled at `/jobs/init`; 0: on none."""
    start_timeout_s: float = 180.0
    log_max_bytes: int = 16 << 20


def read_kubernetes(reader: Reader, *, wanted: bool, state_dir: Path) -> KubernetesSettings:
    """The group; with `wanted`, because jobs run that way, what cannot be used is complained about."""

    def parsed(name: str, parse: Callable[[Any], Parsed], stand_in: Parsed) -> Parsed:
        if wanted:
            return reader.parsed(_PREFIX + name, parse, stand_in=stand_in)
        try:
            return parse(reader[_PREFIX + name])
        except ValueError:
            return stand_in

    def name_or_empty(name: str) -> str:
        return parsed(name, _object_name, "")

    nothing: Mapping[JobType, Mapping[str, Any]] = {}
    none: Tolerations = ()
    tolerations = parsed("tolerations", _tolerations, none)
    tolerations += parsed("tolerations_file", _tolerations_file, none)
    claim_dir = reader[_PREFIX + "persistent_volume_claim_dir"]
    claim = name_or_empty("persistent_volume_claim_name")
    if wanted and claim_dir and not claim:
        text = "is set without jobs.kubernetes.persistent_volume_claim_name"
        reader.complain(_PREFIX + "persistent_volume_claim_dir", text)
    return KubernetesSettings(
        namespace=name_or_empty("namespace"),
        kubeconfig=reader[_PREFIX + "kubeconfig"],
        instance=parsed("instance", _label_value, "default"),
        resources=parsed("jobs_resource_requirements", _by_type, nothing),
        tolerations=tolerations if tolerations else _DEFAULT_TOLERATIONS,
        pod_templates=parsed("pod_template", _by_type, nothing),
        privileged=reader[_PREFIX + "privileged"],
        node_sysctls=parsed("node_sysctls", _sysctls, ()),
        node_sysctls_image=reader[_PREFIX + "node_sysctls_image"],
        claim=claim,
        claim_dir=Path(claim_dir).absolute() if claim_dir else None,
        state_dir=state_dir,
        models_claim=name_or_empty("models_claim_name"),
        ca_config_map=parsed("ca_config_map", _ca_config_map, None),
        prepull_nodes=int(reader.at_least(_PREFIX + "prepull_nodes", 0)),
        start_timeout_s=reader.at_least(_PREFIX + "start_timeout_s", 1),
        log_max_bytes=parsed("log_max_size", _log_size, _LEAST_LOG_BYTES),
    )


def parse_document(value: Any) -> Any:
    """A TOML table or list as it is; a text as JSON or YAML; an empty text is None.

    Raises:
        ValueError: a text that is neither.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError:
        pass
    import yaml  # only here: most installations have no YAML in their settings

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        place = str(getattr(error, "problem_mark", "") or "").strip()
        raise ValueError(f"should be YAML or JSON; it cannot be read {place}".strip()) from error


def _by_type(value: Any) -> Mapping[JobType, Mapping[str, Any]]:
    document = parse_document(value)
    if document is None:
        return {}
    wanted = "should be a map with the keys " + " and ".join(kind.value for kind in JobType)
    if not isinstance(document, Mapping):
        raise ValueError(wanted)
    found: dict[JobType, Mapping[str, Any]] = {}
    for key, part in document.items():
        if key not in set(JobType):
            raise ValueError(f"{key!r}: {wanted}")
        if not isinstance(part, Mapping):
            raise ValueError(f"{key}: should be a map")
        found[JobType(key)] = part
    return MappingProxyType(found)


def _tolerations(value: Any) -> Tolerations:
    document = parse_document(value)
    if document is None:
        return ()
    entries = [document] if isinstance(document, Mapping) else document
    if not isinstance(entries, list | tuple) or not all(isinstance(e, Mapping) for e in entries):
        raise ValueError("should be a list of tolerations, each a map with key, operator, effect")
    return tuple(entries)


def _tolerations_file(value: str) -> Tolerations:
    if not value:
        return ()
    try:
        text = Path(value).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{value}: cannot be read: {error}") from error
    return _tolerations(text)


def _sysctls(value: str) -> tuple[tuple[str, str], ...]:
    found = []
    for part in re.split(r"[,\n]", value):
        if not part.strip():
            continue
        match = _SYSCTL.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"{part.strip()!r}: should be name=value, such as kernel.unprivileged_userns_clone=1"
            )
        found.append((match[1], match[2].strip()))
    return tuple(found)


def _ca_config_map(value: str) -> tuple[str, str] | None:
    if not value:
        return None
    name, _, key = value.partition("/")
    if not _OBJECT_NAME.fullmatch(name) or not re.fullmatch(r"[-._A-Za-z0-9]{0,253}", key):
        raise ValueError(f"{value!r}: should be the name of a ConfigMap, or name/key")
    return name, key or "ca.crt"


def _object_name(value: str) -> str:
    if value and not _OBJECT_NAME.fullmatch(value):
        raise ValueError(f"{value!r}: should be a name of small letters, digits and hyphens")
    return value


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"{value!r}: should be 1 to 63 letters, digits, hyphens or dots")
    return value


def _log_size(value: int | str) -> int:
    size = parse_size(value)
    if size < _LEAST_LOG_BYTES:
        raise ValueError(f"{value!r}: should be at least {_LEAST_LOG_BYTES} bytes")
    return size

"""What an API server refuses: by the published schemas, and by rules that they do not hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import jsonschema_rs

from testbed.kubernetes.objects import Refused

_DEFINITIONS: Final = {
    "jobs": "io.k8s.api.batch.v1.Job",
    "pods": "io.k8s.api.core.v1.Pod",
    "secrets": "io.k8s.api.core.v1.Secret",
    "options": "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
}
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_MOST_SECRET_BYTES: Final = 1 << 20
_MUTABLE_OF_JOB: Final = frozenset({"suspend", "parallelism", "activeDeadlineSeconds"})


def check(plural: str, thing: Mapping[str, Any]) -> None:
    """Raises Refused (422) with every complaint."""
    complaints = [*_by_schema(plural, thing), *_by_rules(plural, thing)]
    if complaints:
        name = (thing.get("metadata") or {}).get("name")
        raise Refused(422, "Invalid", f'{plural} "{name}" is invalid: {"; ".join(complaints)}')


def check_update(plural: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises Refused (422) when a field changes that never may."""
    check(plural, new)
    if plural == "jobs":
        keys = set(old["spec"]) | set(new["spec"])
        changed = {key for key in keys if old["spec"].get(key) != new["spec"].get(key)}
        if changed - _MUTABLE_OF_JOB:
            raise Refused(422, "Invalid", f"spec.{min(changed)}: field is immutable")


def violations(pod: Mapping[str, Any]) -> list[str]:
    """Of the Pod Security standard `restricted`, as its admission names them."""
    spec = pod["spec"]
    found = []
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        found.append("host namespaces")
    kinds = ("configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI")
    found += [
        f"restricted volume types ({volume['name']})"
        for volume in spec.get("volumes") or []
        if not any(kind in volume for kind in kinds)
    ]
    of_pod = spec.get("securityContext") or {}
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        own = container.get("securityContext") or {}
        both = {**of_pod, **own}
        if own.get("privileged"):
            found.append("privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation != false")
        if "ALL" not in ((own.get("capabilities") or {}).get("drop") or []):
            found.append("unrestricted capabilities")
        if both.get("runAsNonRoot") is not True:
            found.append("runAsNonRoot != true")
        if both.get("runAsUser") == 0:
            found.append("runAsUser=0")
        if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append("seccompProfile")
    return found


def _by_schema(plural: str, thing: Mapping[str, Any]) -> Iterator[str]:
    for error in _validator(plural).iter_errors(thing):
        where = ".".join(str(part) for part in error.instance_path)
        yield f"{where}: {error.message}"


@cache
def _validator(plural: str) -> Any:
    text = resources.files("testbed.kubernetes.schema").joinpath("kubernetes.json").read_text()
    schema = {**json.loads(text), "$ref": f"#/definitions/{_DEFINITIONS[plural]}"}
    return jsonschema_rs.Draft7Validator(schema)


def _by_rules(plural: str, thing: Mapping[str, Any]) -> Iterator[str]:
    meta = thing.get("metadata") or {}
    if "name" in meta and not _NAME.fullmatch(meta["name"]):
        yield f"metadata.name: {meta['name']!r} is no DNS-1123 label"
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL.fullmatch(value):
            yield f"metadata.labels[{key}]: {value!r}"
    if (
        plural == "secrets"
        and len(json.dumps(thing.get("data") or {})) > _MOST_SECRET_BYTES * 4 / 3
    ):
        yield "data: Too long: must have at most 1048576 bytes"
    if plural == "jobs":
        spec = thing["spec"]["template"]["spec"]
        if spec.get("restartPolicy") not in ("Never", "OnFailure"):
            yield "spec.template.spec.restartPolicy: must be Never or OnFailure"
        yield from _by_pod_rules(spec)


def _by_pod_rules(spec: Mapping[str, Any]) -> Iterator[str]:
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    if len(set(volumes)) != len(volumes):
        yield "spec.volumes: duplicate names"
    for volume in spec.get("volumes") or []:
        if len(set(volume) - {"name"}) > 1:
            yield f"spec.volumes[{volume['name']}]: may not specify more than 1 volume type"
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        mounts = container.get("volumeMounts") or []
        paths = [mount["mountPath"] for mount in mounts]
        if len(set(paths)) != len(paths):
            yield f"{container['name']}: mountPath must be unique"
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"{container['name']}.volumeMounts: no volume {mount['name']!r}"
            if ".." in mount.get("subPath", "").split("/") or mount.get("subPath", "")[:1] == "/":
                yield f"{container['name']}.volumeMounts: subPath {mount['subPath']!r}"
        security = container.get("securityContext") or {}
        if security.get("privileged") and security.get("allowPrivilegeEscalation") is False:
            yield "privileged and no privilege escalation exclude each other"

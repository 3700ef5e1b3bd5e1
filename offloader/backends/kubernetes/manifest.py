"""The objects of a job, as data: a batch/v1 Job, and the Secrets with what the client sent. Pure.

The Job is created suspended, then its Secrets, which it owns, then the Job is let go: so a pod never waits
for a Secret that does not come, and Secrets go when the Job goes. Names, labels and values that admins
know are the reference's (job-service.md 4).
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from offloader.admission import writing_bytes_per_s
from offloader.backends.kubernetes.merging import merged
from offloader.backends.kubernetes.options import (
    APP,
    APP_LABEL,
    ATTEMPT_DEADLINE_S,
    CONTAINER,
    INSTANCE_LABEL,
    JOB_LABEL,
    LAUNCH,
    NAME_LABEL,
    SALVAGE_LABEL,
    TYPE_LABEL,
    KubernetesOptions,
    Reference,
)
from offloader.backends.own_input import (
    INPUT_DIR,
    INPUT_NAME,
    INPUT_PATH,
    INPUT_VARIABLE,
    input_document,
)
from offloader.errors import LaunchFailed
from offloader.models import JobType

DATA_DIR: Final = "/data"
MODELS_DIR: Final = "/models"
CA_DIR: Final = "/etc/calls-offloader"
CA_KEY: Final = "ca.crt"
JOB_UID: Final = 10001
"""User and group of our images."""
DEADLINE_SLACK_S: Final = 300
"""Beyond the longest duration, so that a stop by the service can finish; the reference's grace."""
_INT32_MAX: Final = 2**31 - 1
_EPHEMERAL_FLOOR_BYTES: Final = 512 << 20
_MIB: Final = 1 << 20
_DEFAULT_RESOURCES: Final[Mapping[JobType, Mapping[str, Any]]] = {
    JobType.RECORDING: {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "4Gi"},
    },
    JobType.TRANSCRIBING: {
        "requests": {"cpu": "1", "memory": "2Gi"},
        "limits": {"memory": "8Gi"},
    },
}
_EVICT_NOT: Final = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


def labels(reference: Reference, options: KubernetesOptions) -> dict[str, str]:
    """By these everything of a job is found again; nothing about the client is among them."""
    found_by = {
        APP_LABEL: APP,
        NAME_LABEL: reference.name,
        INSTANCE_LABEL: options.kubernetes.instance,
        JOB_LABEL: reference.job_id,
        TYPE_LABEL: reference.job_type.value,
    }
    if reference.salvage:
        found_by[SALVAGE_LABEL] = str(reference.salvage)
    return found_by


def secret_manifests(
    reference: Reference,
    *,
    variables: Mapping[str, str],
    ca: bytes | None,
    owner_uid: str,
    options: KubernetesOptions,
) -> list[dict[str, Any]]:
    """The job's variables, as one file or, for images of others, one key each, which becomes a variable; the
    private CA, when it is a file of the service, apart."""
    given = {INPUT_NAME: _base64(input_document(variables))}
    if not reference.file:
        given = {n: _base64(text.encode()) for n, text in variables.items()}
    contents = {reference.name: given}
    if ca is not None:
        contents[f"{reference.name}-ca"] = {CA_KEY: _base64(ca)}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": labels(reference, options),
                "ownerReferences": [owner("batch/v1", "Job", reference.name, owner_uid)],
            },
            "type": "Opaque",
            "immutable": True,
            "data": data,
        }
        for name, data in contents.items()
    ]


def job_manifest(
    reference: Reference,
    *,
    options: KubernetesOptions,
    max_duration_s: int,
    variables: Mapping[str, str],
    has_ca: bool,
    command: Sequence[str] = (),
    launch: str = "",
    owner_uid: str = "",
) -> dict[str, Any]:
    """The Job of a job, or of a salvage (`command`, and as `owner_uid` the job's own Job when that is there).

    `variables` are looked at only for the bit rates: what the client sent is in the Secret. `has_ca`: a
    Secret holds the CA. Suspended: nothing runs yet.
    """
    marks = labels(reference, options)
    template = merged(
        _pod_template(reference, options, max_duration_s, variables, has_ca, command),
        options.kubernetes.pod_templates.get(reference.job_type, {}),
    )
    # Whatever a template says: by these it is found again, and by that it ends.
    template["metadata"] = merged(template.get("metadata") or {}, {"labels": marks})
    template["spec"] = {**template["spec"], "restartPolicy": "Never"}
    spec: dict[str, Any] = {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 0,
        # A pod that is asked to end may still upload: nothing takes its place meanwhile.
        "podReplacementPolicy": "Failed",
        "suspend": True,
        "template": template,
    }
    if options.retention is not None:
        ttl_s = int(options.retention.total_seconds())
        spec["ttlSecondsAfterFinished"] = min(ttl_s, _INT32_MAX)
    metadata: dict[str, Any] = {
        "name": reference.name,
        "labels": marks,
        "annotations": {LAUNCH: launch},
    }
    if owner_uid:
        metadata["ownerReferences"] = [owner("batch/v1", "Job", reference.job_name, owner_uid)]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def owner(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    """With which a thing goes."""
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid}


def ca_path(options: KubernetesOptions, *, has_ca: bool) -> str | None:
    """Where the job finds the private CA; None: there is none."""
    if options.kubernetes.ca_config_map is not None or has_ca:
        return f"{CA_DIR}/{CA_KEY}"
    return None


def _pod_template(
    reference: Reference,
    options: KubernetesOptions,
    max_duration_s: int,
    variables: Mapping[str, str],
    has_ca: bool,
    command: Sequence[str],
) -> dict[str, Any]:
    settings = options.kubernetes
    volumes, mounts = _volumes(reference, options, has_ca)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": reference.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": n, "value": text} for n, text in _fixed(reference, options).items()],
        "resources": _resources(reference, options, max_duration_s, variables),
        "volumeMounts": mounts,
        "securityContext": container_security(options),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if not reference.file:
        container["envFrom"] = [{"secretRef": {"name": reference.name}}]
    if command:
        container["args"] = list(command)
    deadline_s = max_duration_s + DEADLINE_SLACK_S if max_duration_s else ATTEMPT_DEADLINE_S
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": min(deadline_s, _INT32_MAX),
        "terminationGracePeriodSeconds": max(int(options.stop_grace_s), 1),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The pause process reaps what a job leaves, and the job, not being process 1, ends by signals.
        "shareProcessNamespace": True,
        "tolerations": [dict(toleration) for toleration in settings.tolerations],
    }
    if options.restricted:
        spec["securityContext"] = pod_security()
    if settings.node_sysctls and settings.privileged:
        spec["initContainers"] = [_sysctl_container(reference, options)]
    if aliases := _host_aliases(options):
        spec["hostAliases"] = aliases
    return {"metadata": {"annotations": dict(_EVICT_NOT)}, "spec": spec}


def _fixed(reference: Reference, options: KubernetesOptions) -> dict[str, str]:
    """Variables that no client can set; they stand in `env`, which wins over `envFrom`."""
    fixed = {"DATA_DIR": DATA_DIR}
    if options.restricted or options.kubernetes.models_claim:
        fixed["MODELS_DIR"] = MODELS_DIR
    if options.restricted:
        fixed["HOME"] = "/tmp"  # nosec B108  # the container's own
    if reference.file:
        fixed[INPUT_VARIABLE] = INPUT_PATH
    return fixed


def _volumes(
    reference: Reference, options: KubernetesOptions, has_ca: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    settings = options.kubernetes
    data: dict[str, Any] = {"name": "data", "emptyDir": {}}
    data_mount: dict[str, Any] = {"name": "data", "mountPath": DATA_DIR}
    if settings.claim:
        data = {"name": "data", "persistentVolumeClaim": {"claimName": settings.claim}}
        # A salvage works on its job's files.
        data_mount["subPath"] = f"{settings.instance}/{reference.job_name}/data"
    volumes, mounts = [data], [data_mount]
    if options.restricted:
        volumes.append({"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}})
        mounts.append({"name": "tmp", "mountPath": "/tmp"})  # nosec B108  # the container's own
    else:  # the reference's browser
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # nosec B108  # the container's own
    if reference.file:
        # With an fsGroup the kubelet lets that group read it, too: the job's own.
        secret = {"secretName": reference.name, "defaultMode": 0o400}
        volumes.append({"name": "input", "secret": secret})
        mounts.append({"name": "input", "mountPath": INPUT_DIR, "readOnly": True})
    if settings.models_claim:
        claim = {"claimName": settings.models_claim, "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
        mounts.append({"name": "models", "mountPath": MODELS_DIR, "readOnly": True})
    if settings.ca_config_map is not None:
        name, key = settings.ca_config_map
        items = [{"key": key, "path": CA_KEY}]
        volumes.append({"name": "ca", "configMap": {"name": name, "items": items}})
    elif has_ca:
        items = [{"key": CA_KEY, "path": CA_KEY}]
        name = f"{reference.name}-ca"
        volumes.append({"name": "ca", "secret": {"secretName": name, "items": items}})
    if ca_path(options, has_ca=has_ca) is not None:
        mounts.append({"name": "ca", "mountPath": CA_DIR, "readOnly": True})
    return volumes, mounts


def _resources(
    reference: Reference,
    options: KubernetesOptions,
    max_duration_s: int,
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """The admin's, else ours; and room on the node's disk for what the job may write."""
    settings = options.kubernetes
    wanted = settings.resources.get(reference.job_type, _DEFAULT_RESOURCES[reference.job_type])
    if settings.claim:
        return dict(wanted)
    rate = writing_bytes_per_s(reference.job_type, {k.lower(): v for k, v in variables.items()})
    size_bytes = max(round(rate * max_duration_s), _EPHEMERAL_FLOOR_BYTES)
    requests = {"ephemeral-storage": f"{-(-size_bytes // _MIB)}Mi"}
    limits = wanted.get("limits") or {}
    if "ephemeral-storage" in limits:
        requests = {}  # a request above the limit would be refused; without one it is the limit
    return {**wanted, "requests": {**requests, **(wanted.get("requests") or {})}}


def pod_security() -> dict[str, Any]:
    """Of pods under the restricted standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": JOB_UID,
        "runAsGroup": JOB_UID,
        "fsGroup": JOB_UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(options: KubernetesOptions) -> dict[str, Any]:
    """What a container may do."""
    if options.kubernetes.privileged:
        return {"privileged": True}
    if not options.restricted:
        return {}
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _sysctl_container(reference: Reference, options: KubernetesOptions) -> dict[str, Any]:
    settings = options.kubernetes
    script = "; ".join(
        f"printf %s {shlex.quote(value)} > /proc/sys/{name.replace('.', '/')}"
        for name, value in settings.node_sysctls
    )
    return {
        "name": "node-sysctls",
        "image": settings.node_sysctls_image or reference.image,
        "command": ["/bin/sh", "-ec", script],
        "securityContext": {"privileged": True, "runAsUser": 0, "runAsNonRoot": False},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }


def _host_aliases(options: KubernetesOptions) -> list[dict[str, Any]]:
    names: dict[str, list[str]] = {}
    for name, address in options.surroundings.network.extra_hosts:
        if address == "host-gateway":
            raise LaunchFailed(
                f"jobs.extra_hosts: {name}:host-gateway: pods know no host-gateway; name an address"
            )
        names.setdefault(address, []).append(name)
    return [{"ip": address, "hostnames": hosts} for address, hosts in names.items()]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()

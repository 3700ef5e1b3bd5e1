"""How a job's container is made, as data: pure, so that hardening and the way of secrets can be tested.

Our own images run without any privilege and get what they are told through standard input, into one file on a
tmpfs: neither `docker inspect` nor the volume ever holds it. Images of others run with the profile that they
need; docs/backends-docker.md tells what that is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from offloader.backends.docker.options import (
    APP,
    APP_LABEL,
    IMAGE_LABEL,
    INSTANCE_LABEL,
    JOB_LABEL,
    RESULT_LABEL,
    SALVAGE_LABEL,
    TYPE_LABEL,
    DockerOptions,
    Reference,
)
from offloader.backends.docker.seccomp import BROWSER_PROFILE
from offloader.backends.environment import check_lengths
from offloader.backends.own_input import INPUT_DIR, INPUT_PATH, INPUT_VARIABLE
from offloader.models import JobType

DATA_DIR: Final = "/data"
MODELS_DIR: Final = "/models"
OWN_FILES_DIR: Final = f"{DATA_DIR}/.offloader"
"""What the service itself keeps in a job's volume."""
CA_PATH: Final = f"{OWN_FILES_DIR}/ca.pem"
TOKEN_PATH: Final = f"{INPUT_DIR}/auth_token"
"""For our images of releases that know no JOB_INPUT_FILE."""
JOB_UID: Final = 10001
"""User and group of our images, which own /data in them."""
LIVE_CPU_SHARES: Final = MappingProxyType({JobType.TRANSCRIBING: 2048, JobType.RECORDING: 1024})
"""Captions first: seconds late they are of no use, while a recorder catches up. 1024 is what every container
has; the engine turns shares into weights where the host has cgroup v2."""
POST_CALL_CPU_SHARES: Final = 102
"""Post-call work gets about a tenth of what a live recording next to it gets."""
_LOG_FILES: Final = 4
_BROWSER_SHM_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """Everything that a launch hands to the engine."""

    reference: Reference
    body: Mapping[str, Any]
    """Of `POST /containers/create` (Docker Engine API 1.41). Holds secrets for images of others only."""
    told: Mapping[str, str] = field(repr=False)
    """Variables for standard input; empty: it stays closed."""


def plan_container(
    reference: Reference,
    *,
    own: bool,
    variables: Mapping[str, str],
    command: Sequence[str],
    options: DockerOptions,
) -> ContainerPlan:
    """The container of a job or of a salvage; `own`: its image keeps our contract (`CONTRACT_LABEL`).

    Raises:
        LaunchFailed: a variable is longer than a program can be given.
    """
    check_lengths(variables)
    fixed = {"DATA_DIR": DATA_DIR}
    if own or options.docker.models_dir:
        fixed["MODELS_DIR"] = MODELS_DIR
    told: Mapping[str, str] = variables if own else {}
    open_variables = fixed if own else {**variables, **fixed}
    if own:
        open_variables |= {"AUTH_TOKEN_FILE": TOKEN_PATH, "HOME": "/tmp"}  # nosec B108  # the container's own
    if told:
        open_variables |= {"JOB_SECRETS": "stdin", INPUT_VARIABLE: INPUT_PATH}
    body = {
        "Image": reference.image,
        "Env": [f"{name}={text}" for name, text in open_variables.items()],
        "Cmd": list(command),
        "Labels": labels(reference, options),
        "StopTimeout": int(options.stop_grace_s),
        "OpenStdin": bool(told),
        "StdinOnce": bool(told),
        "AttachStdin": bool(told),
        "HostConfig": {**_common_host_config(reference, options), **_profile(own=own)},
    }
    if own:
        body["User"] = f"{JOB_UID}:{JOB_UID}"
    return ContainerPlan(reference, body, told)


def plan_look(reference: Reference) -> dict[str, Any]:
    """Of a container on the job's volume that is never started: through it files are read."""
    mount = {"Type": "volume", "Source": reference.volume, "Target": DATA_DIR}
    return {
        "Image": reference.image,
        "Cmd": ["never-started"],
        "Labels": {APP_LABEL: APP, JOB_LABEL: reference.job_id, SALVAGE_LABEL: "look"},
        "HostConfig": {**_profile(own=True), "Mounts": [mount], "NetworkMode": "none"},
    }


def labels(reference: Reference, options: DockerOptions) -> dict[str, str]:
    """By these a container or volume is found again; nothing about the client is among them."""
    found_by = {
        APP_LABEL: APP,
        INSTANCE_LABEL: options.docker.instance,
        JOB_LABEL: reference.job_id,
        TYPE_LABEL: reference.job_type.value,
        RESULT_LABEL: reference.result,
        IMAGE_LABEL: reference.image,
    }
    if reference.salvage:
        found_by[SALVAGE_LABEL] = str(reference.salvage)
    return found_by


def _common_host_config(reference: Reference, options: DockerOptions) -> dict[str, Any]:
    mounts = [
        {
            "Type": "volume",
            "Source": reference.volume,
            "Target": DATA_DIR,
        }
    ]
    binds = [f"{options.docker.models_dir}:{MODELS_DIR}:ro"] if options.docker.models_dir else []
    live_shares = LIVE_CPU_SHARES[reference.job_type]
    return {
        "Mounts": mounts,
        "Binds": binds,
        "NetworkMode": options.network_mode,
        "ExtraHosts": [
            f"{name}:{address}" for name, address in options.surroundings.network.extra_hosts
        ],
        # Reaps what the job leaves behind, and takes signals that a job as process 1 would not see.
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "Memory": options.docker.memory_bytes or 0,
        "MemorySwap": options.docker.memory_bytes or 0,
        "NanoCpus": int((options.docker.cpus or 0) * 1e9),
        "CpuShares": POST_CALL_CPU_SHARES if reference.salvage else live_shares,
        "PidsLimit": options.docker.pids,
        # A core dump would hold speech and the token.
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {
            "Type": "json-file",
            "Config": {
                "max-size": str(max(options.docker.log_max_bytes // _LOG_FILES, 4096)),
                "max-file": str(_LOG_FILES),
            },
        },
    }


def _profile(*, own: bool) -> dict[str, Any]:
    if own:
        place = f"uid={JOB_UID},gid={JOB_UID}"
        return {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "ReadonlyRootfs": True,
            "Tmpfs": {
                "/tmp": "rw,nosuid,nodev,noexec,size=64m,mode=1777",  # nosec B108  # the container's own
                INPUT_DIR: f"rw,nosuid,nodev,noexec,size=1m,mode=0700,{place}",
            },
        }
    return {
        "CapDrop": ["MKNOD", "NET_RAW"],
        "SecurityOpt": [f"seccomp={json.dumps(BROWSER_PROFILE, separators=(',', ':'))}"],
        "Privileged": False,
        "ReadonlyRootfs": False,
        "ShmSize": _BROWSER_SHM_BYTES,
    }

"""How a job's container is made, as data: pure, so that hardening and the way of secrets can be tested.

Our own images run without any privilege and get their secrets through standard input: neither
`docker inspect` nor the volume ever holds them. Images of others run with the profile that they need;
docs/backends-docker.md tells what that is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from offloader.errors import LaunchFailed
from offloader.secrets import masked

DATA_DIR: Final = "/data"
MODELS_DIR: Final = "/models"
OWN_FILES_DIR: Final = f"{DATA_DIR}/.offloader"
"""What the service itself keeps in a job's volume."""
CA_PATH: Final = f"{OWN_FILES_DIR}/ca.pem"
SECRETS_DIR: Final = "/run/job"
TOKEN_PATH: Final = f"{SECRETS_DIR}/auth_token"
JOB_UID: Final = 10001
"""User and group of our images, which own /data in them."""
LIVE_CPU_SHARES: Final = 1024
POST_CALL_CPU_SHARES: Final = 102
"""Post-call work gets about a tenth of what a live job next to it gets."""
_LONGEST_VARIABLE_BYTES: Final = 128 * 1024 - 1
"""MAX_ARG_STRLEN, execve(2); the engine would start the container, and nothing would run in it."""
_LOG_FILES: Final = 4
_BROWSER_SHM_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """Everything that a launch hands to the engine."""

    reference: Reference
    body: Mapping[str, Any]
    """Of `POST /containers/create` (Docker Engine API 1.41). Holds secrets for images of others only."""
    secrets: Mapping[str, str] = field(repr=False)
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
    for name, text in variables.items():
        if len(f"{name}={text}".encode()) > _LONGEST_VARIABLE_BYTES:
            raise LaunchFailed(
                f"the variable {name} is too long: at most {_LONGEST_VARIABLE_BYTES} bytes with its name"
            )
    fixed = {"DATA_DIR": DATA_DIR}
    if own or options.docker.models_dir:
        fixed["MODELS_DIR"] = MODELS_DIR
    open_variables = {**variables, **fixed}
    secrets: dict[str, str] = {}
    if own:
        secrets = {name: text for name, text in variables.items() if is_secret(name, text)}
        open_variables = {n: text for n, text in open_variables.items() if n not in secrets}
        open_variables |= {"AUTH_TOKEN_FILE": TOKEN_PATH, "HOME": "/tmp"}
        if secrets:
            open_variables["JOB_SECRETS"] = "stdin"
    body = {
        "Image": reference.image,
        "Env": [f"{name}={text}" for name, text in open_variables.items()],
        "Cmd": list(command),
        "Labels": labels(reference, options),
        "StopTimeout": int(options.stop_grace_s),
        "OpenStdin": bool(secrets),
        "StdinOnce": bool(secrets),
        "AttachStdin": bool(secrets),
        "HostConfig": {**_common_host_config(reference, options), **_profile(own)},
    }
    if own:
        body["User"] = f"{JOB_UID}:{JOB_UID}"
    return ContainerPlan(reference, body, secrets)


def is_secret(name: str, text: str) -> bool:
    """Whether the service would mask it: tokens, keys, passwords, also those within URLs."""
    return bool(masked({name: text})[name] != text)


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


def secrets_document(plan: ContainerPlan) -> bytes:
    """What the job's container reads from standard input until its end (docs/job-contract.md 1)."""
    return json.dumps(dict(plan.secrets)).encode()


def _common_host_config(reference: Reference, options: DockerOptions) -> dict[str, Any]:
    mounts = [
        {
            "Type": "volume",
            "Source": reference.volume,
            "Target": DATA_DIR,
        }
    ]
    binds = [f"{options.docker.models_dir}:{MODELS_DIR}:ro"] if options.docker.models_dir else []
    shares = POST_CALL_CPU_SHARES if reference.salvage else LIVE_CPU_SHARES
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
        "CpuShares": shares,
        "PidsLimit": options.docker.pids,
        "LogConfig": {
            "Type": "json-file",
            "Config": {
                "max-size": str(max(options.docker.log_max_bytes // _LOG_FILES, 4096)),
                "max-file": str(_LOG_FILES),
            },
        },
    }


def _profile(own: bool) -> dict[str, Any]:
    if own:
        place = f"uid={JOB_UID},gid={JOB_UID}"
        return {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "ReadonlyRootfs": True,
            "Tmpfs": {
                "/tmp": "rw,nosuid,nodev,noexec,size=64m,mode=1777",
                SECRETS_DIR: f"rw,nosuid,nodev,noexec,size=64k,mode=0700,{place}",
            },
        }
    return {
        "CapDrop": ["MKNOD", "NET_RAW"],
        "SecurityOpt": [f"seccomp={json.dumps(BROWSER_PROFILE, separators=(',', ':'))}"],
        "Privileged": False,
        "ReadonlyRootfs": False,
        "ShmSize": _BROWSER_SHM_BYTES,
    }

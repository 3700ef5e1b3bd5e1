"""Has nodes pull the jobs' images before the first job comes: by a Job with a pod per node that does nothing.

Where pods of jobs may run is known to the scheduler alone, and a namespace's Role shows no nodes; so as many
pods are asked for as the admin says, no two on one node. Those that find none are left waiting, and go with
the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.kubernetes.api import JOBS, PODS, ApiError, KubernetesApi
from offloader.backends.kubernetes.launching import delete_job
from offloader.backends.kubernetes.manifest import container_security, pod_security
from offloader.backends.kubernetes.merging import merged
from offloader.backends.kubernetes.observation import image_problem
from offloader.backends.kubernetes.options import CONTAINER, KubernetesOptions
from offloader.backends.runner_images import PROGRAMS
from offloader.errors import BackendError
from offloader.models import JobType

PULL_LABEL: Final = "calls-offloader.prepull"
"""Not one of a job's labels: nobody takes these pods for jobs, no disruption budget counts them."""
LIMIT_S: Final = 110.0
"""The plugin waits two minutes (calls-plugin.md 6.1)."""
_EVERY_S: Final = 1.0
_AGAIN_S: Final = 20.0
"""A node that could not pull tries again; so long it may."""
_PULLED: Final = "pulled"
_HOMELESS: Final = "homeless"
_DEADLINE_S: Final = 900
"""A pull that takes longer than the plugin waits goes on for so long."""
_WHERE: Final = (
    *("nodeSelector", "tolerations", "imagePullSecrets", "runtimeClassName", "schedulerName"),
    *("serviceAccountName", "priorityClassName"),
)
"""What of the admin's pod template says where a job runs, and what it may pull."""

log = get_logger()


async def prepull(api: KubernetesApi, options: KubernetesOptions, runners: Sequence[str]) -> None:
    """Pull the images of `runners` on `prepull_nodes` nodes; what takes too long goes on by itself.

    Raises:
        BackendError: an image cannot be had, or the server cannot be asked; the text says which and why.
    """
    if not options.kubernetes.prepull_nodes:
        return
    wanted = {
        (kind, options.images.image(runner, kind)) for runner in runners for kind in _kinds(runner)
    }
    pulls = [_pull(api, options, job_type, image) for job_type, image in sorted(wanted)]
    results = await asyncio.gather(*pulls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def pull_manifest(options: KubernetesOptions, job_type: JobType, image: str) -> dict[str, Any]:
    """The Job for one image: on nodes that take jobs of that type."""
    settings = options.kubernetes
    nodes = settings.prepull_nodes
    name = _name(options, job_type, image)
    marks = {PULL_LABEL: name}
    template = settings.pod_templates.get(job_type, {})
    given = merged(
        {"tolerations": [dict(t) for t in settings.tolerations]}, template.get("spec") or {}
    )
    spec: dict[str, Any] = {key: given[key] for key in _WHERE if key in given}
    affinity = {
        key: part for key, part in (given.get("affinity") or {}).items() if key == "nodeAffinity"
    }
    affinity["podAntiAffinity"] = {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": marks}, "topologyKey": "kubernetes.io/hostname"}
        ]
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/true"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": container_security(options),
    }
    spec |= {
        "containers": [container],
        "restartPolicy": "Never",
        "affinity": affinity,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    if options.restricted:
        spec["securityContext"] = pod_security()
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": marks},
        "spec": {
            "parallelism": nodes,
            "completions": nodes,
            "backoffLimit": 0,
            "activeDeadlineSeconds": _DEADLINE_S,
            "ttlSecondsAfterFinished": 60,
            "template": {"metadata": {"labels": marks}, "spec": spec},
        },
    }


async def _pull(
    api: KubernetesApi, options: KubernetesOptions, job_type: JobType, image: str
) -> None:
    manifest = pull_manifest(options, job_type, image)
    name = manifest["metadata"]["name"]
    try:
        made: Mapping[str, Any] | None = await api.create(JOBS, manifest)
    except ApiError as error:
        if error.status != 409:
            raise
        made = await api.get(JOBS, name)  # another replica's, or of a pull that goes on
    if made is None:
        return
    try:
        async with asyncio.timeout(LIMIT_S):
            pulled = await _until_pulled(api, made, options.kubernetes.prepull_nodes)
    except TimeoutError:
        log.warning("image.pulled_slowly", image=image, limit_s=LIMIT_S)
        return
    except BackendError as error:
        await delete_job(api, made)
        raise BackendError(f"{image}: {error}") from error
    await delete_job(api, made)
    log.info("image.pulled", image=image, nodes=pulled)


async def _until_pulled(api: KubernetesApi, job: Mapping[str, Any], nodes: int) -> int:
    """On how many nodes it is, when all have it that take a pod and can.

    Raises:
        BackendError: on none of those that tried; with what the first of them says.
    """
    name = job["metadata"]["name"]
    now_s = asyncio.get_running_loop().time
    patient_until_s = now_s() + _AGAIN_S
    while True:
        pods = (await api.list(PODS, selector=f"{PULL_LABEL}={name}")).get("items") or []
        states = [_state(pod) for pod in pods]
        pulled = states.count(_PULLED)
        problems = [state for state in states if state not in ("", _PULLED, _HOMELESS)]
        settled = len(pods) >= nodes and all(states)
        if settled and not problems:
            return pulled
        if settled and now_s() >= patient_until_s:
            if not pulled:
                raise BackendError(problems[0])
            log.warning("image.not_pulled", job=name, nodes=len(problems), reason=problems[0])
            return pulled
        if _is_over(await api.get(JOBS, name)):
            return pulled
        await asyncio.sleep(_EVERY_S)


def _state(pod: Mapping[str, Any]) -> str:
    """Pulled; homeless: no node takes it; why it cannot be pulled; or nothing yet."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        if "terminated" in state or "running" in state:
            return _PULLED  # also where it has no such program
        if problem := image_problem(state.get("waiting") or {}):
            return problem
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _HOMELESS
    return ""


def _is_over(job: Mapping[str, Any] | None) -> bool:
    """Whoever began it has ended it, or its pods are of no use."""
    if job is None:
        return True
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Failed" and c.get("status") == "True" for c in conditions)


def _kinds(runner: str) -> list[JobType]:
    """Which jobs run it, as far as its name tells."""
    named = [kind for kind, program in PROGRAMS.items() if program in runner]
    return named or list(JobType)


def _name(options: KubernetesOptions, job_type: JobType, image: str) -> str:
    parts = (options.kubernetes.instance, str(options.kubernetes.prepull_nodes), image)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return f"calls-prepull-{PROGRAMS[job_type]}-{digest}"

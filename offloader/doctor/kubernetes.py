"""Step `kubernetes`: the API server, the service's rights, the namespace, the claims."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from offloader.doctor.docker import not_here
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.step import Context, Step
from offloader.setting_kubernetes import KubernetesSettings

if TYPE_CHECKING:
    from offloader.backends.kubernetes.api import KubernetesApi

_WHAT: Final = "Kubernetes API"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_CLAIMS: Final = "/api/v1/namespaces/{namespace}/persistentvolumeclaims"
_LEAST_MINOR: Final = 25
_BETTER_MINOR: Final = 29
_CLOCK_S: Final = 5.0
RIGHTS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("batch", "jobs", ("create", "get", "list", "watch", "patch", "delete")),
    ("", "pods", ("list", "watch", "delete")),
    ("", "pods/log", ("get",)),
    ("", "secrets", ("create", "delete")),
)
"""API group, resource, verbs: the Role of docs/kubernetes.md."""


async def look(context: Context) -> Sequence[Finding]:
    """Whether jobs can run on the cluster; skipped where they do not."""
    jobs = context.settings.jobs
    if context.backend != "kubernetes":
        return [skipped("kubernetes_not_used", _WHAT, not_here(context))]
    from offloader.backends.kubernetes.api import ApiError, KubernetesApi
    from offloader.errors import BackendError

    own = jobs.kubernetes
    api = KubernetesApi(
        kubeconfig=own.kubeconfig, namespace=own.namespace, environ=dict(context.environ)
    )
    try:
        address = await api.address()
        version = await api.get("", "version") or {}
        found = [_version(address, version), *_clock(api)]
        found += await _rights(api)
        found += await _namespace(api, address.rpartition(" ")[2])
        found += await _claims(api, own)
    except ApiError as error:
        return [_unreachable(str(error), denied=error.status in (401, 403))]
    except BackendError as error:
        return [_unreachable(str(error), denied=False)]
    finally:
        await api.aclose()
    return found


def _unreachable(text: str, *, denied: bool) -> Finding:
    if denied:
        return failure(
            "kubernetes_denied",
            _WHAT,
            text,
            cause="the API server does not take this account's credentials",
            fix=("kubectl auth whoami", "automountServiceAccountToken: true on the service's pod"),
        )
    return failure(
        "kubernetes_unreachable",
        _WHAT,
        text,
        cause="no job can start: API server, kubeconfig, NetworkPolicy, or a proxy in between",
        fix=("kubectl get --raw /version", "NO_PROXY: the API server's address", "KUBECONFIG=FILE"),
    )


def _version(address: str, version: dict[str, object]) -> Finding:
    minor = int(re.sub(r"\D.*", "", str(version.get("minor", ""))) or 0)
    shown = f"{version.get('gitVersion', 'unknown version')} at {address.rpartition(' ')[0]}"
    data = {"version": version.get("gitVersion")}
    if minor and minor < _LEAST_MINOR:
        return warning(
            "kubernetes_old",
            _WHAT,
            shown,
            cause=f"1.{_LEAST_MINOR} and later is meant: Jobs may end without being told of",
            fix=("upgrade the cluster",),
            data=data,
        )
    if minor and minor < _BETTER_MINOR:
        return note(
            "kubernetes_before_129",
            _WHAT,
            shown,
            cause="a stopped job counts as ended a moment before its pod has ended",
            data=data,
        )
    return ok("kubernetes_version", _WHAT, shown, data=data)


def _clock(api: KubernetesApi) -> list[Finding]:
    server = api.server_now()
    if server is None:
        return []
    off_s = (datetime.fromtimestamp(time.time(), UTC) - server).total_seconds()
    if abs(off_s) <= _CLOCK_S:
        return []
    return [
        note(
            "kubernetes_clock",
            "clock of the API server",
            f"{off_s:+.0f} s from this one",
            cause="jobs' deadlines go by the server's; logs of the two do not fit together",
            fix=("timedatectl",),
            data={"off_s": round(off_s)},
        )
    ]


async def _rights(api: KubernetesApi) -> list[Finding]:
    asked = [(group, resource, verb) for group, resource, verbs in RIGHTS for verb in verbs]
    answers = await asyncio.gather(*(_may(api, *right) for right in asked))
    missing = [right for right, may in zip(asked, answers, strict=True) if not may]
    if not missing:
        return [ok("kubernetes_rights", "rights", f"{len(asked)} of {len(asked)}")]
    return [
        failure(
            "kubernetes_right_missing",
            "rights",
            ", ".join(f"{verb} {resource}" for _, resource, verb in missing),
            cause="the service's Role lacks them: jobs do not start, or are never seen to end",
            fix=tuple(_rule(group, resource, verbs) for group, resource, verbs in RIGHTS),
            data={"missing": [f"{verb} {resource}" for _, resource, verb in missing]},
        )
    ]


def _rule(group: str, resource: str, verbs: Sequence[str]) -> str:
    named = group or '""'
    return f"- {{apiGroups: [{named}], resources: [{resource}], verbs: [{', '.join(verbs)}]}}"


async def _may(api: KubernetesApi, group: str, resource: str, verb: str) -> bool:
    """By a SelfSubjectAccessReview, which everybody may ask."""
    name, _, sub = resource.partition("/")
    namespace = (await api.address()).rpartition(" ")[2]
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes | ({"subresource": sub} if sub else {})},
    }
    answer = await api.create(_REVIEWS, body)
    return bool((answer.get("status") or {}).get("allowed"))


async def _namespace(api: KubernetesApi, name: str) -> list[Finding]:
    from offloader.backends.kubernetes.api import ApiError

    try:
        there = await api.get("/api/v1/namespaces", name) is not None
    except ApiError as error:
        if error.status != 403:
            raise
        why = "the service may not look at namespaces, and need not"
        return [skipped("kubernetes_namespace_unseen", f"namespace {name}", why)]
    if there:
        return [ok("kubernetes_namespace", "namespace", name)]
    return [
        failure(
            "kubernetes_no_namespace",
            "namespace",
            name,
            cause="there is none of that name: no job can start",
            fix=(f"kubectl create namespace {name}", "K8S_NAMESPACE=NAME"),
        )
    ]


async def _claims(api: KubernetesApi, own: KubernetesSettings) -> list[Finding]:
    from offloader.backends.kubernetes.api import ApiError

    found: list[Finding] = []
    for key, name in (
        ("persistent_volume_claim_name", own.claim),
        ("models_claim_name", own.models_claim),
    ):
        what = f"jobs.kubernetes.{key}"
        if not name:
            continue
        try:
            claim = await api.get(_CLAIMS, name)
        except ApiError as error:
            if error.status != 403:
                raise
            why = "the service may not look at claims: kubectl get pvc " + name
            found.append(skipped("kubernetes_claim_unseen", what, why))
            continue
        phase = ((claim or {}).get("status") or {}).get("phase", "missing")
        if phase == "Bound":
            found.append(ok("kubernetes_claim", what, f"{name}: {phase}"))
        else:
            found.append(
                failure(
                    "kubernetes_claim_unbound",
                    what,
                    f"{name}: {phase}",
                    cause="pods wait for it, and jobs are given up after jobs.kubernetes.start_timeout_s",
                    fix=(f"kubectl describe pvc {name}",),
                )
            )
    return found


KUBERNETES: Final = Step("kubernetes", "Kubernetes", look, timeout_s=45)

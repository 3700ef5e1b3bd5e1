"""The Role gives the kubernetes backend what it asks for, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

BACKEND = Path(__file__).parents[2] / "offloader/backends/kubernetes"
RESOURCES = {"JOBS": ("batch", "jobs"), "PODS": ("", "pods"), "SECRETS": ("", "secrets")}
Right = tuple[str, str, str]


def granted(role: dict[str, Any]) -> set[Right]:
    """Group, resource, verb."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked_for() -> set[Right]:
    """By the calls in the backend's code: `api.verb(COLLECTION`, mirrors of a collection, streams of logs."""
    code = "\n".join(path.read_text() for path in sorted(BACKEND.glob("*.py")))
    calls = re.findall(
        r"api\.(get|list|create|patch|delete)\(\s*(?:self\._)?(JOBS|PODS|SECRETS)\b", code
    )
    found = {(*RESOURCES[name], verb) for verb, name in calls}
    mirrors = re.findall(r"\bMirror\(\s*[\w.]+,\s*(JOBS|PODS|SECRETS)\b", code)
    assert mirrors, "how the backend watches has changed: so must this test"
    found |= {(*RESOURCES[name], verb) for name in mirrors for verb in ("list", "watch")}
    assert 'stream(f"{PODS}/{pod}/log"' in code
    return found | {("", "pods/log", "get")}


@pytest.mark.slow
def test_the_role_is_what_the_backend_asks_for(rendered: Any, one: Any) -> None:
    assert granted(one(rendered("offloader-defaults"), "Role")) == asked_for()


@pytest.mark.slow
def test_secrets_are_neither_read_nor_listed(rendered: Any, one: Any) -> None:
    rights = granted(one(rendered("offloader-defaults"), "Role"))
    assert {verb for _, resource, verb in rights if resource == "secrets"} == {"create", "delete"}


@pytest.mark.slow
def test_the_sfu_has_no_rights_and_no_token(rendered: Any) -> None:
    for case in ("rtcd-defaults", "rtcd-daemonset"):
        assert not [o for o in rendered(case) if o["kind"] in ("Role", "RoleBinding")]
        for workload in [o for o in rendered(case) if o["kind"] in ("Deployment", "DaemonSet")]:
            assert workload["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.slow
def test_with_workers_nobody_has_rights_or_a_token(rendered: Any) -> None:
    objects = rendered("offloader-workers")
    assert not [o for o in objects if o["kind"] in ("Role", "RoleBinding")]
    for workload in [o for o in objects if o["kind"] == "Deployment"]:
        assert workload["spec"]["template"]["spec"]["automountServiceAccountToken"] is False

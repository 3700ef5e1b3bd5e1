"""Step `kubernetes` on an API server of a few routes: what is allowed, there and bound is up to the test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.kubernetes import look
from offloader.doctor.step import Context

One = Callable[[Sequence[Finding], str], Finding]


@dataclass
class Cluster:
    """What the API server knows."""

    kubeconfig: str = ""
    minor: str = "31"
    denied: set[str] = field(default_factory=set)
    """`verb resource` that the account may not."""
    namespaces: int = 200
    claim_phase: str = "Bound"
    unauthorized: bool = False
    ahead_s: float = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        if self.unauthorized:
            return self._json({"message": "Unauthorized"}, 401)
        if path == "/version":
            return self._json({"minor": self.minor, "gitVersion": f"v1.{self.minor}.0"})
        if path.endswith("/selfsubjectaccessreviews"):
            asked = (await request.json())["spec"]["resourceAttributes"]
            name = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            allowed = asked["namespace"] == "calls" and f"{asked['verb']} {name}" not in self.denied
            return self._json({"status": {"allowed": allowed}}, 201)
        if path == "/api/v1/namespaces/calls":
            return self._json({"message": "namespaces"}, self.namespaces)
        if path.endswith("/persistentvolumeclaims/recordings"):
            if not self.claim_phase:
                return self._json({"message": "no such claim"}, 404)
            if self.claim_phase == "forbidden":
                return self._json({"message": "claims are forbidden"}, 403)
            return self._json({"status": {"phase": self.claim_phase}})
        return self._json({"message": f"no route {path}"}, 404)

    def _json(self, document: object, status: int = 200) -> web.Response:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=self.ahead_s), usegmt=True)
        return web.json_response(document, status=status, headers={"Date": date})


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.kubeconfig = str(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    yield made
    await runner.cleanup()


def kubeconfig(directory: Path, server: str) -> Path:
    named = {"name": "it", "context": {"cluster": "it", "user": "it"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [named],
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": {"token": "hidden-token"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def looked(
    examined: Callable[..., Context], cluster: Cluster
) -> Callable[..., Awaitable[Sequence[Finding]]]:
    async def run(**environ: str) -> Sequence[Finding]:
        own = {
            "JOBS_APITYPE": "kubernetes",
            "K8S_NAMESPACE": "calls",
            "KUBECONFIG": cluster.kubeconfig,
        }
        return await look(examined(**(own | environ)))

    return run


Looked = Callable[..., Awaitable[Sequence[Finding]]]


async def test_elsewhere_it_is_skipped(examined: Callable[..., Context], one: One) -> None:
    assert one(await look(examined()), "kubernetes_not_used").verdict is Verdict.SKIPPED


async def test_a_cluster_with_all_rights_is_ok(looked: Looked) -> None:
    found = await looked()
    assert [f.code for f in found] == [
        "kubernetes_version",
        "kubernetes_rights",
        "kubernetes_namespace",
    ]
    assert found[1].value == "12 of 12"
    assert "hidden-token" not in str([f.document() for f in found])


@pytest.mark.parametrize(
    ("minor", "code", "verdict"),
    [("24+", "kubernetes_old", Verdict.WARNING), ("28", "kubernetes_before_129", Verdict.NOTE)],
)
async def test_an_older_cluster_is_told(
    minor: str, code: str, verdict: Verdict, looked: Looked, cluster: Cluster, one: One
) -> None:
    cluster.minor = minor
    assert one(await looked(), code).verdict is verdict


async def test_each_right_that_lacks_is_named_with_the_role(
    looked: Looked, cluster: Cluster, one: One
) -> None:
    cluster.denied = {"patch jobs", "get pods/log"}
    found = one(await looked(), "kubernetes_right_missing")
    assert found.data == {"missing": ["patch jobs", "get pods/log"]}
    assert found.fix[0] == (
        "- {apiGroups: [batch], resources: [jobs], verbs: [create, get, list, watch, patch, delete]}"
    )
    assert found.fix[1] == '- {apiGroups: [""], resources: [pods], verbs: [list, watch, delete]}'


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (404, "kubernetes_no_namespace", Verdict.FAILURE),
        (403, "kubernetes_namespace_unseen", Verdict.SKIPPED),
    ],
)
async def test_the_namespace_has_to_be_there_as_far_as_it_can_be_seen(
    status: int, code: str, verdict: Verdict, looked: Looked, cluster: Cluster, one: One
) -> None:
    cluster.namespaces = status
    assert one(await looked(), code).verdict is verdict


@pytest.mark.parametrize(
    ("phase", "code", "verdict"),
    [
        ("Bound", "kubernetes_claim", Verdict.OK),
        ("Pending", "kubernetes_claim_unbound", Verdict.FAILURE),
        ("", "kubernetes_claim_unbound", Verdict.FAILURE),
        ("forbidden", "kubernetes_claim_unseen", Verdict.SKIPPED),
    ],
)
async def test_a_claim_has_to_be_bound(
    phase: str, code: str, verdict: Verdict, looked: Looked, cluster: Cluster, one: One
) -> None:
    cluster.claim_phase = phase
    found = await looked(JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME="recordings")
    assert one(found, code).verdict is verdict


async def test_another_clock_is_a_note(looked: Looked, cluster: Cluster, one: One) -> None:
    cluster.ahead_s = 60.0
    assert one(await looked(), "kubernetes_clock").data["off_s"] == pytest.approx(-60, abs=3)


async def test_credentials_that_are_not_taken_are_a_failure(
    looked: Looked, cluster: Cluster, one: One
) -> None:
    cluster.unauthorized = True
    assert one(await looked(), "kubernetes_denied").verdict is Verdict.FAILURE


async def test_a_kubeconfig_that_is_none_is_a_failure(
    looked: Looked, tmp_path: Path, one: One
) -> None:
    found = one(await looked(KUBECONFIG=str(tmp_path / "none")), "kubernetes_unreachable")
    assert "kubeconfig cannot be used" in found.value

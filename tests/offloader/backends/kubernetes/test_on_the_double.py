"""The backend against an API server that answers late, wrongly, twice or not at all, and pods that go wrong.

What every backend promises is in tests/contract; these are Kubernetes' own troubles.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
import yaml

from offloader.backends.base import Phase
from offloader.backends.kubernetes.backend import KubernetesBackend
from offloader.errors import BackendError, FilesOutOfReach, LaunchFailed
from offloader.models import JobType
from testbed.kubernetes.objects import Refused
from testbed.kubernetes.server import running_cluster
from testbed.kubernetes.validation import check

ROOT = Path(__file__).parents[4]
FOR_EVER = "echo ready; while true; do sleep 0.02; done"
POLITE = "trap 'echo bye; exit 5' TERM; " + FOR_EVER


@pytest.mark.slow
async def test_a_stopped_jobs_log_and_end_outlive_its_pod_also_for_another_service(
    services,
) -> None:
    backend = services.backend(POLITE)
    workload = await services.launch(backend)
    await services.said(backend, workload, "ready")
    await backend.stop(workload, grace_s=60)
    assert (await services.ended(backend, workload)).exit_code == 5
    await gone(services.cluster, "pods")
    later = services.backend()
    assert (await later.poll(workload)).exit_code == 5
    assert await services.log(later, workload) == "ready\nbye\n"


@pytest.mark.slow
async def test_our_images_find_their_input_in_a_file_and_none_of_it_in_the_environment(
    services,
) -> None:
    ours = json.dumps({"*": "registry.example.com/calls-native-offloader/calls-recorder:v1"})
    backend = services.backend("env; cat $JOB_INPUT_FILE", JOBS_RUNNERIMAGES=ours)
    workload = await services.launch(backend)
    await services.ended(backend, workload)
    *environment, document = (await services.log(backend, workload)).splitlines()
    assert json.loads(document)["AUTH_TOKEN"] == "sesame"
    assert not any("sesame" in line for line in environment)
    again = await backend.retranscribe(
        workload, job_type=JobType.RECORDING, variables={"AUTH_TOKEN": "open"}
    )
    await services.ended(backend, again)
    log = await services.log(backend, again)
    assert json.loads(log.splitlines()[-1]) == {"AUTH_TOKEN": "open"}


@pytest.mark.documents("no-service-account-token")
async def test_in_a_pod_without_a_token_the_error_names_the_service_account(
    make_options, monkeypatch, documented
) -> None:
    in_a_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for name, value in in_a_pod.items():
        monkeypatch.setenv(name, value)  # where the official client looks
    backend = KubernetesBackend(make_options(), environ=in_a_pod)
    with pytest.raises(BackendError) as failed:
        await backend.check_usable()
    documented("no-service-account-token", str(failed.value))
    await backend.aclose()


async def test_a_create_whose_answer_was_lost_makes_one_job(services) -> None:
    services.cluster.fail("POST", "/jobs", lost=True)
    services.cluster.fail("POST", "/secrets", lost=True)
    services.cluster.fail("PATCH", "/jobs", lost=True)
    backend = services.backend("exit 0")
    workload = await services.launch(backend)
    assert (await services.ended(backend, workload)).exit_code == 0
    assert services.cluster.requests["POST jobs"] == 2
    assert len(services.cluster.objects.all("jobs")) == 1


@pytest.mark.slow
async def test_a_forgotten_version_is_listed_again_and_a_broken_watch_only_goes_on(
    services,
) -> None:
    cluster = services.cluster
    backend = services.backend(FOR_EVER)
    workload = await services.launch(backend)
    await services.said(backend, workload, "ready")
    lists = cluster.requests["GET pods"]
    cluster.drop_watches()
    await backend.stop(workload, grace_s=1)
    assert (await services.ended(backend, workload)).exit_code == 143
    assert cluster.requests["GET pods"] == lists
    cluster.objects.forget_history()
    second = await services.launch(backend)
    await services.said(backend, second, "ready")
    assert cluster.requests["GET pods"] > lists


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_overloaded_server_is_asked_again(services, status) -> None:
    for method in ("POST", "PATCH", "GET"):
        services.cluster.fail(method, "/", status, times=2, retry_after_s=0)
    backend = services.backend("exit 0")
    workload = await services.launch(backend)
    assert (await services.ended(backend, workload)).exit_code == 0
    assert len(services.cluster.objects.all("jobs")) == 1


@pytest.mark.slow
async def test_conflicts_and_slow_answers_only_take_time(services) -> None:
    services.cluster.fail("PATCH", "/jobs", 409, times=2)
    services.cluster.fail("*", "/", delay_s=0.3, times=5)
    backend = services.backend("exit 0")
    workload = await services.launch(backend)
    assert (await services.ended(backend, workload)).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["/jobs", "/secrets"])
@pytest.mark.documents("a-right-that-the-role-lacks")
async def test_a_right_that_is_missing_fails_the_launch_and_leaves_nothing(
    services, part, documented
) -> None:
    services.cluster.fail("POST", part, 403)
    backend = services.backend()
    with pytest.raises(LaunchFailed) as refused:
        await services.launch(backend)
    documented("a-right-that-the-role-lacks", str(refused.value))
    assert services.cluster.objects.all("jobs") == []
    assert services.cluster.objects.all("secrets") == []
    assert await backend.adopt() == {}


@pytest.mark.slow
@pytest.mark.documents("the-kubernetes-api-cannot-be-reached")
async def test_a_server_that_is_gone_makes_no_job_lost(services, documented) -> None:
    cluster = services.cluster
    backend = services.backend("echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done")
    workload = await services.launch(backend)
    await services.said(backend, workload, "ready")
    await cluster.stop()
    assert (await backend.poll(workload)).phase is Phase.RUNNING, "what was seen last"
    newcomer = services.backend()
    with pytest.raises(BackendError) as away:
        await newcomer.poll(workload)
    documented("the-kubernetes-api-cannot-be-reached", str(away.value))
    folder = f"calls-recorder-job-{workload.reference['job_id']}"
    (services.claim_dir / "default" / folder / "data" / "go").touch()
    await cluster.start()
    assert (await services.ended(backend, workload)).exit_code == 0
    async with asyncio.timeout(20):
        while await refused(newcomer.poll(workload)):
            await asyncio.sleep(0.1)
    assert (await services.ended(newcomer, workload)).exit_code == 0


@pytest.mark.slow
async def test_a_log_whose_connections_break_is_kept_once_and_whole(services) -> None:
    lines = "".join(f"line {number}\n" for number in range(300))
    backend = services.backend(
        "n=0; while [ $n -lt 300 ]; do echo line $n; n=$((n+1)); sleep 0.002; done"
    )
    workload = await services.launch(backend)
    for number in (20, 100, 200):
        await services.said(backend, workload, f"line {number}\n")
        services.cluster.drop_watches()
    second = services.backend()
    await second.poll(workload)
    await backend.aclose()  # another service goes on where this one stopped
    await services.ended(second, workload)
    assert await services.log(second, workload) == lines


@pytest.mark.slow
async def test_kubernetes_reasons_reach_the_admin(services) -> None:
    kubelet = services.cluster.kubelet
    backend = services.backend(FOR_EVER)
    too_large, evicted = await services.launch(backend), await services.launch(backend)
    for workload in (too_large, evicted):
        await services.said(backend, workload, "ready")
    kubelet.kill(pod_name(services, too_large), oom=True)
    seen = await services.ended(backend, too_large)
    assert (seen.exit_code, "OOMKilled" in seen.detail) == (137, True)
    kubelet.evict(pod_name(services, evicted), "The node was low on resource: memory.")
    seen = await services.ended(backend, evicted)
    assert (seen.exit_code, "low on resource" in seen.detail) == (137, True)


@pytest.mark.slow
async def test_a_pod_that_cannot_start_says_why_and_is_given_up_for_good(services) -> None:
    images = json.dumps({"*": "registry.example.com/missing:v1"})
    hasty = {"JOBS_KUBERNETES_STARTTIMEOUTS": "3"}
    no_image = services.backend(JOBS_RUNNERIMAGES=images, **hasty)
    workload = await services.launch(no_image)
    await services.until(no_image, workload, Phase.STARTING, detail="ErrImagePull")
    seen = await services.ended(no_image, workload)
    assert (seen.exit_code, "ErrImagePull" in seen.detail) == (None, True)
    await gone(services.cluster, "pods")
    services.cluster.kubelet.nodes = False
    no_node = services.backend(**hasty)
    workload = await services.launch(no_node)
    await services.until(no_node, workload, Phase.STARTING, detail="Insufficient cpu")
    assert "Unschedulable" in (await services.ended(no_node, workload)).detail
    await gone(services.cluster, "pods")
    services.cluster.kubelet.nodes = True
    assert (await services.backend().poll(workload)).exit_code is None


@pytest.mark.slow
async def test_while_no_service_runs_kubernetes_ends_a_job_after_deadline_and_grace(
    tmp_path, services
) -> None:
    async with running_cluster(tmp_path / "fast", second_s=0.001) as cluster:
        services.cluster, kubeconfig = cluster, cluster.kubeconfig(tmp_path / "fast.yaml")
        environ = {"KUBECONFIG": str(kubeconfig)}
        first = services.backend(FOR_EVER, **environ)
        workload = await services.launch(first, max_duration_s=600)
        await first.aclose()
        later = services.backend(**environ)
        seen = await services.ended(later, workload)
        assert (seen.phase, "DeadlineExceeded" in seen.detail) == (Phase.EXITED, True)
        await later.aclose()


@pytest.mark.slow
@pytest.mark.documents("files-on-an-emptydir", "files-on-a-claim-that-is-not-mounted")
async def test_without_a_claim_files_and_retries_answer_why(services, documented) -> None:
    none = {
        "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": "",
        "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR": "",
    }
    backend = services.backend("touch $DATA_DIR/file", **none)
    workload = await services.launch(backend)
    seen = await services.ended(backend, workload)
    assert (seen.exit_code, seen.unpublished) == (0, False)
    with pytest.raises(BackendError) as gone_with_it:
        await backend.artifacts(workload)
    documented("files-on-an-emptydir", str(gone_with_it.value))
    with pytest.raises(BackendError, match="emptyDir"):
        await backend.salvage(workload, job_type=JobType.RECORDING, variables={})
    await backend.erase(workload)  # with the pod
    assert (await backend.poll(workload)).phase is Phase.LOST
    unseen = {"JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR": ""}
    with pytest.raises(BackendError) as not_mounted:
        await services.backend(**unseen).artifacts(workload)
    documented("files-on-a-claim-that-is-not-mounted", str(not_mounted.value))
    for _ in range(2):
        with pytest.raises(FilesOutOfReach, match="does not have mounted"):
            await services.backend(**unseen).remove(workload)


@pytest.mark.slow
async def test_a_job_that_somebody_deleted_is_lost_and_its_result_still_published(
    services,
) -> None:
    script = 'if [ "$0" = salvage ]; then rm -r "$1"; exit 0; fi; '
    script += "mkdir $DATA_DIR/r1; touch $DATA_DIR/r1/job.json; exit 1"
    backend = services.backend(script)
    workload = await services.launch(backend)
    assert (await services.ended(backend, workload)).unpublished
    cluster = services.cluster
    cluster.objects.remove("jobs", cluster.objects.all("jobs")[0])
    seen = await services.until(backend, workload, Phase.LOST)
    assert (seen.detail, seen.unpublished) == ("its Job is gone", True)
    assert list(await services.backend(script).adopt()) == [workload.reference["job_id"]]
    attempt = await backend.salvage(workload, job_type=JobType.RECORDING, variables={})
    assert (await services.ended(backend, attempt)).exit_code == 0
    assert not (await backend.poll(workload)).unpublished


@pytest.mark.slow
async def test_a_pod_that_was_not_seen_yet_is_looked_for_before_its_job_is_lost(services) -> None:
    backend = services.backend("exit 7")
    services.cluster.fail("GET", "/pods?watch", delay_s=3)
    workload = await services.launch(backend)
    seen = await services.ended(backend, workload)
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, marks=pytest.mark.documents("a-kubeconfig-that-leads-nowhere")),
        *("", "{", "- a list", "apiVersion: v1\nkind: Config"),
    ],
)
async def test_a_kubeconfig_that_leads_nowhere_is_named(
    services, tmp_path, text, documented
) -> None:
    path = tmp_path / "wrong"
    if text is not None:
        path.write_text(text)
    backend = services.backend(KUBECONFIG=str(path))
    with pytest.raises(BackendError, match="kubeconfig") as failed:
        await backend.check_usable()
    documented.marked(str(failed.value))


@pytest.mark.slow
async def test_jobs_of_another_installation_are_not_ours(services) -> None:
    other = services.backend(FOR_EVER, JOBS_KUBERNETES_INSTANCE="other")
    await services.launch(other)
    assert await services.backend().adopt() == {}, "neither its Jobs nor its folders"


@pytest.mark.slow
async def test_the_restricted_standard_really_admits_the_pods(services, cluster) -> None:
    privileged = services.backend(
        SECURITY_CONTEXT_PRIVILEGED="true", JOBS_KUBERNETES_STARTTIMEOUTS="1"
    )
    workload = await services.launch(privileged)
    assert "Pod Security" in (await services.ended(privileged, workload)).detail
    assert cluster.objects.all("pods") == []


@pytest.mark.slow
async def test_the_role_of_docs_and_chart_holds_the_rights_that_are_used_and_no_others(
    services,
) -> None:
    cluster = services.cluster
    cluster.fail("POST", "/jobs", lost=True)
    cluster.fail("POST", "/secrets", lost=True)
    backend = services.backend(POLITE)
    workload = await services.launch(backend)
    await services.said(backend, workload, "ready")
    await backend.stop(workload, grace_s=60)
    await services.ended(backend, workload)
    await backend.remove(workload)
    await backend.poll(workload)
    assert rights(documented_role()) == cluster.rights
    assert rights(role_of_the_chart()) == cluster.rights


def documented_role():
    text = (ROOT / "docs/kubernetes.md").read_text()
    (role,) = re.findall(r"```yaml\n(rules:.*?)```", text, re.DOTALL)
    return yaml.safe_load(role)


def role_of_the_chart():
    text = (ROOT / "tests/helm/golden/offloader-defaults.yaml").read_text()
    (role,) = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Role"]
    return role


def rights(role) -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


def test_the_double_refuses_what_a_server_refuses() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": "eA=="},
    }
    check("secrets", secret)
    for wrong in ({"dta": {}}, {"metadata": {"name": "S"}}, {"data": {"a": "not base64!"}}):
        with pytest.raises(Refused):
            check("secrets", {**secret, **wrong})


async def refused(answer) -> bool:
    try:
        await answer
    except BackendError:
        return True
    return False


def pod_name(services, workload) -> str:
    names = [pod["metadata"]["name"] for pod in services.cluster.objects.all("pods")]
    return next(name for name in names if str(workload.reference["job_id"]) in name)


async def gone(cluster, plural: str) -> None:
    async with asyncio.timeout(20):
        while cluster.objects.all(plural):
            await asyncio.sleep(0.02)

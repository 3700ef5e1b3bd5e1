"""What the charts render: objects that Kubernetes takes, and the same ones as last time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in (Path(__file__).parent / "values").glob("*.yaml"))
QUICK = ("offloader-defaults", "rtcd-defaults")

Objects = list[dict[str, Any]]
Rendered = Callable[[str], Objects]


def cases_by_tier() -> list[Any]:
    return [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]


@pytest.mark.parametrize("case", cases_by_tier())
def test_every_object_is_one_that_kubernetes_takes(
    case: str, rendered: Rendered, violations: Callable[[Any], list[str]]
) -> None:
    objects = rendered(case)
    found = {f"{o['kind']}/{o['metadata']['name']}": violations(o) for o in objects}
    assert {name: errors for name, errors in found.items() if errors} == {}
    assert len(found) == len(objects), "two objects of one kind and name"


@pytest.mark.parametrize("case", cases_by_tier())
def test_a_case_renders_what_was_reviewed(case: str, helm: Any, cases: Mapping[str, Path]) -> None:
    """After a change that is meant: WRITE_GOLDEN=1 pytest tests/helm, and read the difference."""
    text = helm.text(case.split("-")[0], f"--values={cases[case]}")
    golden = GOLDEN / f"{case}.yaml"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("chart", ["mattermost-calls-offloader", "mattermost-rtcd"])
def test_lint_has_nothing_to_say(chart: str, helm: Any) -> None:
    text = helm.run("lint", "--strict", str(Path(__file__).parents[2] / "helm" / chart))
    assert "WARNING" not in text
    assert "ERROR" not in text


@pytest.mark.parametrize("case", cases_by_tier())
def test_pods_keep_the_restricted_standard_but_for_the_host_network(
    case: str, rendered: Rendered
) -> None:
    for workload in [o for o in rendered(case) if o["kind"] in ("Deployment", "DaemonSet")]:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod.get("hostNetwork", False) is (case in HOST_NETWORK)


HOST_NETWORK = ("rtcd-defaults", "rtcd-daemonset", "rtcd-ingress-tls", "rtcd-from-predecessor")


@pytest.mark.parametrize("case", cases_by_tier())
def test_what_names_a_thing_names_one_that_is_there(case: str, rendered: Rendered) -> None:
    """Selectors find the pods, ports and Services by their names, volumes the claims that are made."""
    objects = rendered(case)
    workloads = [o for o in objects if o["kind"] in ("Deployment", "DaemonSet")]
    for workload in workloads:
        template = workload["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
        (container,) = template["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
    (served,) = [o for o in workloads if "workers" not in str(o["spec"]["selector"])]
    labels = served["spec"]["template"]["metadata"]["labels"]
    ports = {p["name"] for p in served["spec"]["template"]["spec"]["containers"][0]["ports"]}
    services = {o["metadata"]["name"]: o for o in objects if o["kind"] == "Service"}
    assert services
    for service in services.values():
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for ingress in [o for o in objects if o["kind"] == "Ingress"]:
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                named = {p["name"] for p in services[backend["name"]]["spec"]["ports"]}
                assert backend["port"]["name"] in named
    for monitor in [o for o in objects if o["kind"] == "ServiceMonitor"]:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (found,) = [s for s in services.values() if wanted <= s["metadata"]["labels"].items()]
        named = {p["name"] for p in found["spec"]["ports"]}
        assert {e["port"] for e in monitor["spec"]["endpoints"]} <= named


@pytest.mark.slow
def test_two_releases_in_a_namespace_share_no_name_and_no_jobs(helm: Any, one: Any) -> None:
    first, second = (helm.objects("offloader", release=release) for release in ("one", "two"))
    names = [{(o["kind"], o["metadata"]["name"]) for o in objects} for objects in (first, second)]
    assert not names[0] & names[1]
    budgets = [
        one(objects, f"PodDisruptionBudget/{release}-mattermost-calls-offloader-jobs")
        for objects, release in ((first, "one"), (second, "two"))
    ]
    assert budgets[0]["spec"]["selector"] != budgets[1]["spec"]["selector"]


@pytest.mark.slow
@pytest.mark.parametrize("chart", ["offloader", "rtcd"])
def test_names_of_long_releases_stay_names(
    chart: str, helm: Any, violations: Callable[[Any], list[str]]
) -> None:
    release = "a-release-with-a-name-that-is-as-long-as-helm-allows-it"[:53].rstrip("-")
    for thing in helm.objects(chart, release=release):
        assert len(thing["metadata"]["name"]) <= 63
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", thing["metadata"]["name"])
        assert violations(thing) == []


@pytest.mark.slow
def test_all_images_come_from_the_registry_that_one_value_names(helm: Any, one: Any) -> None:
    objects = helm.objects("offloader", "--set=global.imageRegistry=registry.local:5000")
    text = str(objects)
    images = re.findall(r"[\w.:/-]*calls-native-offloader/[\w-]+:v[\d.]+", text)
    assert len(images) == 3
    assert all(image.startswith("registry.local:5000/calls-native") for image in images)


@pytest.mark.slow
def test_media_never_goes_through_an_ingress(rendered: Rendered, one: Any) -> None:
    for case in ("rtcd-ingress-tls", "rtcd-from-predecessor"):
        ingress = one(rendered(case), "Ingress")
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert path["backend"]["service"]["port"] == {"name": "api"}


@pytest.mark.slow
def test_what_is_left_of_a_drain_is_ended_before_the_kill(
    rendered: Rendered, one: Any, environment: Callable[[Any], dict[str, str]]
) -> None:
    for case, kind in (("rtcd-defaults", "Deployment"), ("rtcd-daemonset", "DaemonSet")):
        workload = one(rendered(case), kind)
        grace_s = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert 0 < grace_s - int(environment(workload)["RTCD_DRAIN_TIMEOUTSECONDS"]) <= 60
    assert (
        one(rendered("rtcd-defaults"), "Deployment")["spec"]["template"]["spec"][
            "terminationGracePeriodSeconds"
        ]
        == 18000
    )


@pytest.mark.slow
def test_alarms_are_those_of_the_file_for_this_release_alone(rendered: Rendered, one: Any) -> None:
    """What they say is tested in tests/monitoring."""
    for case, chart in (
        ("offloader-guarded", "mattermost-calls-offloader"),
        ("rtcd-ingress-tls", "mattermost-rtcd"),
    ):
        rule = one(rendered(case), "PrometheusRule")
        service = one(rendered(case), "ServiceMonitor")["metadata"]["name"] + MONITORED.get(
            case, ""
        )
        file = yaml.safe_load((ROOT / "helm" / chart / "alerts.yaml").read_text())
        text = str(rule["spec"]).replace(f'namespace="chat",service="{service}"', 'job!=""')
        assert text == str(file).replace("docs/monitoring.md#", RUNBOOKS.get(case, "") + "#")


MONITORED = {"rtcd-ingress-tls": "-monitor"}
"""With `service.monitorPort` metrics are those of a Service of their own."""
RUNBOOKS = {
    "offloader-guarded": "https://wiki.example.com/calls",
    "rtcd-ingress-tls": "docs/monitoring.md",
}


@pytest.mark.slow
@pytest.mark.parametrize("chart", ["mattermost-calls-offloader", "mattermost-rtcd"])
def test_dashboards_that_lie_in_a_chart_reach_grafana_as_they_are(
    chart: str, helm: Any, one: Any, violations: Callable[[Any], list[str]], tmp_path: Path
) -> None:
    copy = tmp_path / chart
    shutil.copytree(Path(__file__).parents[2] / "helm" / chart, copy)
    (copy / "dashboards").mkdir(exist_ok=True)
    text = '{"title": "Calls", "legendFormat": "{{ job }}"}\n'
    (copy / "dashboards" / "calls.json").write_text(text)
    rendered = helm.run(
        "template",
        "calls",
        str(copy),
        "--kube-version=1.31.0",
        "--show-only=templates/monitoring.yaml",
        "--set=monitoring.dashboards.enabled=true",
    )
    board = one(list(yaml.safe_load_all(rendered)), "ConfigMap")
    assert board["data"]["calls.json"] == text
    for path in (ROOT / "helm" / chart / "dashboards").glob("*.json"):
        assert board["data"][path.name] == path.read_text()
    assert len(board["data"]) > 1
    assert violations(board) == []
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"

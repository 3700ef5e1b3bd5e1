"""The services start with what the charts tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from offloader.backends.runner_images import RunnerImages
from offloader.models import JobType
from offloader.setting_keys import KEYS
from offloader.settings import read_settings
from offloader.version import BUILD_VERSION
from sfu.settings import KEYS as SFU_KEYS
from sfu.settings import load_settings as load_sfu_settings
from testbed.certificates import make_certificates

CASES = sorted(path.stem for path in (Path(__file__).parent / "values").glob("*.yaml"))
OFFLOADER = [case for case in CASES if case.startswith("offloader")]
SFU = [case for case in CASES if case.startswith("rtcd")]
CHECK = [sys.executable, "-m", "offloader", "config", "check", "--strict", "--config"]
QUICK = ("offloader-defaults", "rtcd-defaults")

Environment = Callable[[Any], dict[str, str]]


def tiers(cases: list[str]) -> list[Any]:
    return [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in cases]


def file_of(objects: list[dict[str, Any]], folder: Path) -> Path:
    """The configuration file that the pod would have."""
    path = folder / "config.toml"
    for found in objects:
        if found["kind"] == "ConfigMap" and "config.toml" in found["data"]:
            path.write_text(found["data"]["config.toml"])
    return path


def workload(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the service."""
    both = [o for o in objects if o["kind"] in ("Deployment", "DaemonSet")]
    (found,) = [o for o in both if o not in workers(objects)]
    return found


def workers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        o
        for o in objects
        if o["kind"] == "Deployment" and "calls-offloader.workers" in str(o["spec"]["selector"])
    ]


NO_KEYS = {"OFFLOADER_SECRET_KEY", "POD_IP"}
"""Variables that are no settings, beside the AWS_ ones, which are the bucket's."""


def known() -> set[str]:
    return {key.env for key in KEYS.values()} | NO_KEYS


@pytest.mark.parametrize("case", tiers(OFFLOADER))
def test_the_job_service_takes_every_variable(
    case: str, rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    objects = rendered(case)
    variables = environment(workload(objects))
    assert {name for name in variables if not name.startswith("AWS_")} <= known()
    reading = read_settings(file_of(objects, tmp_path), variables)
    assert [str(problem) for problem in reading.problems] == []
    assert reading.unknown == ()
    settings = reading.settings
    assert settings.jobs.api_type == ("celery" if workers(objects) else "kubernetes")
    (port,) = workload(objects)["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert settings.api.listen_address == f":{port['containerPort']}"
    assert not settings.logger.enable_file


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in OFFLOADER if "workers" in case])
def test_workers_take_every_variable_and_agree_with_the_service(
    case: str, rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    objects = rendered(case)
    ours = environment(workload(objects))
    service = read_settings(tmp_path / "none.toml", ours).settings
    assert service.jobs.max_concurrent_jobs is None, "the workers' places are the limit"
    assert service.jobs.celery.own_url == "http://192.0.2.7:4545"
    found = workers(objects)
    for deployment in found:
        variables = environment(deployment)
        assert {name for name in variables if not name.startswith("AWS_")} <= known()
        reading = read_settings(tmp_path / "none.toml", variables)
        assert [str(problem) for problem in reading.problems] == []
        assert reading.unknown == ()
        settings = reading.settings
        assert settings.worker.url == "http://192.0.2.7:4546"
        assert settings.worker.listen_address == ":4546"
        assert settings.jobs.celery.queue_prefix == service.jobs.celery.queue_prefix
        stages = (settings.jobs.celery.transcribe_stage, service.jobs.celery.transcribe_stage)
        assert stages in ((True, True), (False, False))
        assert settings.jobs.celery.broker_url == service.jobs.celery.broker_url
        assert settings.jobs.network == service.jobs.network or "JOBS_CACERTFILE" in variables
        assert settings.jobs.network.copies_url == service.jobs.network.copies_url != ""
        for name in ("OFFLOADER_SECRET_KEY", "JOBS_CELERY_BROKERURL"):
            entries = [
                next(
                    e
                    for e in o["spec"]["template"]["spec"]["containers"][0]["env"]
                    if e["name"] == name
                )
                for o in (workload(objects), deployment)
            ]
            assert entries[0] == entries[1]
    labels = {
        label
        for deployment in found
        for label in read_settings(
            tmp_path / "none.toml", environment(deployment)
        ).settings.worker.labels
    }
    assert set(service.jobs.celery.labels.values()) <= labels


@pytest.mark.slow
def test_a_group_of_workers_is_the_common_one_but_for_what_it_names(
    rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    by_name = {
        o["metadata"]["name"].removeprefix("calls-mattermost-calls-offloader-"): o
        for o in workers(rendered("offloader-workers"))
    }
    assert by_name.keys() == {"workers", "workers-gpu"}
    common, gpu = (
        read_settings(tmp_path / "none.toml", environment(by_name[name])).settings
        for name in ("workers", "workers-gpu")
    )
    assert (common.worker.slots, common.worker.labels) == (4, ())
    assert (gpu.worker.slots, gpu.worker.transcribe_slots) == (4, 4)
    assert (gpu.worker.labels, gpu.worker.only_labelled) == (("gpu", "eu"), True)
    pods = {name: o["spec"]["template"]["spec"] for name, o in by_name.items()}
    assert pods["workers-gpu"]["nodeSelector"] == {"gpu": "true"}
    assert "nodeSelector" not in pods["workers"]
    assert (by_name["workers"]["spec"]["replicas"], by_name["workers-gpu"]["spec"]["replicas"]) == (
        3,
        1,
    )
    assert pods["workers-gpu"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


@pytest.mark.parametrize("case", tiers(SFU))
def test_the_sfu_takes_every_variable(
    case: str, rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    objects = rendered(case)
    variables = environment(workload(objects))
    assert variables.keys() <= {key.env for key in SFU_KEYS.values()}
    if "RTCD_API_HTTP_TLS_CERTFILE" in variables:  # the SFU looks into them at once
        (container,) = workload(objects)["spec"]["template"]["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert variables["RTCD_API_HTTP_TLS_CERTFILE"] == f"{mounts['tls']}/tls.crt"
        assert variables["RTCD_API_HTTP_TLS_CERTKEY"] == f"{mounts['tls']}/tls.key"
        made = make_certificates(tmp_path / "tls", address="192.0.2.7")
        variables["RTCD_API_HTTP_TLS_CERTFILE"] = str(made.certificate)
        variables["RTCD_API_HTTP_TLS_CERTKEY"] = str(made.key)
    settings = load_sfu_settings(file_of(objects, tmp_path), variables)
    assert settings.unknown_keys == ()
    ports = {
        port["name"]: port["containerPort"]
        for port in workload(objects)["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert settings.listen_port == ports["api"]
    assert (settings.ice_port_udp, settings.ice_port_tcp) == (ports["rtc-udp"], ports["rtc-tcp"])


@pytest.mark.slow
def test_the_service_itself_calls_it_good(
    rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    """`offloader config check --strict`, as a person would, with a file and variables together."""
    objects = rendered("offloader-guarded")
    variables = environment(workload(objects))
    done = subprocess.run(
        [*CHECK, str(file_of(objects, tmp_path))],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        env={**variables, "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout


@pytest.mark.slow
def test_values_of_the_jobs_arrive_where_they_are_used(
    rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    def kubernetes(case: str) -> Any:
        variables = environment(workload(rendered(case)))
        return read_settings(tmp_path / "none.toml", variables).settings.jobs.kubernetes

    nfs = kubernetes("offloader-nfs")
    assert (nfs.claim, str(nfs.claim_dir)) == ("nfs-pvc", "/nfs-data")
    plain = kubernetes("offloader-defaults")
    assert (plain.claim, plain.claim_dir) == ("", None)
    assert plain.instance == "calls-mattermost-calls-offloader"
    offline = kubernetes("offloader-offline-registry")
    assert offline.ca_config_map == ("site-ca", "bundle.pem")
    assert offline.models_claim == "speech-models"
    assert offline.prepull_nodes == 5
    assert plain.prepull_nodes == 0
    for job_type in JobType:
        secrets = offline.pod_templates[job_type]["spec"]["imagePullSecrets"]
        assert secrets == [{"name": "regcred"}]
    bare = kubernetes("offloader-no-claims")
    assert bare.privileged
    assert bare.node_sysctls == (("kernel.unprivileged_userns_clone", "1"),)
    assert bare.tolerations == ({"key": "media", "operator": "Exists"},)
    assert bare.resources == {JobType.RECORDING: {"requests": {"cpu": "2"}}}


@pytest.mark.slow
def test_runners_that_the_plugin_names_become_the_charts_images(
    rendered: Any, environment: Environment, tmp_path: Path
) -> None:
    variables = environment(workload(rendered("offloader-offline-registry")))
    jobs = read_settings(tmp_path / "none.toml", variables).settings.jobs
    images = RunnerImages(jobs.runner_images, jobs.use_reference_images)
    assert images.image("mattermost/calls-recorder:v0.8.0").startswith(
        "registry.example.com:5000/mirror/calls-native-offloader/calls-recorder@sha256:"
    )
    assert (
        images.image("mattermost/calls-transcriber:v0.6.0")
        == "other.example.com/speech/calls-transcriber:v1.0.0-gpu"
    )


def test_the_charts_are_of_this_release() -> None:
    for chart in ("mattermost-calls-offloader", "mattermost-rtcd"):
        path = Path(__file__).parents[2] / "helm" / chart / "Chart.yaml"
        assert yaml.safe_load(path.read_text())["appVersion"] == BUILD_VERSION


@pytest.mark.slow
def test_predecessors_values_mean_what_they_meant(
    rendered: Any, environment: Environment, one: Any
) -> None:
    """An upgrade in place by the values of the charts that these replace: names and selectors stay too."""
    objects = rendered("offloader-from-predecessor")
    deployment = one(objects, "Deployment")
    assert deployment["metadata"]["name"] == "calls-mattermost-calls-offloader"
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "mattermost-calls-offloader",
        "app.kubernetes.io/instance": "calls",
    }
    variables = environment(deployment)
    assert variables["JOBS_MAXCONCURRENTJOBS"] == "20"
    assert variables["JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME"] == "recordings"
    assert variables["JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR"] == "/data"
    assert "transcribing" in json.loads(variables["JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS"])
    names = [e["name"] for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert len(names) == len(set(names)), "a variable stands there twice"
    assert one(objects, "Service")["spec"]["ports"][0]["port"] == 4545
    assert deployment["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == 2000

    objects = rendered("rtcd-from-predecessor")
    deployment = one(objects, "Deployment")
    assert deployment["metadata"]["name"] == "calls-mattermost-rtcd"
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "mattermost-rtcd",
        "app.kubernetes.io/instance": "calls",
    }
    variables = environment(deployment)
    assert variables["RTCD_API_SECURITY_ALLOWSELFREGISTRATION"] == "true"
    assert json.loads(variables["RTCD_RTC_ICESERVERS"]) == [
        {"urls": ["stun:stun.example.com:3478"]}
    ]
    service = one(objects, "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert {p["name"] for p in service["spec"]["ports"]} == {"api", "rtc-udp", "rtc-tcp"}

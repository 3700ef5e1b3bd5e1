"""The objects that a job becomes: golden files, and the rules that they have to keep whatever is set."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from offloader.backends.kubernetes.manifest import job_manifest, secret_manifests
from offloader.backends.kubernetes.options import Reference
from offloader.errors import LaunchFailed
from offloader.models import JobType
from testbed.kubernetes.validation import check, violations

GOLDEN = Path(__file__).parent / "golden"
RECORDING = Reference("0123456789ab", JobType.RECORDING, "registry.example.com/calls:v1")
TRANSCRIBING = Reference("0123456789ab", JobType.TRANSCRIBING, "registry.example.com/calls:v1")
GPU = {
    "transcribing": {
        "metadata": {"annotations": {"team": "calls"}, "labels": {"app": "evil", "team": "calls"}},
        "spec": {
            "priorityClassName": "calls-jobs",
            "runtimeClassName": "nvidia",
            "serviceAccountName": "calls-jobs",
            "nodeSelector": {"gpu": "true"},
            "imagePullSecrets": [{"name": "regcred"}],
            "topologySpreadConstraints": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "maxSkew": 1,
                    "whenUnsatisfiable": "ScheduleAnyway",
                }
            ],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "restartPolicy": "OnFailure",
            "containers": [
                {"name": "job", "resources": {"limits": {"nvidia.com/gpu": 1}}, "env": None},
                {"name": "mesh", "image": "mesh:1"},
            ],
        },
    }
}
CASES = {
    "defaults": (RECORDING, {}),
    "claim": (
        RECORDING,
        {
            "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": "recordings",
            "JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS": "recording: {limits: {cpu: 2}}",
            "JOBS_KUBERNETES_MODELSCLAIMNAME": "models",
            "JOBS_KUBERNETES_CACONFIGMAP": "private-ca/bundle.pem",
            "JOBS_EXTRAHOSTS": "chat.example.com:10.0.0.5",
            "K8S_JOB_POD_TOLERATIONS": '[{"key":"calls","operator":"Exists"}]',
        },
    ),
    "template": (TRANSCRIBING, {"JOBS_KUBERNETES_PODTEMPLATE": yaml.safe_dump(GPU)}),
    "reference": (
        RECORDING,
        {
            "JOBS_USEREFERENCEIMAGES": "true",
            "SECURITY_CONTEXT_PRIVILEGED": "true",
            "JOBS_KUBERNETES_NODESYSCTLS": "kernel.unprivileged_userns_clone=1,vm.swappiness=10",
            "JOBS_FAILEDJOBSRETENTIONTIME": "0",
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_the_golden_ones_and_hold_against_the_published_schema(
    case, make_options
) -> None:
    reference, environ = CASES[case]
    made = manifest(reference, make_options(**environ))
    check("jobs", made)
    text = yaml.safe_dump(made, sort_keys=True)
    golden = GOLDEN / f"{case}.yaml"
    assert text == golden.read_text(), f"if this is meant: {golden.name} has to change"


def test_the_restricted_standard_is_the_default_and_only_the_admin_leaves_it(make_options) -> None:
    for case, (reference, environ) in CASES.items():
        if case != "template":  # there the admin's own second container breaks it
            pod = manifest(reference, make_options(**environ))["spec"]["template"]
            assert bool(violations(pod)) is (case == "reference"), case


def test_no_pod_of_ours_is_told_of_the_namespaces_services(make_options) -> None:
    """Their variables name every Service of the namespace, and come before what a job is told."""
    for case, (reference, environ) in CASES.items():
        pod = manifest(reference, make_options(**environ))["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False, case


def test_node_sysctls_alone_make_nothing_privileged(make_options) -> None:
    options = make_options(JOBS_KUBERNETES_NODESYSCTLS="kernel.unprivileged_userns_clone=1")
    spec = manifest(RECORDING, options)["spec"]["template"]["spec"]
    assert "initContainers" not in spec
    assert not violations({"spec": spec})


@pytest.mark.parametrize(
    ("environ", "ttl_s"),
    [
        ({"JOBS_FAILEDJOBSRETENTIONTIME": "2h"}, 15 * 86400),  # the outbox tries for 14 days
        ({"JOBS_COMPLETEDJOBSRETENTIONTIME": "60d"}, 61 * 86400),
        ({"JOBS_OUTBOXMAXAGE": "0"}, None),
        ({"JOBS_COMPLETEDJOBSRETENTIONTIME": "0"}, None),
        ({"JOBS_FAILEDJOBSRETENTIONTIME": "99999d"}, 2**31 - 1),
    ],
)
def test_kubernetes_removes_a_job_only_when_the_service_should_have_long_ago(
    make_options, environ, ttl_s
) -> None:
    made = manifest(RECORDING, make_options(**environ))
    assert made["spec"].get("ttlSecondsAfterFinished") == ttl_s


def test_the_deadline_leaves_a_stop_its_grace_and_fits_into_its_field(make_options) -> None:
    spec = manifest(RECORDING, make_options())["spec"]
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 3600 + 300
    longest = job_manifest(
        RECORDING, options=make_options(), max_duration_s=2**31 - 1, variables={}, has_ca=False
    )
    assert longest["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 2**31 - 1
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 0)


def test_room_on_the_nodes_disk_is_asked_for_by_bit_rate_and_duration(make_options) -> None:
    variables = {"VIDEO_RATE": "3000", "AUDIO_RATE": "64"}
    made = job_manifest(
        RECORDING,
        options=make_options(),
        max_duration_s=7200,
        variables=variables,
        has_ca=False,
    )
    requests = made["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    expected_bytes = 2 * 3064 * 125 * 7200  # the file and, at its end, its copy
    assert requests["ephemeral-storage"] == f"{-(-expected_bytes // 2**20)}Mi"


def test_what_the_client_sent_is_in_the_secret_and_nowhere_else(make_options) -> None:
    variables = {"AUTH_TOKEN": "sesame", "SITE_URL": "https://chat.example.com"}
    options = make_options()
    job = job_manifest(
        RECORDING, options=options, max_duration_s=60, variables=variables, has_ca=True
    )
    assert "sesame" not in json.dumps(job)
    assert "chat.example.com" not in json.dumps(job)
    of_job, of_ca = secret_manifests(
        RECORDING, variables=variables, ca=b"PEM", owner_uid="u1", options=options
    )
    for secret in (of_job, of_ca):
        check("secrets", secret)
        assert secret["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert set(of_job["data"]) == set(variables), "every key becomes a variable"


def test_our_images_get_one_file_that_their_user_alone_reads_and_goes_with_the_job(
    make_options,
) -> None:
    variables = {"AUTH_TOKEN": "sesame", "SITE_URL": "https://chat.example.com"}
    own = replace(RECORDING, file=True)
    options = make_options()
    job = job_manifest(own, options=options, max_duration_s=60, variables=variables, has_ca=False)
    check("jobs", job)
    assert "sesame" not in json.dumps(job)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "envFrom" not in container
    assert {"name": "JOB_INPUT_FILE", "value": "/run/job/input.json"} in container["env"]
    assert {"name": "input", "mountPath": "/run/job", "readOnly": True} in container["volumeMounts"]
    secret = {"secretName": own.name, "defaultMode": 0o400}
    assert {"name": "input", "secret": secret} in pod["volumes"]
    (made,) = secret_manifests(own, variables=variables, ca=None, owner_uid="u1", options=options)
    check("secrets", made)
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert list(made["data"]) == ["input.json"]
    assert json.loads(base64.b64decode(made["data"]["input.json"])) == variables


@pytest.mark.parametrize(
    ("image", "ours"),
    [
        ("calls-native-offloader/calls-recorder:v1.0.0", True),
        ("registry.example.com/calls-native-offloader/calls-transcriber:v1.0.0", True),
        ("r:5000/calls-native-offloader/calls-recorder@sha256:" + "a" * 64, True),
        ("registry.example.com/calls:v1", False),
        ("mattermost/calls-recorder:v0.8.13", False),
        ("evil-calls-native-offloader/calls-recorder:v1", False),
    ],
)
def test_who_goes_by_our_images_name_gets_a_file(make_options, image: str, ours: bool) -> None:
    assert make_options().gives_file(image) is ours
    assert not make_options(JOBS_USEREFERENCEIMAGES="true").gives_file(image)


def test_a_job_is_finished_by_the_way_in_which_its_own_image_takes_its_input(make_options) -> None:
    """What an earlier release started knows no file, whatever its image is called."""
    own = replace(RECORDING, file=True)
    assert Reference.of(own.workload()) == own
    assert Reference.of_job(manifest(own, make_options())) == own
    assert Reference.of_job(manifest(RECORDING, make_options())) == RECORDING
    saved = {k: v for k, v in own.workload().reference.items() if k != "file"}
    assert not Reference.of(replace(own.workload(), reference=saved)).file


@pytest.mark.documents("a-host-gateway-for-pods")
def test_pods_know_no_host_gateway(make_options, documented) -> None:
    with pytest.raises(LaunchFailed) as refused:
        manifest(RECORDING, make_options(JOBS_EXTRAHOSTS="chat.example.com:host-gateway"))
    documented("a-host-gateway-for-pods", str(refused.value))


def manifest(reference, options):
    return job_manifest(
        reference,
        options=options,
        max_duration_s=3600,
        variables={},
        has_ca=False,
        launch="a-launch",
    )

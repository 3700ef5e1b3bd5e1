"""The container as data: what an engine is told, with no engine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from offloader.backends.docker.container import ContainerPlan, plan_container
from offloader.backends.docker.options import Reference
from offloader.backends.own_input import input_document
from offloader.errors import LaunchFailed
from offloader.models import JobType

TOKEN = "s3cr3ttoken" * 2
SPEECH_KEY = "speechkey123"
VARIABLES = {
    "SITE_URL": "http://mm",
    "WIDTH": "1280",
    "AUTH_TOKEN": TOKEN,
    "TRANSCRIBE_API_OPTIONS": json.dumps({"AZURE_SPEECH_KEY": SPEECH_KEY}),
    "HTTPS_PROXY": "http://user:proxypass@proxy:3128",
}
JOB = Reference("0123456789ab", JobType.RECORDING, "image:1")


@pytest.fixture
def plan(options):
    def make(
        *, own: bool = True, reference: Reference = JOB, variables=VARIABLES, command=(), **environ
    ) -> ContainerPlan:
        return plan_container(
            reference,
            own=own,
            variables=variables,
            command=command,
            options=options(**environ),
        )

    return make


def test_our_images_run_without_any_privilege(plan) -> None:
    body = plan().body
    host = body["HostConfig"]
    assert body["User"] == "10001:10001"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]  # and so the engine's default seccomp
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert "CapAdd" not in host
    assert "Devices" not in host
    assert set(host["Tmpfs"]) == {"/tmp", "/run/job"}
    assert all({"noexec", "nosuid", "nodev"} <= set(o.split(",")) for o in host["Tmpfs"].values())
    assert "uid=10001" in host["Tmpfs"]["/run/job"]
    assert "mode=0700" in host["Tmpfs"]["/run/job"]


def test_nothing_that_the_engine_keeps_holds_what_a_client_sent_to_our_images(plan) -> None:
    made = plan()
    kept = json.dumps(made.body) + repr(made)
    for value in VARIABLES.values():
        assert value not in kept
    assert json.loads(input_document(made.told)) == VARIABLES
    assert (made.body["OpenStdin"], made.body["StdinOnce"]) == (True, True)
    assert set(made.body["Env"]) == {
        *("DATA_DIR=/data", "MODELS_DIR=/models", "HOME=/tmp"),
        *("JOB_SECRETS=stdin", "JOB_INPUT_FILE=/run/job/input.json"),
        "AUTH_TOKEN_FILE=/run/job/auth_token",  # our images of earlier releases know nothing else
    }


def test_without_any_input_standard_input_stays_closed(plan) -> None:
    body = plan(variables={}).body
    assert body["OpenStdin"] is False
    assert not any(entry.startswith("JOB_") for entry in body["Env"])


def test_images_of_others_get_the_token_as_the_reference_gives_it(plan) -> None:
    made = plan(own=False)
    assert f"AUTH_TOKEN={TOKEN}" in made.body["Env"]
    assert made.told == {}
    assert made.body["OpenStdin"] is False
    assert not any(
        entry.startswith(("AUTH_TOKEN_FILE", "MODELS_DIR")) for entry in made.body["Env"]
    )


def test_images_of_others_keep_their_user_and_get_a_profile_for_browsers(plan) -> None:
    body = plan(own=False).body
    host = body["HostConfig"]
    assert "User" not in body
    assert host["Privileged"] is False
    (option,) = host["SecurityOpt"]
    profile = json.loads(option.removeprefix("seccomp="))
    refused = set(profile["syscalls"][0]["names"])
    assert {"mount", "bpf", "kexec_load", "init_module", "ptrace", "reboot"} <= refused
    assert not {"clone", "unshare", "setns", "chroot"} & refused  # a browser's sandbox needs these


@pytest.mark.parametrize("own", [True, False])
def test_limits_hold_for_every_image(plan, own: bool) -> None:
    host = plan(
        own=own,
        JOBS_DOCKER_MEMORY="2GiB",
        JOBS_DOCKER_CPUS="1.5",
        JOBS_DOCKER_PIDS="99",
        JOBS_DOCKER_LOGMAXSIZE="8MiB",
    ).body["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 2 << 30
    assert host["NanoCpus"] == 1_500_000_000
    assert host["PidsLimit"] == 99
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    log = host["LogConfig"]
    assert log["Type"] == "json-file"
    assert int(log["Config"]["max-size"]) * int(log["Config"]["max-file"]) == 8 << 20


def test_a_container_is_found_by_labels_that_say_nothing_of_its_client(plan) -> None:
    labels = plan(JOBS_DOCKER_INSTANCE="here").body["Labels"]
    assert labels["app"] == "mattermost-calls-offloader"
    assert labels["calls-offloader.job-id"] == "0123456789ab"
    assert labels["calls-offloader.job-type"] == "recording"
    assert labels["calls-offloader.instance"] == "here"
    assert "http://mm" not in labels.values()


def test_the_volume_is_mounted_at_data_and_models_are_read_only(plan) -> None:
    host = plan(JOBS_DOCKER_MODELSDIR="/srv/models").body["HostConfig"]
    (mount,) = host["Mounts"]
    assert (mount["Type"], mount["Source"], mount["Target"]) == (
        *("volume", "calls-recorder-0123456789ab", "/data"),
    )
    assert host["Binds"] == ["/srv/models:/models:ro"]
    assert "MODELS_DIR=/models" in plan(own=False, JOBS_DOCKER_MODELSDIR="m").body["Env"]


def test_network_and_names_come_from_the_settings(plan) -> None:
    assert plan().body["HostConfig"]["NetworkMode"] == "bridge"
    host = plan(DOCKER_NETWORK="host", JOBS_EXTRAHOSTS="mm.example:10.0.0.5").body["HostConfig"]
    assert host["NetworkMode"] == "host"
    assert host["ExtraHosts"] == ["mm.example:10.0.0.5"]


def test_the_engine_itself_leaves_a_job_the_whole_grace(plan) -> None:
    assert plan().body["StopTimeout"] == 300


def test_a_salvage_runs_beside_the_job_on_its_volume_and_yields(plan) -> None:
    attempt = Reference("0123456789ab", JobType.TRANSCRIBING, "image:1", salvage=2)
    body = plan(reference=attempt, command=("salvage", "/data/r1")).body
    assert attempt.container == "calls-transcriber-0123456789ab-salvage-2"
    assert body["Cmd"] == ["salvage", "/data/r1"]
    assert body["HostConfig"]["Mounts"][0]["Source"] == "calls-transcriber-0123456789ab"
    assert body["HostConfig"]["CpuShares"] < plan().body["HostConfig"]["CpuShares"] / 5
    assert body["Labels"]["calls-offloader.salvage"] == "2"


def test_captions_come_before_recording_and_both_before_what_follows_the_call(plan) -> None:
    transcriber = replace(JOB, job_type=JobType.TRANSCRIBING)
    references = (transcriber, JOB, replace(JOB, salvage=1), replace(transcriber, salvage=1))
    shares = [plan(reference=r).body["HostConfig"]["CpuShares"] for r in references]
    assert shares[0] > shares[1] > 5 * shares[2] == 5 * shares[3]


@pytest.mark.documents("a-variable-that-is-too-long")
def test_a_variable_that_no_program_can_be_given_is_refused(plan, documented) -> None:
    with pytest.raises(LaunchFailed) as refused:
        plan(variables={"X": "y" * (128 * 1024)})
    documented("a-variable-that-is-too-long", str(refused.value))


def test_a_reference_survives_being_stored() -> None:
    attempt = Reference("0123456789ab", JobType.RECORDING, "image:1", result="r" * 26, salvage=3)
    assert Reference.of(attempt.workload()) == attempt

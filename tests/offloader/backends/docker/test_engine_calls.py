"""What an engine is asked for, and what a container may ask for: as data, with no engine.

That the list is enough is proved by the tests on a real engine: they run behind a door that lets these calls
pass alone (tests/engine_door.py).
"""

from __future__ import annotations

import copy
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.layered_config import ConfigError
from offloader.backends.docker.container import plan_container, plan_look
from offloader.backends.docker.engine_calls import (
    ENGINE_CALLS,
    haproxy_configuration,
    is_listed,
)
from offloader.backends.docker.options import Reference
from offloader.backends.environment import job_environment
from offloader.doctor.selfcheck import _contained
from offloader.models import JobType
from tests.engine_door import EngineDoor, excess

PAGE = Path(__file__).parents[4] / "docs" / "backends-docker.md"
JOB = Reference("0123456789ab", JobType.RECORDING, "image:1")
ANOTHER = "f" * 64


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1.41/_ping"),
        ("POST", "/v1.41/images/create?fromImage=a%2Fb&tag=v1"),
        ("GET", "/v1.41/images/registry.example.com:5000/calls/calls-recorder:v1@sha256:0/json"),
        ("POST", "/v1.41/containers/create?name=calls-recorder-0123456789ab"),
        ("DELETE", "/v1.41/containers/calls-transcriber-0123456789ab-salvage-2?v=1&force=1"),
        ("HEAD", "/containers/calls-recorder-0123456789ab-look-01234567/archive?path=%2Fdata"),
        ("DELETE", "/v1.41/volumes/calls-recorder-0123456789ab"),
    ],
)
def test_what_jobs_need_is_listed(method: str, target: str) -> None:
    assert is_listed(method, target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *(("POST", f"/v1.41/{path}") for path in ("build", "commit", "images/load", "auth")),
        *(
            ("POST", f"/v1.41/{path}")
            for path in ("swarm/init", "services/create", "secrets/create")
        ),
        *(
            ("POST", f"/v1.41/{path}")
            for path in ("plugins/pull", "networks/create", "volumes/prune")
        ),
        *(("POST", f"/v1.41/containers/calls-recorder-a/{what}") for what in ("exec", "rename")),
        *(("GET", f"/v1.41/containers/calls-recorder-a/{what}") for what in ("export", "top")),
        ("POST", "/v1.41/exec/1/start"),
        ("GET", "/v1.41/events"),
        # What is another's.
        ("POST", f"/v1.41/containers/{ANOTHER}/kill"),
        ("GET", "/v1.41/containers/mattermost/archive?path=/"),
        ("DELETE", "/v1.41/volumes/mattermost-data"),
        ("DELETE", "/v1.41/images/mattermost"),
        # What only looks like a listed one.
        ("PUT", "/v1.41/containers/create"),
        ("get", "/v1.41/info"),
        ("GET", "/v1.41/images/../containers/mattermost/json"),
        ("GET", "/v1.41/containers/calls-recorder-a/../mattermost/json"),
        ("GET", "/v1.41/containers/calls-recorder-a%2F..%2Fmattermost/json"),
        ("GET", "/v1.41/infox"),
        ("GET", "//v1.41/info"),
        ("GET", "/v1.41/info\n"),
    ],
)
def test_nothing_else_is(method: str, target: str) -> None:
    assert not is_listed(method, target)


def test_the_page_has_the_list() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## What the engine is asked for\n")[2]
    told = re.findall(r"^\| `([A-Z]+) (\S+)` \| (.+) \|$", section.partition("\n## ")[0], re.M)
    assert told == [(call.method, call.path, call.why) for call in ENGINE_CALLS]


def test_a_proxy_is_configured_by_the_list_and_denies_the_rest() -> None:
    lines = haproxy_configuration(engine="/e.sock", door="/d.sock").splitlines()
    rules = [line.strip() for line in lines if "http-request" in line]
    assert len(rules) == len(ENGINE_CALLS) + 1
    assert rules[-1] == "http-request deny"
    for call, rule in zip(ENGINE_CALLS, rules, strict=False):
        allowed = f"{{ method {call.method} }} {{ path,url_dec -m reg {call.pattern} }}"
        assert rule == f"http-request allow if {allowed}"
        assert " " not in call.pattern, "it would be the next word"


def test_the_door_of_these_tests_lets_nothing_else_pass(tmp_path: Path) -> None:
    door = EngineDoor(tmp_path, str(tmp_path / "no-engine"))
    try:
        wide = json.dumps({"HostConfig": _host_config() | {"Privileged": True}})
        create = f"POST /containers/create HTTP/1.1\r\nContent-Length: {len(wide)}"
        for request in ("POST /build HTTP/1.1\r\n\r\n", f"{create}\r\n\r\n{wide}"):
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(door.address.removeprefix("unix://"))
                asking.sendall(request.encode())
                assert asking.recv(100).startswith(b"HTTP/1.1 403 ")
    finally:
        door.close()
    assert door.refused == [
        "POST /build: is not listed",
        "POST /containers/create: Privileged",
    ]


# What a container may ask for


CONFIGURATIONS: tuple[dict[str, str], ...] = (
    {},
    {"DOCKER_NETWORK": "host", "JOBS_DOCKER_MODELSDIR": "/srv/models"},
    {"JOBS_DOCKER_MODELSDIR": "models", "JOBS_DOCKER_MEMORY": "0", "JOBS_DOCKER_CPUS": "2"},
    {"JOBS_EXTRAHOSTS": "mm.example:host-gateway", "DOCKER_HOST": "ssh://somebody@elsewhere"},
)
INPUTS: tuple[dict[str, Any], ...] = (
    {},
    {"auth_token": "t" * 26, "site_url": "http://mm"},
    {
        **{"HostConfig": {"Privileged": True}, "privileged": "true", "binds": ["/:/host"]},
        **{"volumes": "/var/run/docker.sock:/var/run/docker.sock", "docker_host": "unix:///x"},
        **{"cap_add": "ALL", "security_opt": "seccomp=unconfined", "pid_mode": "host"},
        **{"EXTRA_CHROMIUM_ARGS": "--no-sandbox", "user": "0:0", "NetworkMode": "container:x"},
        **{"recording_id": "../../../etc", "call_id": '"},"HostConfig":{"Privileged":true}'},
    },
)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("environ", CONFIGURATIONS)
def test_no_input_and_no_configuration_gives_a_container_more_than_its_profile(
    options: Callable[..., Any], own: bool, given: dict[str, Any], environ: dict[str, str]
) -> None:
    settings, variables = options(**environ), job_environment(given).variables
    for reference in (JOB, Reference("0123456789ab", JobType.TRANSCRIBING, "i:1", salvage=3)):
        plan = {"own": own, "options": settings, "command": ("salvage", "/data/r")}
        body = plan_container(reference, variables=variables, **plan).body
        models = environ.get("JOBS_DOCKER_MODELSDIR", "")
        assert excess(body, models=models) == []
        without = plan_container(reference, variables={}, **plan).body
        assert body["HostConfig"] == without["HostConfig"], "input is variables, and nothing else"
        assert "docker.sock" not in json.dumps(body["HostConfig"])
        assert body.keys() - {"User"} == {
            *("Image", "Env", "Cmd", "Labels", "StopTimeout", "OpenStdin", "StdinOnce"),
            *("AttachStdin", "HostConfig"),
        }


def test_the_profile_of_our_images_is_not_loosened_for_those_of_others(
    options: Callable[..., Any],
) -> None:
    ours, theirs = (
        plan_container(JOB, own=own, variables={}, command=(), options=options()).body
        for own in (True, False)
    )
    differences = {
        name: (ours["HostConfig"].get(name), theirs["HostConfig"].get(name))
        for name in ours["HostConfig"].keys() | theirs["HostConfig"].keys()
        if ours["HostConfig"].get(name) != theirs["HostConfig"].get(name)
    }
    assert differences.keys() == {*("CapDrop", "SecurityOpt", "ReadonlyRootfs", "Tmpfs", "ShmSize")}
    assert differences["CapDrop"] == (["ALL"], ["MKNOD", "NET_RAW"])
    assert differences["ReadonlyRootfs"] == (True, False)
    assert differences["ShmSize"] == (None, 512 << 20)
    again = plan_container(JOB, own=True, variables={}, command=(), options=options()).body
    assert again == ours


def test_looks_into_volumes_and_checks_of_images_run_without_rights_too() -> None:
    assert excess(plan_look(JOB)) == []
    made: list[dict[str, Any]] = []

    class Client:
        def create_host_config(self, **options: Any) -> dict[str, Any]:
            from docker.types import HostConfig

            return dict(HostConfig(version="1.41", **options))

        def create_container(self, image: str, **options: Any) -> None:
            made.append({"HostConfig": options["host_config"], "name": options["name"]})

        def logs(self, *_: Any, **__: Any) -> bytes:
            return b"{}"

        def start(self, *_: Any, **__: Any) -> None: ...

        wait = remove_container = start

    _contained(Client(), "calls-recorder-check-1", "image:1", (), "/srv/models", 1.0)
    assert excess(made[0], models="/srv/models") == []
    assert is_listed("DELETE", f"/containers/{made[0]['name']}")


def _host_config() -> dict[str, Any]:
    return copy.deepcopy(plan_look(JOB)["HostConfig"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Privileged", True),
        ("Binds", ["/:/host"]),
        ("Binds", ["/var/run/docker.sock:/var/run/docker.sock"]),
        ("Mounts", [{"Type": "bind", "Source": "/etc", "Target": "/data"}]),
        ("Mounts", [{"Type": "volume", "Source": "mattermost-data", "Target": "/data"}]),
        *(
            (name, "host")
            for name in ("PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode")
        ),
        *(
            (name, ["x"])
            for name in ("CapAdd", "Devices", "DeviceRequests", "VolumesFrom", "GroupAdd")
        ),
        ("CgroupParent", "/"),
        ("Sysctls", {"kernel.core_pattern": "|/x"}),
        ("CapDrop", []),
        ("SecurityOpt", ["seccomp=unconfined"]),
        ("SecurityOpt", ["no-new-privileges", "apparmor=unconfined"]),
        ("ReadonlyRootfs", False),
        ("NetworkMode", "container:mattermost"),
    ],
)
def test_what_is_too_much_is_seen(name: str, value: Any) -> None:
    assert name in excess({"HostConfig": _host_config() | {name: value}, "User": "10001:10001"})


@pytest.mark.parametrize(
    "place",
    [
        *("/", "/etc", "/etc/ssl", "/var", "/var/run/docker.sock", "/run/docker.sock", "/proc/1"),
        *("/var/lib/docker", "/var/lib/docker/volumes/x/_data", "/srv/../etc", "//run", "/dev"),
        *("models:/data", "/srv/models:/data", "./models", "../etc", "/srv/a\nb"),
    ],
)
def test_models_lie_in_no_place_of_the_hosts_own(options: Callable[..., Any], place: str) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.docker\.models_dir"):
        options(JOBS_DOCKER_MODELSDIR=place)


@pytest.mark.parametrize(
    "place", ["", "calls-models", "/srv/models", "/var/lib/models", "/models/"]
)
def test_models_lie_in_a_volume_or_a_directory_of_their_own(
    options: Callable[..., Any], place: str
) -> None:
    assert options(JOBS_DOCKER_MODELSDIR=place).docker.models_dir == place.rstrip("/")


# The way to the engine


@pytest.mark.parametrize(
    "address", ["tcp://engine:2375", "tcp://127.0.0.1:2375", "http://engine:2375", "engine:2375"]
)
def test_an_engine_over_tcp_without_tls_needs_an_explicit_setting(
    options: Callable[..., Any], address: str
) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.docker\.host: .*allow_plain_tcp = true"):
        options(DOCKER_HOST=address)
    with pytest.raises(ConfigError, match=r"jobs\.docker\.host: "):  # nobody checks the engine
        options(DOCKER_HOST=address, DOCKER_CERT_PATH="/certs")
    with pytest.raises(ConfigError, match=r"jobs\.docker\.host: "):
        options(DOCKER_HOST=address, JOBS_APITYPE="celery", WORKER_APITYPE="docker")
    options(DOCKER_HOST=address, JOBS_DOCKER_ALLOWPLAINTCP="true")
    options(DOCKER_HOST=address, DOCKER_TLS_VERIFY="1")
    options(DOCKER_HOST=address, JOBS_APITYPE="process")


@pytest.mark.parametrize("address", ["", "unix:///run/docker.sock", "ssh://u@h", "https://h:2376"])
def test_other_ways_to_an_engine_need_none(options: Callable[..., Any], address: str) -> None:
    options(DOCKER_HOST=address)

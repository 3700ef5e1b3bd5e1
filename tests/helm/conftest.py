"""Helm as a fixture, and what it renders, as objects."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHARTS = {"offloader": "mattermost-calls-offloader", "rtcd": "mattermost-rtcd"}
INSTALL = "go install helm.sh/helm/v3/cmd/helm@v3.18.6, and it on PATH"

Object = dict[str, Any]


class Refused(Exception):
    """Helm rendered nothing; the message is its own."""


@dataclass(frozen=True)
class Helm:
    """The real program. It reaches no cluster: `template` alone."""

    program: str

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        )
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    def text(self, chart: str, *arguments: str, release: str = "calls") -> str:
        folder = str(ROOT / "helm" / CHARTS[chart])
        return self.run(
            "template", release, folder, "--namespace=chat", "--kube-version=1.31.0", *arguments
        )

    def refusal(self, chart: str, *arguments: str) -> str:
        """What Helm says instead of rendering."""
        with pytest.raises(Refused) as refused:
            self.text(chart, *arguments)
        return str(refused.value)

    def notes(self, chart: str, *arguments: str, folder: Path) -> str:
        """What an installation prints, rendered into an object in a copy of the chart below `folder`."""
        copy = folder / CHARTS[chart]
        if not copy.exists():
            shutil.copytree(ROOT / "helm" / CHARTS[chart], copy)
            (copy / "templates" / "zz-notes.yaml").write_text(
                'kind: Notes\ntext: {{ include (print .Template.BasePath "/NOTES.txt") . | quote }}\n'
            )
        show = "--show-only=templates/zz-notes.yaml"
        text = self.run(
            "template",
            "calls",
            str(copy),
            "--namespace=chat",
            "--kube-version=1.31.0",
            show,
            *arguments,
        )
        return str(yaml.safe_load(text)["text"])

    def objects(self, chart: str, *arguments: str, release: str = "calls") -> list[Object]:
        text = self.text(chart, *arguments, release=release)
        return [found for found in yaml.safe_load_all(text) if found]


@pytest.fixture(scope="session")
def helm(engine_missing: Callable[[str, str], None]) -> Helm:
    program = shutil.which("helm")
    if program is None:
        engine_missing("helm", INSTALL)
        raise AssertionError  # the line above never returns
    return Helm(program)


@pytest.fixture(scope="session")
def cases() -> Mapping[str, Path]:
    """Files with values by name; the name begins with the chart's short one."""
    return {path.stem: path for path in sorted((ROOT / "tests/helm/values").glob("*.yaml"))}


@pytest.fixture(scope="session")
def rendered(helm: Helm, cases: Mapping[str, Path]) -> Callable[[str], list[Object]]:
    """What a case renders; each is rendered once."""
    known: dict[str, list[Object]] = {}

    def objects(case: str) -> list[Object]:
        if case not in known:
            known[case] = helm.objects(case.split("-")[0], f"--values={cases[case]}")
        return known[case]

    return objects


@pytest.fixture(scope="session")
def violations() -> Callable[[Object], list[str]]:
    """What Kubernetes' published schemas, or for the kinds of others our own short ones, have against it."""
    document = json.loads((ROOT / "testbed/kubernetes/schema/kubernetes.json").read_text())
    document["definitions"] |= json.loads((ROOT / "tests/helm/custom_kinds.json").read_text())
    made: dict[str, Any] = {}

    def found(thing: Object) -> list[str]:
        name = definition_of(thing["apiVersion"], thing["kind"])
        if name not in document["definitions"]:
            return [f"no schema for {thing['apiVersion']} {thing['kind']}"]
        if name not in made:
            schema = {**document, "$ref": f"#/definitions/{name}"}
            made[name] = jsonschema_rs.Draft7Validator(schema)
        return [
            f"{error.instance_path}: {error.message}" for error in made[name].iter_errors(thing)
        ]

    return found


def definition_of(api_version: str, kind: str) -> str:
    group, _, version = f"/{api_version}".rpartition("/")
    group = group.strip("/") or "core"
    if group == "monitoring.coreos.com":
        return kind
    return f"io.k8s.api.{group.split('.')[0]}.{version}.{kind}"


@pytest.fixture(scope="session")
def one() -> Callable[[list[Object], str], Object]:
    """The only object of a kind; with a name, `Kind/name`."""

    def found(objects: list[Object], kind: str) -> Object:
        kind, _, name = kind.partition("/")
        fitting = [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]
        (only,) = fitting
        return only

    return found


@pytest.fixture(scope="session")
def environment() -> Callable[[Object], dict[str, str]]:
    """A workload's variables as its container gets them, what comes from Secrets and the node made up."""
    made_up = {
        "STORE_DATASOURCE": "postgresql://offloader:secret@postgres/offloader",
        "K8S_NAMESPACE": "chat",
        "RTCD_RTC_ICEHOSTOVERRIDE": "192.0.2.7",
        "POD_IP": "192.0.2.7",
        "JOBS_CELERY_BROKERURL": "rediss://:secret@redis:6379/0",
        "WORKER_NAME": "calls-workers-7d9f-x2x4k",
    }

    def variables(workload: Object) -> dict[str, str]:
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        found: dict[str, str] = {}
        for entry in container["env"]:
            value = entry.get("value", made_up.get(entry["name"], "k" * 40))
            found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
        return found

    return variables

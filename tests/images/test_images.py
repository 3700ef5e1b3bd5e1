"""What `make images` has built: small, without privileges or secrets, and it says what is in it."""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from offloader.version import BUILD_VERSION

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = ("offloader", "recorder", "transcriber", "worker", "sfu", "testbed")
MEGABYTE = 1_000_000
BUDGETS = {"offloader": 300, "recorder": 430, "transcriber": 620, "sfu": 220}
EXTRAS = {
    "offloader": ("offloader",),
    "recorder": ("recorder",),
    "transcriber": ("transcriber",),
    "worker": ("offloader", "recorder", "transcriber"),
    "sfu": ("sfu",),
    "testbed": ("testbed", "offloader"),
}
OUR_NAME = "calls-native-offloader"
each_image = pytest.mark.parametrize("image", NAMES, indirect=True)
ID = "abcdefghijklmnopqrstuvwxy"
JOB = {
    "CALL_ID": ID + "c",
    "POST_ID": ID + "p",
    "RECORDING_ID": ID + "r",
    "TRANSCRIPTION_ID": ID + "r",
    "AUTH_TOKEN": ID + "s",
}
SECRET_FILES = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o \( -path /build -o -path /image \
    -o -path /root/.cache -o -name '*.key' -o -name .netrc -o -name .pypirc -o -path '*/.ssh/id_*' \
    -o -name .git -o -name .env -o -name build.pem -o -name '*.whl' -path '/app/*' \) -print
"""
FOREIGN_CAS = r"""
cat /usr/share/ca-certificates/*/*.crt | grep -v -e - | sort -u >/dev/shm/ours
grep -v -e - /etc/ssl/certs/ca-certificates.crt | sort -u | comm -23 - /dev/shm/ours
ls /usr/local/share/ca-certificates 2>/dev/null || true
"""


@pytest.mark.parametrize("image", BUDGETS, indirect=True)
def test_an_image_without_models_keeps_its_budget(image: Any) -> None:
    models = image.labels.get("calls-native-offloader.models", "").split()
    newest = [layer["Size"] for layer in image.history if layer["Size"]]
    size = (image.about["Size"] - sum(newest[: len(models)])) / MEGABYTE
    assert size <= BUDGETS[image.name], f"{size:.0f} MB"


@each_image
def test_labels_say_what_it_is_and_on_which_terms(image: Any) -> None:
    label = {key.rpartition(".")[2]: value for key, value in image.labels.items()}
    assert label["title"] == f"calls-{image.name}"
    assert label["version"] == BUILD_VERSION
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", label["revision"])
    assert datetime.fromisoformat(label["created"]).utcoffset() is not None
    has_gpl = "av" in image.versions("pypi")
    assert label["licenses"] == "Apache-2.0" + " AND GPL-3.0-or-later" * has_gpl
    assert ("GPLv3" in label.get("notice", "")) == has_gpl


def locked() -> dict[str, dict[str, Any]]:
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    return {package["name"]: package for package in packages}


def required(packages: dict[str, dict[str, Any]], extras: tuple[str, ...]) -> Iterator[str]:
    """Names of what the extras want outright, on Linux."""
    for extra in extras:
        for wish in packages[OUR_NAME]["optional-dependencies"][extra]:
            if "marker" not in wish and wish["name"] != OUR_NAME:
                yield wish["name"]


@each_image
def test_the_bill_of_materials_names_what_is_locked_and_installed(image: Any) -> None:
    packages = locked()
    listed = {name.lower().replace("_", "-"): v for name, v in image.versions("pypi").items()}
    strange = {name: v for name, v in listed.items() if packages[name]["version"] != v}
    assert strange == {}, "other versions than uv.lock has"
    assert set(required(packages, EXTRAS[image.name])) <= set(listed)
    there = image.output("ls -d /app/venv/lib/python3*/site-packages/*.dist-info").split()
    assert len(there) == len(listed)
    system = image.output("dpkg-query -W -f '${Package} ${Version}\\n'").splitlines()
    assert sorted(" ".join(pair) for pair in image.versions("deb").items()) == sorted(system)
    inside = {c["name"] for one in image.bill["components"] for c in one.get("components", ())}
    assert ("libx264" in inside) == ("av" in listed)
    root = image.bill["metadata"]["component"]
    assert (root["name"], root["version"]) == (f"calls-{image.name}", BUILD_VERSION)


@each_image
def test_notices_have_the_terms_of_every_package(image: Any) -> None:
    notices = image.output("cat /app/NOTICES.txt")
    heads = set(re.split(r"\n={80}\n\n", notices))
    names = {head.partition("\n")[0] for head in heads}
    wanted = {f"{name} {version}" for name, version in image.versions("pypi").items()}
    assert wanted <= names
    assert "Apache License" in notices
    assert ("libx264" in notices) == ("av" in image.versions("pypi"))
    for name, version in image.versions("deb").items():
        assert f"{name} {version}: /usr/share/doc/{name}/copyright" in notices


@each_image
def test_nothing_secret_is_in_it(image: Any) -> None:
    assert image.output(SECRET_FILES) == ""
    assert image.output(FOREIGN_CAS) == "", "certificates that are not Debian's"
    told = [*image.about["Config"]["Env"], *(layer["CreatedBy"] for layer in image.history)]
    suspects = re.compile(r"(?i)(token|secret|passw|auth_?key|https?://[^/\s]*@)")
    assert [text for text in told if suspects.search(text)] == []
    assert not [text for text in image.about["Config"]["Env"] if "CERT" in text or "PROXY" in text]


@each_image
def test_who_runs_it_owns_nothing_but_its_state(image: Any) -> None:
    assert image.about["Config"]["User"] == "10001:10001"
    state = {*(image.about["Config"]["Volumes"] or {})}
    find = (
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -uid 10001 -print"
    )
    assert set(image.output(find).split()) == state
    writable = image.output("find /app -perm /022 ! -type l -print")
    assert writable == ""


@pytest.mark.parametrize("image", ["offloader"], indirect=True)
def test_the_service_answers_and_ends_politely(start: Callable[..., Any]) -> None:
    service = start()
    service.wait_for_line("offloader: listening")
    assert BUILD_VERSION in service.run("python", "-c", asked("http://127.0.0.1:4545/version"))
    assert service.ended_by("SIGTERM") == 0


@pytest.mark.parametrize("image", ["sfu"], indirect=True)
def test_the_sfu_answers_and_ends_politely(start: Callable[..., Any]) -> None:
    sfu = start(network="bridge")
    sfu.wait_for_line("sfu: listening")
    assert BUILD_VERSION in sfu.run("python", "-c", asked("http://127.0.0.1:8045/version"))
    assert sfu.ended_by("SIGTERM") == 0


def asked(url: str) -> str:
    return f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read())"


@pytest.mark.parametrize("image", ["worker"], indirect=True)
def test_the_worker_waits_for_its_broker_and_ends_politely(start: Callable[..., Any]) -> None:
    broker = {"JOBS_CELERY_BROKERURL": "redis://127.0.0.1:1/0"}
    worker = start(environment={"OFFLOADER_SECRET_KEY": "k" * 43 + "=", **broker})
    worker.wait_for_line("broker.unreachable")
    assert worker.ended_by("SIGTERM") == 0


@pytest.mark.parametrize("image", ["testbed"], indirect=True)
def test_the_stand_in_of_the_testbed_ends_politely(start: Callable[..., Any]) -> None:
    store = {"RTCD_STORE_DATASOURCE": "/tmp/sfu", "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true"}
    sfu = start("sfu", environment=store, network="bridge")
    sfu.wait_for_line("sfu: listening")
    options = ("--listen", "127.0.0.1:8065", "--data-dir", "/tmp/data")
    stand_in = start("testbed.plugin", *options, network=f"container:{sfu.container}")
    stand_in.wait_for_line("listening on")
    assert stand_in.ended_by("SIGTERM") == 0


@pytest.mark.parametrize("image", ["recorder", "transcriber"], indirect=True)
def test_a_job_that_is_told_to_end_before_its_call_has_begun_ends_with_0(
    start: Callable[..., Any],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as site:
        site.settimeout(25)
        address = f"http://127.0.0.1:{site.getsockname()[1]}"
        job = start(
            environment={**JOB, "SITE_URL": address},
            network="host",
            binds=(f"{ROOT / 'models'}:/models:ro",),
        )
        connection, _ = site.accept()  # and no answer
        job.client.kill(job.container, "SIGTERM")
    connection.close()
    assert job.client.wait(job.container, timeout=25)["StatusCode"] == 0, job.log()

"""The units under a real systemd, the first process of a container without a network.

The job service is the real one, from this repository; its jobs are shell scripts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KEY = "k" * 40

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

_CONFIG = f"""
[api]
http.listen_address = "127.0.0.1:4545"
security.enable_admin = true
security.admin_secret_key = "{KEY}"
[jobs]
api_type = "process"
max_concurrent_jobs = 4
stop_grace_s = 5
[jobs.process]
recorder_command = ["/opt/calls-offloader/job"]
memory_max = "128MiB"
[logger]
enable_file = false
"""
_JOB = """#!/bin/sh
trap 'exit 0' TERM
# The first jobs wait, a later one takes more memory than it may have.
[ -e /opt/calls-offloader/hungry ] && exec python3 -c 'print(len(b"x" * (1 << 30)))'
while :; do sleep 0.2; done
"""
# Not where they are here: the units see no /home and no /root.
_PATH = "PYTHONPATH=/source:/packages"
_UNIT_FILES = [f"/etc/systemd/system/calls-offloader.service{suffix}" for suffix in ("", ".d")]
_DROP_IN = f"""[Service]
Environment={_PATH}
ExecStart=
ExecStart=/usr/bin/python3 -m offloader --config /opt/calls-offloader/config.toml
"""
_POST = """
import json, sys, urllib.request, base64
number, key = sys.argv[1:]
document = {"type": "recording", "max_duration_sec": 600, "runner": "mattermost/calls-recorder:v0.8.5",
    "input_data": {"site_url": "http://127.0.0.1:8065", "call_id": number * 26, "thread_id": "t" * 26,
                   "post_id": number * 26, "recording_id": "r" * 26, "auth_token": "a" * 26}}
headers = {"Authorization": "Basic " + base64.b64encode(b"x:" + key.encode()).decode()}
request = urllib.request.Request("http://127.0.0.1:4545/jobs", json.dumps(document).encode(), headers)
print(json.load(urllib.request.urlopen(request, timeout=20))["id"])
"""


@dataclass
class Machine:
    """A container with systemd."""

    name: str

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "exec", self.name, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def offloader(self, *arguments: str, check: bool = True) -> Any:
        config = ("--config", "/opt/calls-offloader/config.toml", "--json")
        state = "STATE_DIRECTORY=/var/lib/calls-offloader"
        program = ("env", _PATH, state, "python3", "-m", "offloader")
        text = self.run(*program, *arguments, *config, check=check)
        return json.loads(text) if text else {}

    def states(self) -> dict[str, tuple[str, str]]:
        """State and end of each job."""
        jobs = self.offloader("jobs", "list", check=False).get("jobs", [])
        return {job["id"]: (job["state"], job.get("stop_reason") or "") for job in jobs}

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 60
        while not holds():
            if time.monotonic() > end:
                log = self.run("journalctl", "-u", "calls-offloader", "--no-pager", "-n", "30")
                pytest.fail(f"{what}: {self.states()}, {self.job_pids()}\n{log}")
            time.sleep(0.3)

    def main_pid(self) -> str:
        return self.run("systemctl", "show", "--value", "-p", "MainPID", "calls-offloader")

    def job_pids(self) -> set[str]:
        look = (
            "tr '\\0' ' ' 2>/dev/null < $f | grep -q '^/bin/sh /opt/calls-offloader/job' && echo $f"
        )
        script = f"for f in /proc/[0-9]*/cmdline; do {look}; done; true"
        return {line.split("/")[2] for line in self.run("sh", "-c", script).splitlines()}


@pytest.fixture(scope="module")
def machine(tiny_images: Any, engine_missing: Any) -> Iterator[Machine]:
    if sys.version_info[:2] != (3, 11):
        engine_missing("systemd", "the packages here are for another Python than Debian 12 has")
    base = subprocess.run(
        [ROOT / "images/base.sh"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if base.returncode != 0:
        engine_missing("systemd", f"no Debian to put it into: {base.stderr[-300:]}")
    dockerfile = Path(__file__).parent / "systemd.Dockerfile"
    image = "calls-native-offloader/test-systemd"
    build = ["docker", "build", "--quiet", "--network", "host", "--tag", image, "--file"]
    built = subprocess.run(
        [*build, dockerfile, "--build-arg", f"BASE={base.stdout.split()[0]}", dockerfile.parent],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        engine_missing("systemd", f"cannot be installed: {built.stderr[-300:]}")
    machine = Machine(f"test-systemd-{uuid.uuid4().hex[:8]}")
    unified = Path("/sys/fs/cgroup/unified")
    groups = unified if unified.is_dir() else Path("/sys/fs/cgroup")
    options = [f"--cap-add={name}" for name in ("SYS_ADMIN", "SYS_PTRACE", "SYS_NICE")]
    options += ["--cgroupns", "host"]
    options += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    options += [
        "--network",
        "none",
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/run/lock",
        "--tmpfs",
        "/tmp:exec",
    ]
    options += ["--volume", f"{groups}:/sys/fs/cgroup:rw", "--volume", f"{ROOT}:/source:ro"]
    options += ["--volume", f"{sysconfig.get_path('purelib')}:/packages:ro"]
    start = ["docker", "run", "--detach", "--name", machine.name, *options, image]
    subprocess.run([*start, "/lib/systemd/systemd"], check=True, capture_output=True)
    try:
        for _ in range(100):
            if machine.run("systemctl", "is-system-running", check=False) in (
                "running",
                "degraded",
            ):
                break
            time.sleep(0.2)
        else:
            engine_missing("systemd", "it does not start in a container here")
        yield machine
    finally:
        subprocess.run(["docker", "rm", "--force", machine.name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def service(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The unit as it is shipped, with another program."""
    files = tmp_path_factory.mktemp("opt")
    (files / "config.toml").write_text(_CONFIG)
    (files / "job").write_text(_JOB)
    (files / "post.py").write_text(_POST)
    (files / "job").chmod(0o755)
    (files / "drop-in.conf").write_text(_DROP_IN)
    shutil.copyfile(ROOT / "packaging/calls-offloader.service", files / "calls-offloader.service")
    subprocess.run(["docker", "cp", files, f"{machine.name}:/opt/calls-offloader"], check=True)
    machine.run("useradd", "--system", "--home-dir", "/opt/calls-offloader", "calls-offloader")
    machine.run("chmod", "755", "/opt/calls-offloader")
    units = "/etc/systemd/system"
    machine.run("mkdir", f"{units}/calls-offloader.service.d")
    machine.run("cp", "/opt/calls-offloader/calls-offloader.service", units)
    machine.run(
        "cp", "/opt/calls-offloader/drop-in.conf", f"{units}/calls-offloader.service.d/test.conf"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", "calls-offloader")
    machine.until(
        lambda: bool(machine.offloader("status", check=False)), "the service is not ready"
    )
    return machine


def post(machine: Machine, number: int) -> str:
    return machine.run("python3", "/opt/calls-offloader/post.py", str(number), KEY)


def test_jobs_outlive_the_service_and_one_job_the_others(service: Machine) -> None:
    first, second = post(service, 1), post(service, 2)
    service.until(lambda: len(service.job_pids()) == 2, "no jobs run")
    jobs, before = service.job_pids(), service.main_pid()

    service.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", "calls-offloader")
    service.until(
        lambda: service.main_pid() not in ("0", before) and len(service.states()) == 2,
        "systemd does not bring the service back",
    )
    assert service.job_pids() == jobs
    assert {state for state, _ in service.states().values()} == {"running"}

    service.run("touch", "/opt/calls-offloader/hungry")
    hungry = post(service, 3)
    service.until(lambda: service.states()[hungry][0] == "finished", "nobody ends the hungry job")
    assert service.states()[hungry][1] == "crashed"
    assert service.job_pids() == jobs

    service.run("sh", "-c", f"kill -9 {min(jobs)}")
    service.until(
        lambda: (
            sorted(state for state, _ in service.states().values())
            == ["finished", "finished", "running"]
        ),
        "the killed job is not noticed",
    )
    [survivor] = service.job_pids()
    assert survivor in jobs

    service.run("systemctl", "stop", "calls-offloader")
    assert service.job_pids() == set()
    assert (
        service.run("systemctl", "show", "--value", "-p", "Result", "calls-offloader") == "success"
    )
    assert {first, second} <= set(jobs_on_disk(service))


def test_the_doctor_reads_the_unit_that_runs(service: Machine) -> None:
    """docs/doctor-verdicts.md names this test: `limits_unit_good`, `limits_unit`, `limits_files_low`."""

    def found() -> dict[str, Any]:
        told = service.offloader("doctor", "--only", "limits", check=False)
        return {each["code"]: each for each in told["steps"][0]["findings"]}

    good = found()
    assert "limits_unit_good" in good
    assert "limits_unit" not in good

    weak = "/etc/systemd/system/calls-offloader.service.d/weak.conf"
    lines = "[Service]\\nLimitNOFILE=1024\\nOOMPolicy=stop\\n"
    service.run("sh", "-c", f"printf '{lines}' > {weak}; systemctl daemon-reload")
    try:
        service.run("systemctl", "restart", "calls-offloader")
        bad = found()
        assert "OOMPolicy=continue" in bad["limits_unit"]["fix"][0]
        assert bad["limits_files_low"]["data"]["limit"] == 1024
    finally:
        service.run("sh", "-c", f"rm {weak}; systemctl daemon-reload")


def test_the_documented_user_for_process_jobs_works_under_the_unit(service: Machine) -> None:
    """The commands and the drop-in of docs/operations.md, word by word."""
    text = (ROOT / "docs/operations.md").read_text()
    text = text[text.index("### A user for process jobs") :]
    command, drop_in = text.split("```sh\nsudo ")[1], text.split("```ini\n")[1]
    service.run(*command.splitlines()[0].split())
    place = "/etc/systemd/system/calls-offloader.service.d/user.conf"
    service.run("sh", "-c", f'printf %s "$1" >{place}', "sh", drop_in.split("```")[0])
    service.run("rm", "-f", "/opt/calls-offloader/hungry")
    try:
        service.run("systemctl", "daemon-reload")
        service.run("systemctl", "restart", "calls-offloader")
        ready = "the service is not ready with a user for its jobs"
        service.until(lambda: bool(service.offloader("status", check=False)), ready)
        before = service.job_pids()
        job = post(service, 4)
        service.until(lambda: service.job_pids() != before, "no job runs")
        [pid] = service.job_pids() - before
        lines = service.run("cat", f"/proc/{pid}/status").splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        uid, gid = (service.run("id", option, "calls-jobs") for option in ("-u", "-g"))
        assert (status["Uid"], status["Gid"]) == ([uid] * 4, [gid] * 4)
        assert set(status["Groups"]) <= {gid}
        assert status["NoNewPrivs"] == ["1"]
        assert {int(status[f"Cap{kind}"][0], 16) for kind in ("Prm", "Eff", "Amb")} == {0}

        state = "/var/lib/calls-offloader"
        files = service.run("find", state, "-type", "f", "-not", "-path", f"{state}/jobs/*/data/*")
        secret = [name for name in files.splitlines() if "/told/" not in name]
        assert any(name.endswith(".db") for name in secret)
        open_to_job = 'for file; do cat "$file" >/dev/null 2>&1 && echo "$file"; done; true'
        as_job = ("runuser", "-u", "calls-jobs", "--", "sh", "-c", open_to_job, "sh")
        assert service.run(*as_job, *secret) == ""
        own = service.run("stat", "--format=%U %a", f"{state}/jobs/{job}/data")
        assert own == "calls-jobs 700"

        service.offloader("jobs", "stop", job)
        service.until(lambda: service.states()[job][0] == "finished", "the job does not stop")
        assert service.job_pids() == before
    finally:
        service.run("rm", place)
        service.run("systemctl", "daemon-reload")


def jobs_on_disk(machine: Machine) -> list[str]:
    return machine.run("ls", "/var/lib/calls-offloader/jobs").split()


def test_the_service_may_not_what_it_does_not_need(service: Machine) -> None:
    """As a job of the service would try it: with the unit's own restrictions."""
    program = (
        "import os, ctypes\n"
        "def may(what):\n"
        "    try: what()\n"
        "    except OSError as error: return error.strerror\n"
        "    return 'yes'\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def mount():\n"
        "    if libc.mount(b'none', b'/mnt', b'tmpfs', 0, None): raise OSError(*(2 * [ctypes.get_errno()]))\n"
        "print(may(lambda: open('/etc/new', 'w')), may(lambda: open('/tmp/new', 'w')),\n"
        "      may(lambda: os.listdir('/root')), may(mount), os.getresuid()[0] > 0, sep='|')\n"
    )
    text = (ROOT / "packaging/calls-offloader.service").read_text()
    wanted = text[text.index("NoNewPrivileges") : text.index("[Install]")]
    properties = [f"--property={line}" for line in wanted.splitlines() if line and line[0] != "#"]
    run = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--property=User=calls-offloader",
    ]
    said = service.run(*run, *properties, "python3", "-c", program).split("|")
    assert said[0] == "Read-only file system"
    assert said[1] == "yes"
    assert said[2] == "Permission denied"
    assert said[3] != "yes"
    assert said[4] == "True"


def test_the_installer_sees_the_variables_of_the_unit(
    machine: Machine, maker: Any, keys: Any
) -> None:
    """From a bundle, with the unit as it is shipped and a job service of a few lines."""
    machine.run("systemctl", "disable", "--now", "calls-offloader", check=False)
    places = ("/opt/calls-offloader", "/var/lib/calls-offloader", *_UNIT_FILES)
    machine.run("rm", "-rf", *places)
    media = maker.bundle("v1.0.0").directory
    subprocess.run(["docker", "cp", media, f"{machine.name}:/media/bundle"], check=True)
    subprocess.run(["docker", "cp", keys.trusted, f"{machine.name}:/media/keys.gpg"], check=True)
    # As systemd reads it, a shell would not: in two lines.
    variables = "# for jobs\nAPI_HTTP_LISTENADDRESS='127.0.0.1:4600'\n"
    variables += "JOBS_IMAGEREGISTRY=registry.example.com/\\\ncalls\n"
    machine.run("sh", "-c", 'printf %s "$1" >/etc/default/calls-offloader', "sh", variables)

    said = machine.run("/media/bundle/install.sh", "--keyring", "/media/keys.gpg", "--units")

    assert "http://127.0.0.1:4600/version: v1.0.0" in said
    assert "MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY=registry.example.com/calls\n" in said
    assert "Job service URL: http://HOST:4600;" in said
    machine.run("systemctl", "is-enabled", "calls-offloader")


def test_units_in_the_package_are_rated_well(engine_missing: Any) -> None:
    """By systemd itself; 0 is best. What keeps it from less is said in docs/install-systemd.md."""
    if shutil.which("systemd-analyze") is None:
        engine_missing("systemd", "systemd-analyze is not installed")
    for name, most in (("calls-offloader", 26), ("calls-offloader-worker", 26), ("calls-sfu", 14)):
        command = [
            "systemd-analyze",
            "security",
            "--no-pager",
            "--offline=yes",
            f"--threshold={most}",
        ]
        unit = ROOT / f"packaging/{name}.service"
        environment = {**os.environ, "SYSTEMD_COLORS": "0"}
        done = subprocess.run(
            [*command, unit], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stdout[-300:] + done.stderr

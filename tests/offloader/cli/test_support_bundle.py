"""The support bundle: what is in it, who may read it, and that no planted secret is."""

from __future__ import annotations

import base64
import errno
import json
import os
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from offloader.backends.base import Observation, Phase
from offloader.doctor.configuration import CONFIGURATION
from offloader.support_bundle import Entry, write_archive

CANARIES = {
    "admin_key": "canary-admin-key-8f3Kd02mZq",
    "proxy_password": "canary/proxy pass@word",
    "database_password": "canary-database-pw",
    "environment": "canary-environment-value",
    "auth_token": "canary0token0of0the0bot0ab",
    "speech_key": "canary-speech-key-of-azure",
    "key_file": "canary-key-file-0123456789-abcdefghijklmnop",
    "webhook": "canarywebhookid",
    "bearer": "canaryBearer.in-a-log_line",
    "pem": "canaryPEMcanaryPEMcanaryPEM",
    "person": "canarytokenofsomebody12345",
    "random": "canaryRANDOM0canaryRANDOM0canaryRANDOM0",
    "doctor_token": "canary-doctor-token",
}
_CONFIG = """\
[api.security]
enable_admin = true
admin_secret_key = "{admin_key}"
[jobs]
api_type = "process"
https_proxy = "http://user:{proxy_password}@127.0.0.1:1"
[logger]
file_location = "{log}"
unknown_password = "{environment}"
"""
_LOG = """\
{{"event": "planted", "auth_token": "{auth_token}", "level": "info"}}
{{"event": "planted", "headers": "{{\\"Authorization\\": \\"Bearer {bearer}\\"}}"}}
proxy http://user:{proxy_quoted}@127.0.0.1:1 says {environment}
transcribe_api_options={{"AZURE_SPEECH_KEY":"{speech_key}"}} AZURE_SPEECH_KEY={speech_key}
-----BEGIN PRIVATE KEY-----
{pem}
-----END PRIVATE KEY-----
POST https://chat.example.com/hooks/{webhook}: password: {database_password}
somebody said {person} and {random} and {key_file} and {admin_key}
digest sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef stays
"""


def _planted(directory: Path) -> str:
    return _LOG.format(**CANARIES, proxy_quoted=quote(CANARIES["proxy_password"], safe=""))


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Secrets in the configuration, the environment, the service's log and the key file; where all is."""
    log = tmp_path / "service.log"
    config = _CONFIG.format(
        **{**CANARIES, "proxy_password": quote(CANARIES["proxy_password"], safe="")}, log=log
    )
    (tmp_path / "none.toml").write_text(config)
    log.write_text(_planted(tmp_path))
    (tmp_path / "offloader.key").write_text(CANARIES["key_file"])
    monkeypatch.setenv("SOME_API_KEY", CANARIES["environment"])
    monkeypatch.setenv("OTHER_PASSWORD", CANARIES["database_password"])
    monkeypatch.setenv("OFFLOADER_DOCTOR_TOKEN", CANARIES["doctor_token"])
    monkeypatch.setenv("STORE_DATASOURCE", str(tmp_path / "store.db"))
    monkeypatch.setenv("JOBS_PROCESS_JOBSDIR", str(tmp_path / "jobs"))
    return tmp_path


@pytest.fixture
def short_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step only: what the others find is not the question."""
    monkeypatch.setattr("offloader.cli.support_bundle.all_steps", lambda: (CONFIGURATION,))


async def _failed_job(served: Any) -> str:
    running = served.running
    running.backend.log = _planted(Path()).encode()
    job_id: str = await running.create_job(
        input_data={
            "call_id": "c" * 26,
            "post_id": "p" * 26,
            "site_url": "https://chat.example.com",
            "auth_token": CANARIES["auth_token"],
            "transcribe_api_options": json.dumps({"AZURE_SPEECH_KEY": CANARIES["speech_key"]}),
            "vocabulary": "canary-words-of-a-company",
        }
    )
    await running.check()
    running.backend.exit(job_id, 3)
    await running.check()
    return job_id


def _read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = {}
        for member in tar:
            assert member.mode == 0o600
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read()
    return found


async def test_no_planted_secret_is_in_the_bundle(served: Any, planted: Path) -> None:
    job_id = await _failed_job(served)
    path = planted / "bundle.tar.gz"
    result = await served.run("support-bundle", "--yes", "--output", str(path))
    assert result.code == 0, result.err
    files = _read(path)
    assert {f"jobs/{job_id}.log", "service.log", "configuration.json", "jobs.json"} <= set(files)
    everything = b"".join(files.values()) + result.out.encode()
    forms = {
        name: {value, quote(value, safe=""), json.dumps(value)[1:-1], _encoded(value)}
        for name, value in CANARIES.items()
    }
    found = [name for name, texts in forms.items() if any(t.encode() in everything for t in texts)]
    assert found == []
    assert b"canary-words-of-a-company" not in everything
    # What helps is still there.
    log = files["service.log"].decode()
    assert "planted" in log
    assert "sha256:0123456789abcdef" in log
    job = json.loads(files["jobs.json"])[0]
    assert (job["id"], job["exit_code"]) == (job_id, 3)
    assert job["input_data"]["call_id"] == "c" * 26
    assert "vocabulary" in job["input_keys_left_out"]
    assert job["failure"]["cause"]
    values = json.loads(files["configuration.json"])["values"]
    assert values["api.security.admin_secret_key"]["value"] == "***"
    assert values["jobs.api_type"] == {"value": "process", "source": "file"}
    assert json.loads(files["doctor.json"])["steps"]
    assert json.loads(files["versions.json"])["packages"]["fastapi"]
    assert b"# HELP" in files["metrics.txt"]


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@pytest.mark.usefixtures("short_doctor")
@pytest.mark.documents("a-bundle-that-is-there-already")
async def test_it_is_listed_first_and_readable_by_its_owner_only(
    served: Any, tmp_path: Path, documented
) -> None:
    path = tmp_path / "bundle.tar.gz"
    result = await served.run("support-bundle", "--yes", "--output", str(path))
    assert result.code == 0
    listed = [line.split()[0] for line in result.out.splitlines()[2:] if not line.startswith("not")]
    assert listed[: len(_read(path))] == list(_read(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert result.out.splitlines()[-1].startswith(f"{path}: ")
    again = await served.run("support-bundle", "--yes", "--output", str(path))
    assert again.code == 1
    documented("a-bundle-that-is-there-already", again.err.splitlines()[-1])


@pytest.mark.documents(
    "a-bundle-and-nobody-to-ask", "a-bundle-that-nobody-wanted", "a-bundle-that-cannot-be-written"
)
@pytest.mark.usefixtures("short_doctor")
async def test_without_yes_somebody_has_to_agree(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    path = tmp_path / "bundle.tar.gz"
    nobody = await served.run("support-bundle", "--output", str(path))
    assert nobody.code == 2
    documented("a-bundle-and-nobody-to-ask", nobody.err)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt: "n")
    unwanted = await served.run("support-bundle", "--output", str(path))
    assert unwanted.code == 1
    documented("a-bundle-that-nobody-wanted", unwanted.err)
    assert not path.exists()
    nowhere = await served.run("support-bundle", "--yes", "--output", "/proc/bundle.tar.gz")
    documented("a-bundle-that-cannot-be-written", nowhere.err)
    monkeypatch.setattr("builtins.input", lambda _prompt: "y")
    assert (await served.run("support-bundle", "--output", str(path))).code == 0
    assert path.exists()


@pytest.mark.usefixtures("short_doctor")
async def test_without_a_service_it_has_less_and_says_what(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.socket.unlink()
    path = tmp_path / "bundle.tar.gz"
    result = await served.run("support-bundle", "--yes", "--json", "--output", str(path))
    assert result.code == 0
    files = _read(path)
    assert {"versions.json", "configuration.json", "doctor.json"} <= set(files)
    assert not {"jobs.json", "state.json", "metrics.txt"} & set(files)
    missing = {entry["name"] for entry in result.json["missing"]}
    assert {"jobs.json", "state.json", "metrics.txt"} <= missing
    assert [entry["name"] for entry in result.json["entries"]] == list(files)


@pytest.mark.usefixtures("short_doctor")
async def test_a_failed_start_is_in_it_too(served: Any, tmp_path: Path) -> None:
    job_id = await served.running.create_job()
    await served.running.check()
    served.running.backend.observations[job_id] = Observation(Phase.LOST)
    await served.running.check()
    path = tmp_path / "bundle.tar.gz"
    assert (await served.run("support-bundle", "--yes", "--output", str(path))).code == 0
    jobs = json.loads(_read(path)["jobs.json"])
    assert [job["id"] for job in jobs] == [job_id]


def test_an_archive_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_archive(tmp_path / "bundle.tar.gz", [Entry("a", b"1")])
    assert os.listdir(tmp_path) == []

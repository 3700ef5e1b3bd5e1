"""`config check` tells of everything that is wrong; `show` of what is in force; `docs` of what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from offloader.cli.config_docs import configuration_page, sample_file
from offloader.cli.main import main
from offloader.setting_keys import KEYS

ROOT = Path(__file__).parents[3]


class Command:
    """Runs `offloader config …` with a file of its own."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def __call__(self, *arguments: str, toml: str | None = None) -> tuple[int, str, str]:
        if toml is not None:
            self.path.write_text(toml)
        code = main(["config", *arguments, "--config", str(self.path)])
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def config(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> Command:
    for key in KEYS.values():
        monkeypatch.delenv(key.env or "", raising=False)
    return Command(tmp_path / "config.toml", capsys)


def test_every_problem_is_told_with_file_key_value_and_wanted_form(
    config: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_IMAGEREGISTRY", "fine")
    monkeypatch.setenv("LOGGER_FILEJSON", "perhaps")
    code, out, err = config(
        "check",
        toml="""
        [api]
        http.tls.enable = true
        security.enable_admin = "yes"
        [jobs]
        max_concurrent_jobs = -1
        failed_jobs_retention_time = "1w"
        min_free_disk = "5 bags"
        docker = 7
        """,
    )
    path = config.path
    assert code == 1
    assert out.splitlines() == [
        f"error: {path}: api.security.enable_admin = 'yes': should be true or false",
        f"error: {path}: jobs.docker = 7: should be a table",
        "error: environment: LOGGER_FILEJSON='perhaps': should be true or false",
        f"error: not set in {path} or API_HTTP_TLS_CERTFILE: api.http.tls.cert_file: "
        "invalid TLS config: invalid CertFile value: should not be empty (it is '')",
        f"error: not set in {path} or API_HTTP_TLS_CERTKEY: api.http.tls.cert_key: "
        "invalid TLS config: invalid CertKey value: should not be empty (it is '')",
        f"error: {path}: jobs.max_concurrent_jobs: "
        "invalid MaxConcurrentJobs value: should be greater than zero (it is -1)",
        f"error: {path}: jobs.failed_jobs_retention_time: invalid retention time format: "
        "should be as 30m, 12h or 30d; 0 = for ever (it is '1w')",
        f"error: {path}: jobs.min_free_disk: '5 bags': should be a number of bytes, "
        "or a size such as 500MiB or 5GiB",
    ]
    assert err == f"offloader: {path}: 8 problems: the service would not start as wanted\n"


def test_a_file_that_is_no_toml_is_told_with_the_line(config: Command) -> None:
    code, out, _ = config("check", toml="[api]\nhttp = \n")
    assert code == 1
    assert f"error: {config.path}: not a TOML file: " in out
    assert "line 2" in out


def test_unknown_keys_are_warnings_and_with_strict_errors(config: Command) -> None:
    toml = "[jobs]\nmax_concurent_jobs = 5\n"
    code, out, _ = config("check", toml=toml)
    assert code == 0
    assert f"warning: {config.path}: unknown key jobs.max_concurent_jobs" in out
    code, out, _ = config("check", "--strict")
    assert code == 1
    assert f"error: {config.path}: jobs.max_concurent_jobs: unknown key" in out


def test_what_is_no_mistake_is_a_warning_with_strict_too(config: Command) -> None:
    code, out, _ = config("check", "--strict", toml='[jobs]\napi_type = "celery"\n')
    assert code == 0
    assert "warning: jobs.copies_url: empty with jobs.api_type celery" in out


def test_a_missing_file_is_a_warning_and_with_strict_an_error(config: Command) -> None:
    assert config("check")[0] == 0
    code, out, _ = config("check", "--strict")
    assert (code, "no such file" in out) == (1, True)


def test_files_that_are_named_and_of_no_use_are_problems(config: Command, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    toml = f"""
    [api]
    http.tls.enable = true
    http.tls.cert_file = "{tmp_path}/none.pem"
    http.tls.cert_key = "{tmp_path}/none.key"
    [jobs]
    ca_cert_file = "{tmp_path}/ca.pem"
    """
    code, out, _ = config("check", toml=toml)
    assert code == 1
    assert f"api.http.tls.cert_file = '{tmp_path}/none.pem': certificate or key cannot" in out
    assert f"jobs.ca_cert_file = '{tmp_path}/ca.pem': no certificates" in out


def test_problems_as_json(config: Command) -> None:
    code, out, _ = config("check", "--json", toml='[jobs]\nmax_concurrent_jobs = "two"\n')
    assert code == 1
    assert json.loads(out)["problems"] == [
        {
            "place": str(config.path),
            "key": "jobs.max_concurrent_jobs",
            "value": "'two'",
            "wanted": 'should be a whole number or "auto"',
        }
    ]


def test_show_tells_values_and_sources_and_no_secret(
    config: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_MAXCONCURRENTJOBS", "auto")
    monkeypatch.setenv("JOBS_HTTPPROXY", "http://u:hush@proxy:3128")
    code, out, _ = config(
        "show",
        "--json",
        toml="""
        [api]
        security.admin_secret_key = "hush"
        [store]
        data_source = "postgresql://me:hush@db/offloader"
        """,
    )
    assert code == 0
    assert "hush" not in out
    values = json.loads(out)["values"]
    assert set(values) == set(KEYS)
    assert values["api.security.admin_secret_key"] == {"value": "***", "source": "file"}
    assert values["store.data_source"]["value"] == "postgresql://me:***@db/offloader"
    auto = values["jobs.max_concurrent_jobs"]
    assert (auto["value"], auto["source"]) == ("auto", "JOBS_MAXCONCURRENTJOBS")
    assert auto["means"] >= 1
    assert values["jobs.image_registry"] == {"value": "mattermost", "source": "default"}
    table = config("show")[1]
    assert "hush" not in table
    assert "environment JOBS_HTTPPROXY" in table


def test_show_of_a_file_that_cannot_be_used_is_an_error(config: Command) -> None:
    code, out, err = config("show", toml="[jobs]\nmax_concurrent_jobs = 0\n")
    assert (code, out) == (1, "")
    assert "`config check` shows all problems" in err


def test_docs_know_every_key(config: Command) -> None:
    assert config("docs")[1] == configuration_page()
    assert config("docs", "--sample")[1] == sample_file()
    table = json.loads(config("docs", "--json")[1])["keys"]
    assert [entry["key"] for entry in table] == list(KEYS)
    assert all(entry["help"].endswith((".", ")")) for entry in table)
    assert len({entry["environment"] for entry in table}) == len(KEYS)


def test_the_page_in_the_repository_is_the_generated_one() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    assert page == configuration_page(), "run: offloader config docs > docs/configuration.md"


def test_the_sample_file_is_the_generated_one_and_has_no_unknown_key(config: Command) -> None:
    sample = ROOT / "offloader.sample.toml"
    command = "run: offloader config docs --sample > offloader.sample.toml"
    assert sample.read_text() == sample_file(), command
    assert 'api_type = "process"' in sample.read_text()
    assert main(["config", "check", "--strict", "--config", str(sample)]) == 0


def test_the_sample_file_with_everything_commented_in_is_good_too(config: Command) -> None:
    toml = re.sub(r"^# ([a-z_.]+ = )", r"\1", sample_file(), flags=re.MULTILINE)
    code, out, _ = config("check", "--strict", toml=toml)
    assert code == 0, out
    shown = json.loads(config("show", "--json")[1])["values"]
    assert {entry["source"] for entry in shown.values()} == {"file"}

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.layered_config import ConfigError
from offloader.setting_keys import KEYS
from offloader.setting_values import in_words, parse_retention, split_address
from offloader.settings import Settings, load_settings

NOWHERE = Path("/nonexistent/config.toml")


def from_toml(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(path, environ)


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_settings(NOWHERE, {"XDG_STATE_HOME": "/state", "STATE_DIRECTORY": "/srv/state"})
    assert settings.api.listen_address == ":4545"
    assert not settings.api.tls.enable
    assert not settings.api.enable_admin
    assert not settings.api.allow_self_registration
    assert settings.api.expiration_minutes == 1440
    assert settings.data_source == "/srv/state/offloader.db"
    jobs = settings.jobs
    assert (jobs.api_type, jobs.max_concurrent_jobs, jobs.image_registry) == (
        *("docker", 2, "mattermost"),
    )
    assert jobs.failed_jobs_retention == timedelta(days=30)
    assert jobs.check_runners
    assert jobs.process.jobs_dir == Path("/srv/state/jobs")
    assert jobs.process.recorder_command == (sys.executable, "-m", "jobs.recorder")
    assert jobs.process.transcriber_command == (sys.executable, "-m", "jobs.transcriber")
    assert jobs.stop_grace_s == jobs.process.stop_grace_s == 300
    logger = settings.logger
    assert (logger.enable_console, logger.console_json, logger.console_level) == (
        True,
        False,
        "INFO",
    )
    assert (logger.enable_file, logger.file_json, logger.file_level) == (True, True, "DEBUG")
    assert logger.file_location == "calls-offloader.log"


def test_the_default_store_is_not_in_a_place_that_is_swept() -> None:
    settings = load_settings(NOWHERE, {})
    assert not settings.data_source.startswith(("/tmp", "/run"))


WIRE_NAMES = {
    "api.http.listen_address": ("API_HTTP_LISTENADDRESS", ":1"),
    "api.http.tls.enable": ("API_HTTP_TLS_ENABLE", "false"),
    "api.http.tls.cert_file": ("API_HTTP_TLS_CERTFILE", "c"),
    "api.http.tls.cert_key": ("API_HTTP_TLS_CERTKEY", "k"),
    "api.security.enable_admin": ("API_SECURITY_ENABLEADMIN", "false"),
    "api.security.admin_secret_key": ("API_SECURITY_ADMINSECRETKEY", "s"),
    "api.security.allow_self_registration": ("API_SECURITY_ALLOWSELFREGISTRATION", "true"),
    "api.security.session_cache.expiration_minutes": (
        *("API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES", "5"),
    ),
    "store.data_source": ("STORE_DATASOURCE", "/db"),
    "jobs.api_type": ("JOBS_APITYPE", "process"),
    "jobs.max_concurrent_jobs": ("JOBS_MAXCONCURRENTJOBS", "7"),
    "jobs.failed_jobs_retention_time": ("JOBS_FAILEDJOBSRETENTIONTIME", "2h"),
    "jobs.image_registry": ("JOBS_IMAGEREGISTRY", "r"),
    "jobs.docker.output_logs": ("JOBS_DOCKER_OUTPUTLOGS", "true"),
    "jobs.kubernetes.jobs_resource_requirements": (
        *("JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS", "{}"),
    ),
    "jobs.kubernetes.persistent_volume_claim_name": (
        *("JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME", "v"),
    ),
    "jobs.kubernetes.node_sysctls": ("JOBS_KUBERNETES_NODESYSCTLS", "n"),
    "jobs.kubernetes.namespace": ("K8S_NAMESPACE", "n"),
    "jobs.kubernetes.tolerations": ("K8S_JOB_POD_TOLERATIONS", "[]"),
    "jobs.kubernetes.tolerations_file": ("K8S_JOB_POD_TOLERATIONS_FILE", "f"),
    "jobs.kubernetes.privileged": ("SECURITY_CONTEXT_PRIVILEGED", "true"),
    "jobs.docker.network": ("DOCKER_NETWORK", "host"),
    "jobs.docker.host": ("DOCKER_HOST", "unix:///x"),
    "logger.enable_console": ("LOGGER_ENABLECONSOLE", "true"),
    "logger.console_json": ("LOGGER_CONSOLEJSON", "true"),
    "logger.console_level": ("LOGGER_CONSOLELEVEL", "trace"),
    "logger.enable_file": ("LOGGER_ENABLEFILE", "false"),
    "logger.file_json": ("LOGGER_FILEJSON", "false"),
    "logger.file_level": ("LOGGER_FILELEVEL", "panic"),
    "logger.file_location": ("LOGGER_FILELOCATION", "f"),
    "logger.enable_color": ("LOGGER_ENABLECOLOR", "true"),
}


@pytest.mark.parametrize("key", WIRE_NAMES)
def test_every_key_of_the_contract_has_its_environment_name(key: str) -> None:
    variable, value = WIRE_NAMES[key]
    assert KEYS[key].env == variable
    load_settings(NOWHERE, {variable: value})


def test_environment_overrides_the_file_and_defaults_fill_the_rest(tmp_path: Path) -> None:
    text = '[jobs]\napi_type = "process"\nmax_concurrent_jobs = 5\n'
    jobs = from_toml(tmp_path, text, JOBS_MAXCONCURRENTJOBS="9").jobs
    assert (jobs.api_type, jobs.max_concurrent_jobs, jobs.image_registry) == (
        *("process", 9, "mattermost"),
    )


def test_unknown_keys_and_a_missing_file_are_warned_of_by_name(tmp_path: Path) -> None:
    settings = from_toml(tmp_path, "[jobs]\nmax_concurent_jobs = 5\n[other]\nx = 1\n")
    assert [w.split(": ", 1)[1] for w in settings.warnings] == [
        "unknown key jobs.max_concurent_jobs: it has no effect",
        "unknown key other.x: it has no effect",
    ]
    assert "no such file" in load_settings(NOWHERE, {}).warnings[0]


@pytest.mark.parametrize(
    ("enabled", "key", "warned"),
    [(True, "k" * 15, True), (True, "k" * 16, False), (False, "k", False)],
)
def test_an_admins_key_that_may_be_guessed_is_warned_of_by_its_length_alone(
    tmp_path: Path, enabled: bool, key: str, warned: bool
) -> None:
    environ = {"API_SECURITY_ENABLEADMIN": str(enabled), "API_SECURITY_ADMINSECRETKEY": key}
    texts = [w for w in from_toml(tmp_path, "", **environ).warnings if "admin_secret_key" in w]
    assert len(texts) == warned
    assert all("has 15 characters, should have 16 or more" in text for text in texts)
    assert not any(key in text for text in texts)


@pytest.mark.parametrize(
    ("environ", "warned"),
    [
        ({}, False),
        ({"JOBS_APITYPE": "celery"}, True),
        ({"JOBS_APITYPE": "celery", "JOBS_COPIESURL": "s3://bucket"}, False),
        ({"JOBS_APITYPE": "kubernetes"}, True),
        ({"JOBS_APITYPE": "kubernetes", "JOBS_COPIESURL": "s3://bucket"}, False),
        (
            {
                "JOBS_APITYPE": "kubernetes",
                "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": "recordings",
            },
            False,
        ),
    ],
)
def test_recordings_that_would_be_lost_with_their_host_are_warned_of(
    tmp_path: Path, environ: dict[str, str], warned: bool
) -> None:
    texts = [w for w in from_toml(tmp_path, "", **environ).warnings if "jobs.copies_url" in w]
    assert len(texts) == warned
    assert all("takes the recordings of its calls with it" in text for text in texts)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {"API_SECURITY_ENABLEADMIN": "true"},
            "invalid AdminSecretKey value: should not be empty",
        ),
        ({"API_HTTP_LISTENADDRESS": ""}, "invalid ListenAddress value: should not be empty"),
        ({"API_HTTP_LISTENADDRESS": "4545"}, "invalid ListenAddress value: "),
        ({"API_HTTP_LISTENADDRESS": "::1:4545"}, "invalid ListenAddress value: "),
        ({"API_HTTP_LISTENADDRESS": ":70000"}, "invalid ListenAddress value: "),
        (
            {"API_HTTP_TLS_ENABLE": "true"},
            "invalid TLS config: invalid CertFile value: should not be empty",
        ),
        (
            {"API_HTTP_TLS_ENABLE": "true", "API_HTTP_TLS_CERTFILE": "c"},
            "invalid TLS config: invalid CertKey value: should not be empty",
        ),
        ({"STORE_DATASOURCE": ""}, "invalid DataSource value: should not be empty"),
        ({"JOBS_APITYPE": "podman"}, "invalid APIType value: podman"),
        (
            {"JOBS_MAXCONCURRENTJOBS": "0"},
            "invalid MaxConcurrentJobs value: should be greater than zero",
        ),
        ({"JOBS_FAILEDJOBSRETENTIONTIME": "30s"}, "invalid retention time format"),
        (
            {"LOGGER_ENABLECONSOLE": "false", "LOGGER_ENABLEFILE": "false"},
            "should enable at least one logging target",
        ),
        ({"LOGGER_CONSOLELEVEL": "loud"}, 'invalid ConsoleLevel value "loud"'),
        ({"LOGGER_FILELEVEL": "loud"}, 'invalid FileLevel value "loud"'),
        ({"LOGGER_FILELOCATION": " "}, "invalid FileLocation value: should not be empty"),
        (
            {"API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES": "0"},
            "invalid ExpirationMinutes value: should be a positive number",
        ),
        ({"JOBS_STOPGRACES": "-1"}, "jobs.stop_grace_s: -1.0: should be"),
        ({"JOBS_PROCESS_STOPGRACES": "-1"}, "jobs.process.stop_grace_s: -1.0: should be"),
        ({"JOBS_PROCESS_STOPGRACES": "nan"}, "jobs.process.stop_grace_s: nan: should be"),
        ({"JOBS_PROCESS_RECORDERCOMMAND": "[1]"}, "should be a list of texts"),
        ({"JOBS_PROCESS_RECORDERCOMMAND": ""}, "should be a list of texts"),
        ({"JOBS_MAXCONCURRENTJOBS": "two"}, "should be a whole number"),
    ],
)
def test_what_cannot_be_is_refused_with_the_contracts_text_and_its_place(
    environ: dict[str, str], text: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(NOWHERE, environ)
    assert text in str(refused.value)
    assert str(refused.value).startswith(("environment", f"not set in {NOWHERE} or "))


@pytest.mark.parametrize(
    ("toml", "environ", "grace_s"),
    [
        ("[jobs]\nstop_grace_s = 20\n", {}, 20),
        ("[jobs]\nprocess.stop_grace_s = 30\n", {}, 30),
        ("[jobs]\nstop_grace_s = 20\nprocess.stop_grace_s = 30\n", {}, 20),
        ("[jobs]\nstop_grace_s = 20\n", {"JOBS_PROCESS_STOPGRACES": "30"}, 20),
        ("[jobs]\nprocess.stop_grace_s = 30\n", {"JOBS_STOPGRACES": "20"}, 20),
    ],
)
def test_the_grace_is_taken_under_its_former_name_unless_the_new_one_is_set(
    tmp_path: Path, toml: str, environ: dict[str, str], grace_s: float
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(toml)
    settings = load_settings(path, environ)
    assert settings.jobs.stop_grace_s == settings.jobs.process.stop_grace_s == grace_s
    assert settings.warnings == ()


def test_a_complaint_about_the_file_names_file_and_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        from_toml(tmp_path, "[jobs]\nmax_concurrent_jobs = -1\n")
    assert str(refused.value) == (
        f"{tmp_path}/config.toml: jobs.max_concurrent_jobs: "
        "invalid MaxConcurrentJobs value: should be greater than zero"
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("1m", timedelta(minutes=1)),
        ("0d", None),
        ("0", None),
    ],
)
def test_retention_times(text: str, kept: timedelta | None) -> None:
    assert parse_retention(text) == kept


@pytest.mark.parametrize(
    ("text", "words"),
    [("14d", "14 days"), ("24h", "1 day"), ("90m", "90 minutes"), ("36h", "36 hours")],
)
def test_times_are_told_in_words(text: str, words: str) -> None:
    time = parse_retention(text)
    assert time is not None
    assert in_words(time) == words


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "1.5h", "1w", "30d ", "٣d"])
def test_other_retention_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid retention time format"):
        parse_retention(text)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (":4545", ("", 4545)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("host:0", ("host", 0)),
    ],
)
def test_listen_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(("name", "value"), [("DEV_MODE", "true"), ("TEST_MODE", "true")])
def test_development_and_test_mode_switch_the_runner_checks_off(name: str, value: str) -> None:
    assert not load_settings(NOWHERE, {name: value}).jobs.check_runners
    assert load_settings(NOWHERE, {name: "false"}).jobs.check_runners


def test_the_admins_key_is_shown_nowhere() -> None:
    environ: dict[str, Any] = {
        "API_SECURITY_ENABLEADMIN": "true",
        "API_SECURITY_ADMINSECRETKEY": "hush",
    }
    settings = load_settings(NOWHERE, environ)
    assert settings.api.admin_secret_key == "hush"
    assert "hush" not in repr(settings)

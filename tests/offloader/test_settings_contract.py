"""Every row of job-service.md 3 from the file's side, wrong types, and settings the reference has not."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.layered_config import ConfigError
from offloader.setting_keys import KEYS
from offloader.settings import Settings, load_settings, read_settings

REFERENCE_FILE = """
[api]
http.listen_address = ":4545"
http.tls.enable = false
http.tls.cert_file = ""
http.tls.cert_key = ""
security.allow_self_registration = true
security.enable_admin = true
security.admin_secret_key = "change-this"
security.session_cache.expiration_minutes = 1440

[store]
data_source = "/opt/calls-offloader/data/db"

[jobs]
api_type = "docker"
max_concurrent_jobs = 2
failed_jobs_retention_time = "30d"
image_registry = "mattermost"
docker.output_logs = true
kubernetes.jobs_resource_requirements = '{"recording":{"limits":{"cpu":"2"}}}'
kubernetes.persistent_volume_claim_name = "recordings"
kubernetes.node_sysctls = "kernel.unprivileged_userns_clone=1"

[logger]
enable_console = true
console_json = false
console_level = "INFO"
enable_file = true
file_json = true
file_level = "DEBUG"
file_location = "/opt/calls-offloader/calls-offloader.log"
enable_color = true
"""
"""All the keys that the reference has, in the form of its own sample: dotted below a table."""

REFERENCE_KEYS = {
    **dict.fromkeys(("api.http.listen_address", "store.data_source", "jobs.api_type"), "a text"),
    **dict.fromkeys(("api.http.tls.cert_file", "api.http.tls.cert_key"), "a text"),
    **dict.fromkeys(("api.security.admin_secret_key", "jobs.image_registry"), "a text"),
    **dict.fromkeys(("jobs.failed_jobs_retention_time", "logger.file_location"), "a text"),
    **dict.fromkeys(("logger.console_level", "logger.file_level"), "a text"),
    "jobs.kubernetes.persistent_volume_claim_name": "a text",
    "jobs.kubernetes.node_sysctls": "a text",
    **dict.fromkeys(("api.http.tls.enable", "api.security.enable_admin"), "true or false"),
    **dict.fromkeys(("api.security.allow_self_registration",), "true or false"),
    **dict.fromkeys(("jobs.docker.output_logs", "logger.enable_console"), "true or false"),
    **dict.fromkeys(("logger.console_json", "logger.enable_file"), "true or false"),
    **dict.fromkeys(("logger.file_json", "logger.enable_color"), "true or false"),
    "api.security.session_cache.expiration_minutes": "a whole number",
    "jobs.max_concurrent_jobs": 'a whole number or "auto"',
}


def from_toml(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(path, environ)


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values


def test_a_file_with_every_key_of_the_reference_loads(tmp_path: Path) -> None:
    settings = from_toml(tmp_path, REFERENCE_FILE)
    # But for the key that it comes with, which is to be changed.
    assert [text.partition(": ")[0] for text in settings.warnings] == [
        "api.security.admin_secret_key"
    ]
    given = flat(tomllib.loads(REFERENCE_FILE))
    assert set(given) == {*REFERENCE_KEYS, "jobs.kubernetes.jobs_resource_requirements"}
    reading = read_settings(tmp_path / "config.toml", {})
    assert {name: reading.values[name] for name in given} == given
    assert settings.api.enable_admin
    assert settings.jobs.failed_jobs_retention == timedelta(days=30)
    assert settings.jobs.docker.output_logs


@pytest.mark.parametrize("key", REFERENCE_KEYS)
@pytest.mark.parametrize("wrong", ["[1]", "{ x = 1 }", "3.5"])
def test_a_wrong_type_is_refused_by_file_key_value_and_wanted_form(
    tmp_path: Path, key: str, wrong: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        from_toml(tmp_path, f"{key} = {wrong}\n")
    line = str(refused.value)
    assert line.startswith(f"{tmp_path}/config.toml: {key}")
    assert line.endswith(f"should be {REFERENCE_KEYS[key]}")


@pytest.mark.parametrize(
    ("key", "variable"),
    [(key, KEYS[key].env) for key in KEYS if KEYS[key].kind in ("int", "float", "bool")],
)
def test_a_wrong_type_in_the_environment_names_the_variable(key: str, variable: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}='x': should be") as refused:
        load_settings(Path("/nonexistent"), {variable: "x"})
    assert KEYS[key].wanted in str(refused.value)


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        from_toml(tmp_path, "[api.security]\nadmin_secret_key = 12345678\n")
    assert "12345678" not in str(refused.value)
    assert "= ***: should be a text" in str(refused.value)


@pytest.mark.parametrize("place", ["/tmp/calls-offloader-db", "/var/tmp/x.db", "/dev/shm/db"])
def test_a_store_where_the_system_sweeps_is_warned_of(tmp_path: Path, place: str) -> None:
    [warning] = from_toml(tmp_path, f'[store]\ndata_source = "{place}"\n').warnings
    assert place in warning
    assert "put the database where it lasts" in warning


def test_a_database_url_is_no_place_that_is_swept(tmp_path: Path) -> None:
    text = '[store]\ndata_source = "postgresql://db/tmp"\n'
    assert from_toml(tmp_path, text).warnings == ()


@pytest.mark.parametrize(
    ("data_source", "socket"),
    [
        ("/srv/x.db", "/srv/x.sock"),
        ("/srv/state/", "/srv/state/offloader.sock"),
        ("postgresql://db/x", "/state/offloader.sock"),
    ],
)
def test_the_local_socket_lies_beside_the_store(data_source: str, socket: str) -> None:
    environ = {"STORE_DATASOURCE": data_source, "STATE_DIRECTORY": "/state"}
    api = load_settings(Path("/nonexistent"), environ).api
    assert (str(api.admin_socket), api.admin_socket_wanted) == (socket, False)


def test_an_empty_socket_means_none() -> None:
    api = load_settings(Path("/nonexistent"), {"API_ADMINSOCKET": ""}).api
    assert api.admin_socket is None


def test_the_settings_beside_the_references_and_their_defaults() -> None:
    environ = {"HTTPS_PROXY": "proxy:3128", "no_proxy": "localhost"}
    jobs = load_settings(Path("/nonexistent"), environ).jobs
    assert (jobs.admission_wait_s, jobs.post_call_slots) == (20.0, 2)
    assert jobs.min_free_disk_bytes == 1 << 30
    assert jobs.outbox_max_age == timedelta(days=14)
    assert (dict(jobs.runner_images), jobs.use_reference_images) == ({}, False)
    network = jobs.network
    assert (network.ca_cert_file, network.http_proxy) == (None, "")
    assert network.https_proxy == "http://proxy:3128"
    assert network.no_proxy == "localhost"
    assert (dict(network.site_url_overrides), network.extra_hosts) == ({}, ())
    docker = jobs.docker
    assert (docker.memory_bytes, docker.cpus, docker.pids) == (8 << 30, None, 1024)
    assert (docker.log_max_bytes, docker.pull_policy) == (16 << 20, "missing")


def test_the_settings_beside_the_references_as_given(tmp_path: Path) -> None:
    jobs = from_toml(
        tmp_path,
        """
        [jobs]
        admission_wait_s = 0
        min_free_disk = 1000
        outbox_max_age = "0"
        http_proxy = "http://u:p@proxy:1"
        ca_cert_file = "ca.pem"
        extra_hosts = ["a.example:10.0.0.5", "b.example:[fd00::1]", "c.example:host-gateway"]
        [jobs.site_url_overrides]
        "https://Chat.Example.com/" = "http://mattermost:8065"
        [jobs.runner_images]
        "*/calls-recorder:*" = "registry.example/calls-recorder:mine"
        [jobs.docker]
        memory = 0
        cpus = 1.5
        """,
    ).jobs
    assert (jobs.admission_wait_s, jobs.min_free_disk_bytes, jobs.outbox_max_age) == (0, 1000, None)
    network = jobs.network
    assert network.ca_cert_file == Path("ca.pem").absolute()
    assert network.http_proxy == "http://u:p@proxy:1"
    assert "u:p" not in repr(jobs)
    assert network.extra_hosts == (
        *(("a.example", "10.0.0.5"), ("b.example", "fd00::1"), ("c.example", "host-gateway")),
    )
    assert network.site_url_for_jobs("https://chat.example.com") == "http://mattermost:8065"
    assert network.site_url_for_jobs("https://other.example") == "https://other.example"
    assert network.site_url_for_jobs("no url") == "no url"
    assert dict(jobs.runner_images) == {
        "*/calls-recorder:*": "registry.example/calls-recorder:mine"
    }
    assert (jobs.docker.memory_bytes, jobs.docker.cpus) == (None, 1.5)


def test_auto_is_a_number_of_calls() -> None:
    jobs = load_settings(Path("/nonexistent"), {"JOBS_MAXCONCURRENTJOBS": "auto"}).jobs
    assert jobs.max_concurrent_jobs >= 1


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"JOBS_MINFREEDISK": "5GB"}, "'5GB': should be a number of bytes, or a size such as"),
        ({"JOBS_MINFREEDISK": "-1"}, "'-1': should be"),
        ({"JOBS_ADMISSIONWAITS": "-1"}, "should be a number that is at least 0"),
        ({"JOBS_POSTCALLSLOTS": "-1"}, "should be a number that is at least 0"),
        ({"JOBS_OUTBOXMAXAGE": "2w"}, "invalid retention time format"),
        ({"JOBS_HTTPPROXY": "socks5://p:1"}, "should be the URL of an HTTP proxy"),
        ({"JOBS_SITEURLOVERRIDES": '{"https://a/sub": "https://b"}'}, "without a path"),
        ({"JOBS_SITEURLOVERRIDES": '{"https://a": "b"}'}, "'b': should be a site URL"),
        ({"JOBS_SITEURLOVERRIDES": "a=b"}, "should be a table"),
        ({"JOBS_EXTRAHOSTS": "chat.example.com"}, "should be name:address"),
        ({"JOBS_EXTRAHOSTS": "chat.example.com:somewhere"}, "should be name:address"),
        ({"JOBS_RUNNERIMAGES": '{"a": 1}'}, "should be a table of texts"),
        ({"JOBS_DOCKER_MEMORY": "1MiB"}, "should be at least 268435456 bytes"),
        ({"JOBS_DOCKER_PIDS": "1"}, "should be a number that is at least 64"),
        ({"JOBS_DOCKER_PULLPOLICY": "often"}, "should be one of missing always never"),
        ({"LOGGER_FILEMAXSIZE": "1"}, "should be at least 65536 bytes"),
        ({"LOGGER_FILEKEEP": "0"}, "should be a number that is at least 1"),
        ({"JOBS_MAXCONCURRENTJOBS": "AUTO"}, 'should be a whole number or "auto"'),
    ],
)
def test_what_cannot_be_is_refused_with_the_wanted_form(environ: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(Path("/nonexistent"), environ)
    [variable] = environ
    assert variable in str(refused.value)
    assert text in str(refused.value)


def test_a_wrong_proxy_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(Path("/nonexistent"), {"JOBS_HTTPPROXY": "ftp://me:hush@p:1"})
    assert "hush" not in str(refused.value)


def test_a_proxy_of_the_service_that_jobs_cannot_use_is_a_warning(tmp_path: Path) -> None:
    settings = from_toml(tmp_path, "", HTTP_PROXY="socks5://p:1")
    assert settings.jobs.network.http_proxy == ""
    assert settings.warnings == (
        "environment HTTP_PROXY: no HTTP proxy: jobs go without; set jobs.http_proxy",
    )
    settings = from_toml(tmp_path, "", HTTP_PROXY="socks5://p:1", JOBS_HTTPPROXY="")
    assert settings.warnings == ()

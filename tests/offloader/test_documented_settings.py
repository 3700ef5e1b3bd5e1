"""What `offloader config check` complains about, provoked and held against docs/troubleshooting.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offloader.cli.main import main
from offloader.setting_keys import KEYS


@pytest.fixture
def complaint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Its first line, without the file's path, for a configuration."""
    for key in KEYS.values():
        monkeypatch.delenv(key.env or "", raising=False)

    def check(toml: str) -> str:
        path = tmp_path / "config.toml"
        path.write_text(toml)
        main(["config", "check", "--config", str(path)])
        return capsys.readouterr().out.splitlines()[0].replace(str(path), "config.toml")

    return check


def entry(name: str, toml: str) -> Any:
    return pytest.param(name, toml, marks=pytest.mark.documents(name), id=name)


TABLE = [
    entry("a-file-that-is-no-toml", "[jobs\n"),
    entry("a-value-of-another-kind", "[jobs]\nmax_concurrent_jobs = true"),
    entry("a-table-that-is-a-value", "[jobs]\ndocker = 7"),
    entry("an-address-of-another-form", '[api]\nhttp.listen_address = "4545"'),
    entry("a-port-that-does-not-exist", '[api]\nhttp.listen_address = ":70000"'),
    entry("https-without-a-certificate", "[api]\nhttp.tls.enable = true\nhttp.tls.cert_key = 'k'"),
    entry("https-without-a-key", "[api]\nhttp.tls.enable = true\nhttp.tls.cert_file = 'c'"),
    entry("a-network-of-another-form", '[api]\nsecurity.allowed_networks = ["10.1.2.3/16"]'),
    entry("a-client-id-of-another-form", '[api]\nsecurity.allowed_clients = ["a:b"]'),
    entry("an-admin-without-a-key", "[api]\nsecurity.enable_admin = true"),
    entry("a-session-without-a-life", "[api]\nsecurity.session_cache.expiration_minutes = 0"),
    entry("a-database-without-a-place", '[store]\ndata_source = " "'),
    entry("an-unknown-way-to-run-jobs", '[jobs]\napi_type = "nomad"'),
    entry("no-jobs-at-all", "[jobs]\nmax_concurrent_jobs = 0"),
    entry("a-number-out-of-its-bounds", "[jobs]\nmax_duration_s = 59"),
    entry("a-retention-of-another-form", '[jobs]\nfailed_jobs_retention_time = "1w"'),
    entry("a-time-to-keep-of-another-form", '[jobs]\nkeep_published = "1w"'),
    entry("a-size-of-another-form", '[jobs]\nmin_free_disk = "5 bags"'),
    entry("an-address-of-copies-of-another-form", '[jobs]\ncopies_url = "https://bucket"'),
    entry("copies-in-a-directory-of-containers", '[jobs]\ncopies_url = "file:///srv/copies"'),
    entry("a-proxy-of-another-form", '[jobs]\nhttp_proxy = "ftp://proxy"'),
    entry("a-site-url-with-a-path", '[jobs]\nsite_url_overrides = {"https://a/b" = "http://c"}'),
    entry("a-host-entry-of-another-form", '[jobs]\nextra_hosts = ["chat.example.com"]'),
    entry("an-allowed-site-of-another-form", '[jobs]\nallowed_site_urls = ["chat.example.com"]'),
    entry(
        "a-webhook-of-another-form", '[notify]\nmattermost_webhook = "https://chat.example.com/"'
    ),
    entry(
        "a-receiver-of-events-of-another-form",
        '[notify.webhooks.billing]\nurl = "http://hooks.example.com/x"',
    ),
    entry(
        "a-receiver-of-events-of-another-form/2",
        "[notify.webhooks]\n" + "\n".join(f"n{number} = {{}}" for number in range(17)),
    ),
    entry("a-collector-of-another-form", '[tracing]\notlp_endpoint = "collector:4317"'),
    entry("an-unknown-pull-policy", '[jobs.docker]\npull_policy = "sometimes"'),
    entry("an-engine-over-tcp-without-tls", '[jobs.docker]\nhost = "tcp://engine:2375"'),
    entry("models-in-a-place-of-the-hosts-own", '[jobs.docker]\nmodels_dir = "/etc/models"'),
    entry("models-in-a-place-of-the-hosts-own/2", '[jobs.docker]\nmodels_dir = "./models"'),
    entry("an-unknown-log-level", '[logger]\nconsole_level = "loud"'),
    entry("no-place-for-the-log", "[logger]\nenable_console = false\nenable_file = false"),
    entry("a-log-file-without-a-path", '[logger]\nfile_location = ""'),
    entry(
        "several-brokers-in-one-address",
        '[jobs]\napi_type = "celery"\ncelery.broker_url = "redis://a:6379;redis://b:6379"',
    ),
    entry(
        "a-broker-behind-sentinels",
        '[jobs]\napi_type = "celery"\ncelery.broker_url = "sentinel://a:26379"',
    ),
    entry(
        "a-broker-on-another-host-without-tls",
        '[jobs]\napi_type = "celery"\ncelery.broker_url = "redis://:pw@broker.example.com/0"',
    ),
    entry(
        "a-broker-on-another-host-without-tls/2",
        '[jobs]\napi_type = "celery"\ncelery.broker_url = "rediss://broker.example.com/0"',
    ),
    entry(
        "a-broker-on-another-host-without-tls/3",
        '[jobs]\napi_type = "celery"\n'
        'celery.broker_url = "rediss://:pw@broker.example.com/0?ssl_cert_reqs=none"',
    ),
    entry(
        "a-queue-prefix-of-another-form", '[jobs]\napi_type = "celery"\ncelery.queue_prefix = "a b"'
    ),
    entry(
        "resource-requirements-that-are-no-yaml",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.jobs_resource_requirements = "{"',
    ),
    entry(
        "tolerations-that-are-no-list",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.tolerations = "7"',
    ),
    entry(
        "a-toleration-file-that-is-not-there",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.tolerations_file = "/nonexistent"',
    ),
    entry(
        "node-parameters-of-another-form",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.node_sysctls = "unprivileged"',
    ),
    entry(
        "a-number-that-is-too-small",
        "[worker]\nslots = 0",
    ),
    entry(
        "a-number-that-is-too-small/2",
        '[logger]\nfile_max_size = "1KiB"',
    ),
    entry(
        "a-command-that-is-no-list",
        "[jobs.process]\nrecorder_command = []",
    ),
    entry(
        "a-table-with-an-empty-text",
        '[jobs]\nrunner_images = {"a" = ""}',
    ),
    entry(
        "white-space-in-a-brokers-address",
        '[jobs]\napi_type = "celery"\ncelery.broker_url = "redis://a:1/0  # ours"',
    ),
    entry(
        "labels-of-another-kind-of-job",
        '[jobs]\napi_type = "celery"\ncelery.labels = {dancing = "x"}',
    ),
    entry(
        "a-services-address-with-a-path",
        '[jobs]\napi_type = "celery"\ncelery.own_url = "http://host/path"',
    ),
    entry(
        "a-workers-name-of-another-form",
        '[worker]\nname = "a b"',
    ),
    entry(
        "a-workers-certificate-without-its-key",
        '[worker]\ntls_cert_file = "c"',
    ),
    entry(
        "labelled-jobs-alone-and-no-labels",
        "[worker]\nonly_labelled = true",
    ),
    entry(
        "a-kubernetes-name-of-another-form",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.namespace = "Calls"',
    ),
    entry(
        "a-kubernetes-name-of-another-form/2",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.instance = "a b"',
    ),
    entry(
        "a-kubernetes-name-of-another-form/3",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.ca_config_map = "a b"',
    ),
    entry(
        "resource-requirements-without-types-of-jobs",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.jobs_resource_requirements = "limits: {}"',
    ),
    entry(
        "resource-requirements-without-types-of-jobs/2",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.jobs_resource_requirements = "recording: 7"',
    ),
    entry(
        "a-claims-directory-without-a-claim",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.persistent_volume_claim_dir = "/recordings"',
    ),
    entry(
        "a-log-of-jobs-that-is-too-short",
        '[jobs]\napi_type = "kubernetes"\nkubernetes.log_max_size = 1024',
    ),
]


@pytest.mark.parametrize(("name", "toml"), TABLE)
def test_a_value_that_cannot_be_used(complaint: Any, documented: Any, name: str, toml: str) -> None:
    documented(name, complaint(toml))


@pytest.mark.documents("a-variable-of-another-kind")
def test_a_variable_that_cannot_be_used(
    complaint: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_SECURITY_ENABLEADMIN", "perhaps")
    documented("a-variable-of-another-kind", complaint(""))


@pytest.mark.documents("an-unknown-key", "a-place-that-is-swept")
def test_what_is_only_warned_of(complaint: Any, documented: Any) -> None:
    documented("an-unknown-key", complaint("[jobs]\nmax_concurent_jobs = 5"))
    documented(
        "a-place-that-is-swept", complaint('[store]\ndata_source = "/tmp/calls-offloader-db"')
    )

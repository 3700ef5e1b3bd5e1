"""`jobs.celery.*` and `worker.*`: defaults of the machine, and what cannot be used is named."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from foundation.layered_config import ConfigError
from offloader.cli.main import main
from offloader.models import JobType
from offloader.settings import Settings, load_settings

CELERY = {"JOBS_APITYPE": "celery"}


def read(**environ: str) -> Settings:
    return load_settings(Path("/nonexistent"), environ)


def test_without_a_word_service_and_worker_find_each_other_by_this_hosts_name() -> None:
    settings = read(**CELERY)
    host = socket.gethostname()
    assert settings.jobs.celery.own_url == f"http://{host}:4545"
    assert settings.jobs.celery.broker_url == "redis://127.0.0.1:6379/0"
    assert settings.jobs.max_concurrent_jobs is None, "the workers' places count"
    worker = settings.worker
    assert (worker.name, worker.url) == (host, f"http://{host}:4546")
    assert (worker.api_type, worker.transcribe_slots, worker.labels) == ("process", 1, ())
    assert worker.slots >= 1


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"API_HTTP_LISTENADDRESS": "10.0.0.5:80"}, "http://10.0.0.5:80"),
        ({"API_HTTP_LISTENADDRESS": "[fd00::1]:80"}, "http://[fd00::1]:80"),
        ({"JOBS_CELERY_OWNURL": "https://pod-1:4545/"}, "https://pod-1:4545"),
    ],
)
def test_the_own_url_is_where_the_service_listens_or_what_was_set(environ, url) -> None:
    assert read(**CELERY, **environ).jobs.celery.own_url == url


def test_tls_makes_it_https() -> None:
    tls = {"API_HTTP_TLS_ENABLE": "1", "API_HTTP_TLS_CERTFILE": "c", "API_HTTP_TLS_CERTKEY": "k"}
    worker_tls = {"WORKER_TLSCERTFILE": "c", "WORKER_TLSKEYFILE": "k"}
    settings = read(**CELERY, **tls, **worker_tls)
    assert settings.jobs.celery.own_url.startswith("https://")
    assert settings.worker.url.startswith("https://")
    assert settings.worker.tls


def test_a_limit_that_the_admin_set_holds_with_celery_too() -> None:
    assert read(**CELERY, JOBS_MAXCONCURRENTJOBS="7").jobs.max_concurrent_jobs == 7
    assert read(**CELERY, JOBS_MAXCONCURRENTJOBS="auto").jobs.max_concurrent_jobs is None


def test_the_command_shows_what_limits_calls(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("JOBS_APITYPE", "celery")
    assert main(["config", "show", "--config", str(tmp_path / "none.toml")]) == 0
    assert "2 (here: no limit beside the workers' slots)" in capsys.readouterr().out


def test_labels_go_by_job_type() -> None:
    jobs = read(**CELERY, JOBS_CELERY_LABELS='{"transcribing": "gpu"}').jobs
    assert jobs.celery.labels == {JobType.TRANSCRIBING: "gpu"}
    assert read(WORKER_LABELS="gpu,eu,gpu").worker.labels == ("gpu", "eu")


def test_a_password_in_the_brokers_url_is_shown_nowhere() -> None:
    url = "amqps://user:hush@broker:5671//"
    settings = read(**CELERY, JOBS_CELERY_BROKERURL=url)
    assert settings.jobs.celery.broker_url == url
    assert "hush" not in repr(settings)
    for wrong in (
        "http://user:hush@broker",
        "redis://a:1/0;redis://:hush@b:1/0",
        "redis://:hush@broker:6379/0",
    ):
        with pytest.raises(ConfigError) as caught:
            read(**CELERY, JOBS_CELERY_BROKERURL=wrong)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"JOBS_CELERY_BROKERURL": "broker:6379"}, "should be the URL of a broker"),
        ({"JOBS_CELERY_BROKERURL": "redis://broker:port/0"}, "should be the URL of a broker"),
        ({"JOBS_CELERY_BROKERURL": "sentinel://a:26379"}, "sentinel:// cannot be used"),
        ({"JOBS_CELERY_BROKERURL": "redis://a:1/0;redis://b:1/0"}, "one broker, not several"),
        ({"JOBS_CELERY_BROKERURL": "redis://a:1/0  # ours"}, "broker_url: white space in it"),
        ({"JOBS_CELERY_QUEUEPREFIX": "a b"}, "'a b': should be 1 to 63 letters"),
        ({"JOBS_CELERY_LABELS": '{"dancing": "x"}'}, "'dancing': should be a table with the keys"),
        ({"JOBS_CELERY_LABELS": '{"recording": 1}'}, "1: should be 1 to 63 letters"),
        ({"JOBS_CELERY_OWNURL": "http://host/path"}, "without a path"),
        ({"API_HTTP_LISTENADDRESS": ":0"}, "jobs.celery.own_url: 'http://"),
        ({"JOBS_CELERY_CLAIMWAITS": "0"}, "should be a number that is at least 1"),
    ],
)
def test_what_cannot_be_used_is_named_where_jobs_run_by_celery(environ, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**CELERY, **environ)
    assert text in str(caught.value)
    if "JOBS_CELERY_CLAIMWAITS" not in environ:
        read(**environ)  # elsewhere nobody needs it


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://:hush@broker:6379/0", "no TLS"),
        ("amqp://user:hush@10.0.0.7//", "no TLS"),
        ("redis://:hush@localhost.example.com/0", "no TLS"),
        ("rediss://broker:6380/0", "no password"),
        ("amqps://user@broker//", "no password"),
        ("rediss://:hush@broker:6380/0?ssl_cert_reqs=none", "options of TLS"),
        ("amqps://u:hush@broker//?ssl_check_hostname=", "options of TLS"),
        ("rediss://:hush@broker:6380/0?socket_timeout=5", ""),
        ("amqps://user:hush@broker:5671//", ""),
        ("redis://127.0.0.9:6379/0", ""),
        ("redis://localhost/0", ""),
        ("redis:///0", ""),
        ("amqp://guest:guest@[::1]//", ""),
        ("redis+socket:///run/redis.sock", ""),
    ],
)
def test_a_broker_on_another_host_wants_tls_and_a_password(url: str, fault: str) -> None:
    told = read(JOBS_CELERY_BROKERURL=url).jobs.celery.broker_fault
    assert told.startswith(fault) if fault else not told
    assert "hush" not in told
    if fault:
        with pytest.raises(ConfigError, match=f"jobs.celery.broker_url: {fault}.*allow_insecure_"):
            read(**CELERY, JOBS_CELERY_BROKERURL=url)
    allowed = {"JOBS_CELERY_ALLOWINSECUREBROKER": "true"}
    assert read(**CELERY, JOBS_CELERY_BROKERURL=url, **allowed).jobs.celery.broker_url == url


@pytest.mark.documents("a-worker-and-a-broker-without-tls")
def test_a_worker_does_not_start_with_such_a_broker(
    tmp_path, monkeypatch, capsys, documented
) -> None:
    monkeypatch.setenv("JOBS_CELERY_BROKERURL", "redis://:hush@broker.example.com/0")
    assert main(["worker", "--config", str(tmp_path / "none.toml")]) == 1
    documented("a-worker-and-a-broker-without-tls", capsys.readouterr().err.strip())


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"WORKER_NAME": "a b"}, "worker.name: 'a b': should be letters"),
        ({"WORKER_APITYPE": "celery"}, "should be one of process docker"),
        ({"WORKER_LISTENADDRESS": "4546"}, "invalid ListenAddress value"),
        ({"WORKER_URL": "host:4546"}, "should be http(s)://HOST:PORT"),
        ({"WORKER_SLOTS": "0"}, "should be a number that is at least 1"),
        ({"WORKER_SLOTS": "many"}, 'should be a whole number or "auto"'),
        ({"WORKER_TRANSCRIBESLOTS": "-1"}, "should be a number that is at least 0"),
        ({"WORKER_LABELS": "g p u"}, "'g p u': should be 1 to 63 letters"),
        ({"WORKER_ONLYLABELLED": "true"}, "needs worker.labels"),
        ({"WORKER_TLSCERTFILE": "c"}, "worker.tls_key_file: should not be empty"),
    ],
)
def test_what_a_worker_cannot_use_is_named(environ, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**environ)
    assert text in str(caught.value)


def test_a_port_that_is_found_at_the_start_leaves_the_workers_url_open() -> None:
    assert read(WORKER_LISTENADDRESS="127.0.0.1:0").worker.url == ""

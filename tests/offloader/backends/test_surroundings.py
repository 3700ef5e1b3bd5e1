from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.layered_config import ConfigError
from offloader.backends.surroundings import Surroundings
from offloader.errors import LaunchFailed
from offloader.settings import load_settings

Make = Callable[..., Surroundings]


@pytest.fixture
def surroundings() -> Make:
    def make(**environ: str) -> Surroundings:
        return Surroundings(load_settings(Path("/nonexistent"), environ).jobs.network)

    return make


def test_proxies_and_the_ca_are_added_where_the_client_says_nothing(surroundings: Make) -> None:
    around = surroundings(JOBS_HTTPPROXY="http://p:1", JOBS_NOPROXY="10.0.0.5")
    added = around.variables({"WIDTH": "1", "NO_PROXY": "mine"}, ca_path="/ca")
    assert added == {
        "WIDTH": "1",
        "HTTP_PROXY": "http://p:1",
        "NO_PROXY": "mine",
        "TLS_CA_CERT_FILE": "/ca",
    }


def test_the_services_own_proxy_is_the_jobs_too(surroundings: Make) -> None:
    assert surroundings(HTTPS_PROXY="http://own:1").variables({}, ca_path=None) == {
        "HTTPS_PROXY": "http://own:1"
    }


def test_our_jobs_are_told_where_their_copies_go_with_the_buckets_keys_and_nothing_else_of_ours(
    surroundings: Make,
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hush"}
    around = surroundings(JOBS_COPIESURL="s3://bucket/calls", OTHER="x", **keys)
    assert around.copies() == {"COPIES_URL": "s3://bucket/calls", **keys}
    assert "hush" not in repr(around)
    assert around.variables({}, ca_path=None) == {}, "for programs that are not ours"


def test_a_directory_of_copies_needs_no_keys(surroundings: Make) -> None:
    around = surroundings(
        JOBS_COPIESURL="file:///claim", JOBS_APITYPE="process", AWS_SECRET_ACCESS_KEY="hush"
    )
    assert around.copies() == {"COPIES_URL": "file:///claim"}
    assert surroundings(AWS_SECRET_ACCESS_KEY="hush").copies() == {}


@pytest.mark.parametrize(
    ("api_type", "url", "text"),
    [
        ("process", "bucket", "should be s3://BUCKET"),
        ("process", "s3://key:hush@bucket", "should be s3://BUCKET"),
        ("process", "file://host/x", "should be s3://BUCKET"),
        ("docker", "file:///claim", "containers see no directory of the host"),
    ],
)
def test_an_address_of_copies_that_jobs_cannot_use_is_refused_at_the_start(
    surroundings: Make, api_type: str, url: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=text) as refused:
        surroundings(JOBS_COPIESURL=url, JOBS_APITYPE=api_type)
    assert "jobs.copies_url" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_site_is_reached_under_the_url_that_the_admin_gave(surroundings: Make) -> None:
    overrides = {"https://chat.example.com": "http://10.0.0.5:8065"}
    around = surroundings(JOBS_SITEURLOVERRIDES=json.dumps(overrides))
    for given, expected in (
        ("https://chat.example.com", "http://10.0.0.5:8065"),
        ("https://Chat.Example.com/", "http://10.0.0.5:8065"),
        ("https://other.example.com", "https://other.example.com"),
    ):
        assert around.variables({"SITE_URL": given}, ca_path=None)["SITE_URL"] == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8065",
        "http://mm.localhost",
        "http://127.0.0.1",
        "http://127.1.2.3:1",
        "http://[::1]:8065",
    ],
)
@pytest.mark.documents("a-site-url-on-loopback")
def test_a_loopback_site_on_a_bridge_fails_at_once_and_both_ways_out_are_named(
    surroundings: Make, url: str, documented
) -> None:
    with pytest.raises(LaunchFailed) as failure:
        surroundings().check_reachable(url, network_mode="bridge")
    documented("a-site-url-on-loopback", str(failure.value))


@pytest.mark.parametrize("network_mode", ["host", "container:mattermost"])
def test_a_loopback_site_is_fine_where_the_network_is_shared(
    surroundings: Make, network_mode: str
) -> None:
    surroundings().check_reachable("http://localhost:8065", network_mode=network_mode)


def test_a_name_that_the_admin_has_mapped_is_no_loopback(surroundings: Make) -> None:
    around = surroundings(JOBS_EXTRAHOSTS="mm.localhost:10.0.0.5")
    around.check_reachable("http://mm.localhost:8065", network_mode="bridge")
    around.check_reachable("https://chat.example.com", network_mode="bridge")


@pytest.mark.documents("the-private-ca-cannot-be-read")
def test_a_ca_file_that_is_not_there_is_named(surroundings: Make, documented) -> None:
    with pytest.raises(LaunchFailed) as failure:
        surroundings(JOBS_CACERTFILE="/no/such.pem").read_ca()
    documented("the-private-ca-cannot-be-read", str(failure.value))
    assert surroundings().read_ca() is None

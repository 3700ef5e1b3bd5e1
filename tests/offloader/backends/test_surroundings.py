from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_a_site_is_reached_under_the_url_that_the_admin_gave(surroundings: Make) -> None:
    overrides = {"https://chat.example.com": "http://10.0.0.5:8065"}
    around = surroundings(JOBS_SITEURLOVERRIDES=json.dumps(overrides))
    for given, expected in (
        ("https://chat.example.com", "http://10.0.0.5:8065"),
        ("https://Chat.Example.com/", "http://10.0.0.5:8065"),
        ("https://other.example.com", "https://other.example.com"),
    ):
        assert around.variables({"SITE_URL": given}, ca_path=None) == {"SITE_URL": expected}


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
def test_a_loopback_site_on_a_bridge_fails_at_once_and_both_ways_out_are_named(
    surroundings: Make, url: str
) -> None:
    with pytest.raises(LaunchFailed) as failure:
        surroundings().check_reachable(url, network_mode="bridge")
    assert "DOCKER_NETWORK=host" in str(failure.value)
    assert "jobs.site_url_overrides" in str(failure.value)


@pytest.mark.parametrize("network_mode", ["host", "container:mattermost"])
def test_a_loopback_site_is_fine_where_the_network_is_shared(
    surroundings: Make, network_mode: str
) -> None:
    surroundings().check_reachable("http://localhost:8065", network_mode=network_mode)


def test_a_name_that_the_admin_has_mapped_is_no_loopback(surroundings: Make) -> None:
    around = surroundings(JOBS_EXTRAHOSTS="mm.localhost:10.0.0.5")
    around.check_reachable("http://mm.localhost:8065", network_mode="bridge")
    around.check_reachable("https://chat.example.com", network_mode="bridge")


def test_a_ca_file_that_is_not_there_is_named(surroundings: Make) -> None:
    with pytest.raises(LaunchFailed, match=r"jobs\.ca_cert_file: cannot read /no/such\.pem"):
        surroundings(JOBS_CACERTFILE="/no/such.pem").read_ca()
    assert surroundings().read_ca() is None

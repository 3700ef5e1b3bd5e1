"""From an installation's wish to a run of the demo."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from testbed import selftest
from testbed.demo.options import OptionError, provide_models
from testbed.ports import HOST


def wish(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "backend": "process",
        "scenario": "short",
        "output": str(tmp_path),
        "keep": False,
        "image_registry": "registry.test/mm",
        "model": "",
        "captions_model": "small",
        "environment": {"JOBS_PROCESS_MODELSDIR": "/models"},
    } | changes


def test_jobs_get_the_models_of_the_installation_and_none_of_ours(tmp_path: Path) -> None:
    options = selftest.read_wish(wish(tmp_path))
    assert options.install is not None
    assert options.install.environment == {"JOBS_PROCESS_MODELSDIR": "/models"}
    named = {"MM_CALLS_TRANSCRIBER_LIVE_CAPTIONS_MODEL_SIZE": "small"}
    assert options.install.plugin_environment == named
    provide_models(options, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_containers_of_the_hosts_network_find_the_call_on_loopback(tmp_path: Path) -> None:
    environment = {"DOCKER_NETWORK": "host"}
    options = selftest.read_wish(wish(tmp_path, backend="docker", environment=environment))
    assert options.host == HOST


def test_other_containers_find_it_at_their_gateway(tiny_images: Any, tmp_path: Path) -> None:
    (part,) = tiny_images.client.inspect_network("bridge")["IPAM"]["Config"]
    options = selftest.read_wish(wish(tmp_path, backend="docker", environment={}))
    assert options.host == part["Gateway"]
    # As the service that is tried will have it, whatever the demo's own is.
    assert options.install is not None
    assert options.install.environment == {"DOCKER_NETWORK": ""}


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(
            "no-such-network",
            marks=pytest.mark.documents("a-selftest-that-containers-do-not-reach"),
        ),
        pytest.param(
            "none", marks=pytest.mark.documents("a-selftest-that-containers-do-not-reach/2")
        ),
    ],
)
def test_a_network_that_leads_nowhere_is_named(
    tiny_images: Any, network: str, documented: Any
) -> None:
    with pytest.raises(OptionError) as refused:
        selftest.address_of_this_host(network)
    documented.marked(str(refused.value))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"backend": 1}'])
def test_what_is_no_wish_starts_nothing(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert selftest.main() == 2
    assert "the selftest cannot be played" in capsys.readouterr().out

"""`python -m testbed.selftest`: the demo's call with the jobs of an installation (offloader/cli/selftest.py).

Standard input has one JSON object: `backend` (process or docker), `scenario`, `output` (a directory), `keep`
(the results, when all is well), `image_registry`, `model` and `captions_model` (names of folders, empty: the
plugin's defaults), `environment` (variables for a job service). Exit codes as the demo's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import docker

from testbed.demo.__main__ import play
from testbed.demo.options import DemoOptions, Install, OptionError
from testbed.demo.show import Show
from testbed.ports import HOST, Ports

_UNUSABLE: Final = 2
_ENGINE_S: Final = 10


def main() -> int:
    """0: all checks hold; 1: a check failed or something died; 2: unusable input; 130: interrupted."""
    show = Show()
    try:
        wish = json.load(sys.stdin)
        options = read_wish(wish)
    except (ValueError, KeyError, TypeError) as error:
        show.failure(f"the selftest cannot be played: {error}")
        return _UNUSABLE
    code = play(options, show)
    if code == 0 and not wish["keep"]:
        os.chdir("/")
        shutil.rmtree(options.output, ignore_errors=True)
        show.line("As all is well they are removed now; --output DIRECTORY keeps them.")
    return code


def read_wish(wish: Mapping[str, Any]) -> DemoOptions:
    """What the demo is to do. Asks the engine where containers reach this host.

    Raises:
        OptionError: no engine, or a network of it that this host is not in.
        ValueError, KeyError, TypeError: it is no wish.
    """
    environment = {str(name): str(value) for name, value in wish["environment"].items()}
    host = HOST
    if wish["backend"] == "docker":
        network = environment.setdefault("DOCKER_NETWORK", "")
        # Whatever else asks for the engine asks the same one.
        if engine := environment.get("DOCKER_HOST"):
            os.environ["DOCKER_HOST"] = engine
        host = address_of_this_host(network)
    models = {"MODEL_SIZE": wish["model"], "LIVE_CAPTIONS_MODEL_SIZE": wish["captions_model"]}
    return DemoOptions(
        output=Path(wish["output"]),
        scenario=wish["scenario"],
        ports=Ports.free(),
        backend=wish["backend"],
        host=host,
        install=Install(
            environment=environment,
            image_registry=wish["image_registry"],
            plugin_environment={
                f"MM_CALLS_TRANSCRIBER_{name}": value for name, value in models.items() if value
            },
        ),
    )


def address_of_this_host(network: str) -> str:
    """Where containers in `network` (a mode or a name; empty: the engine's bridge) reach us: an IPv4 address.

    Raises:
        OptionError: nobody can tell.
    """
    if network == "host":
        return HOST
    name = network or "bridge"
    try:
        client = docker.APIClient(
            version="auto", timeout=_ENGINE_S, **docker.utils.kwargs_from_env()
        )
        try:
            found = client.inspect_network(name)
        finally:
            client.close()
    except docker.errors.DockerException as error:
        raise OptionError(f"jobs.docker.network = {network!r}: the engine says: {error}") from error
    for part in (found.get("IPAM") or {}).get("Config") or ():
        if ":" not in part.get("Gateway", ":"):
            return str(part["Gateway"])
    raise OptionError(
        f"jobs.docker.network = {network!r}: it has no IPv4 gateway, so its containers do not reach a call "
        "on this host; try DOCKER_NETWORK=host"
    )


if __name__ == "__main__":
    sys.exit(main())

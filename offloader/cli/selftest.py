"""`offloader selftest`: a real call on this installation's backend, images, models and limits, judged.

The call needs an SFU, a stand-in for Mattermost, people and an analysis, which are the testbed's; this
service knows no media, so another process plays it, with a service of its own beside the one that runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offloader.cli.doors import find_door
from offloader.cli.failures import CommandFailed, ServiceUnreachable
from offloader.cli.requests import ServiceClient
from offloader.setting_keys import KEYS
from offloader.settings import Reading, read_settings
from offloader.version import BUILD_VERSION

BACKENDS: Final = ("process", "docker")
_TAKEN_OVER: Final = (
    *("max_concurrent_jobs", "min_free_disk", "post_call_slots", "stop_grace_s"),
    *("runner_images", "use_reference_images"),
    *("docker.network", "docker.host", "docker.memory", "docker.cpus", "docker.pids"),
    *("docker.log_max_size", "docker.pull_policy", "docker.models_dir"),
    *("process.models_dir", "process.recorder_command", "process.transcriber_command"),
    *("process.memory_max", "process.cpus", "process.pids", "process.log_max_bytes"),
)
"""Of `jobs`: what a job is made of and may use. Stores, notices, copies, proxies … are not for a test."""
_ALWAYS: Final = ("jobs.docker.models_dir", "jobs.process.models_dir", "jobs.docker.pull_policy")
"""Also by default, for the testbed has others: models of its own, and it pulls no image."""
_INTERRUPTED: Final = 130


def selftest(arguments: argparse.Namespace) -> None:
    """Play the call and print its table.

    Raises:
        CommandFailed: no room, no testbed, a backend that cannot be tried from here, or a check failed.
    """
    reading = read_settings(arguments.config, os.environ)
    if reading.problems:
        raise CommandFailed(str(reading.problems[0]))
    backend = arguments.backend or reading.settings.jobs.api_type
    if backend not in BACKENDS:
        raise CommandFailed(
            f"jobs.api_type = {backend}: its jobs run on other hosts, which do not reach a call on this one; "
            "try this host's by --backend process, or by --backend docker if it has an engine"
        )
    if not arguments.force:
        _look_for_room(reading, arguments.socket)
    package = importlib.util.find_spec("testbed")
    if package is None or not package.submodule_search_locations:
        raise CommandFailed(_without_testbed(arguments.config, reading))
    place = Path(next(iter(package.submodule_search_locations))).resolve().parent
    output = arguments.output or Path(tempfile.mkdtemp(prefix="offloader-selftest-"))
    wish = {
        "backend": backend,
        "scenario": "short" if arguments.short else "full",
        "output": str(output.resolve()),
        "keep": arguments.output is not None,
        "image_registry": reading.settings.jobs.image_registry,
        "model": arguments.model,
        "captions_model": arguments.captions_model,
        "environment": environment(reading),
    }
    code = _play(wish, place)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise CommandFailed(
            f"the selftest failed: what, and which log tells why, is above ({output})"
        )


def environment(reading: Reading) -> dict[str, str]:
    """The variables that make another service run jobs as this one does."""
    return {
        str(KEYS[name].env): _text(reading.values[name])
        for name in (f"jobs.{key}" for key in _TAKEN_OVER)
        if reading.sources[name] != "default" or name in _ALWAYS
    }


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, (list, tuple)):
        return json.dumps(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _look_for_room(reading: Reading, socket: Path | None) -> None:
    """A call that is just being recorded must not suffer. No service, no call.

    Raises:
        CommandFailed: the running service has none left, or does not tell.
    """
    try:
        door = find_door(reading.settings.api, socket_path=socket, url=None, ca_file=None)
        status = ServiceClient(door).get("admin", "status")
    except ServiceUnreachable:
        return
    calls, most = status["calls_in_progress"], status["max_calls"]
    if calls >= most:
        raise CommandFailed(
            f"{calls} of {most} calls are in progress: the selftest would take from them what they need; "
            "wait (offloader status), or run it all the same by --force"
        )


def _without_testbed(config: Path, reading: Reading) -> str:
    """The command that runs it from the image."""
    command = "docker run --rm --network host -v /var/run/docker.sock:/var/run/docker.sock "
    command += "--group-add $(stat -c %g /var/run/docker.sock) "
    if reading.file_found:
        command += f"-v {shlex.quote(str(config.resolve()))}:/config.toml:ro "
    image = f"calls-native-offloader/calls-testbed:{BUILD_VERSION}"
    command += f"{image} offloader selftest --config /config.toml --backend docker"
    return (
        "the testbed, which plays the call, is not installed here: install the extra `testbed`, or run its "
        f"image (with the variables that the service has, by -e):\n{command}"
    )


def _play(wish: Mapping[str, Any], place: Path) -> int:
    """The exit code of the testbed's process, which knows nothing of this service's variables and files."""
    ours = {key.env for key in KEYS.values()}
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    Path(wish["output"]).mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "testbed.selftest"],
        stdin=subprocess.PIPE,
        cwd=wish["output"],
        env={
            **clean,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(place), clean.get("PYTHONPATH")))),
        },
    )
    with process:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(wish).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # its exit code tells
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # it has heard the Ctrl-C, too, and takes everything down

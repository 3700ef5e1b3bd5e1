"""Runs `python -m jobs.selfcheck`, which knows media, where jobs run: as a process, or in a job's image.

This service knows no media: it sees a JSON object, or why there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from offloader.doctor.docker import engine_address, not_here
from offloader.doctor.docker_images import wanted_image
from offloader.doctor.step import Context, aside

_PACKAGES: Final = {"recorder": "jobs.recorder", "transcriber": "jobs.transcriber"}
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""As jobs have it: BLAS would spin on a second core beside the model."""
_PING_S: Final = 10.0
"""An engine that hangs is not waited for as long as a measurement."""
_INHERITED: Final = ("PATH", "LANG", "HOME")
MODELS_IN_CONTAINERS: Final = "/models"


class NoSelfcheck(Exception):
    """It cannot be run here; the text says why."""


async def run_selfcheck(
    context: Context,
    program: str,
    *arguments: str,
    timeout_s: float,
    module: str = "jobs.selfcheck",
) -> Mapping[str, Any]:
    """What `module ARGUMENTS` tells, as JSON; `program`: whose installation, recorder or transcriber.

    Raises:
        NoSelfcheck: jobs do not run on this host, or it failed.
    """
    if context.backend == "process":
        output = await _as_process(context, program, (module, *arguments), timeout_s)
    elif context.backend == "docker":
        output = await _in_container(context, program, (module, *arguments), timeout_s)
    else:
        raise NoSelfcheck(f"jobs do not run on this host: {not_here(context)}")
    try:
        document = json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise NoSelfcheck(f"{program}: {_last_words(output)}") from None
    if not isinstance(document, dict) or "error" in document:
        raise NoSelfcheck(f"{program}: {document.get('error')}")
    return document


async def _as_process(
    context: Context, program: str, arguments: Sequence[str], timeout_s: float
) -> str:
    own = context.settings.jobs.process
    command = own.recorder_command if program == "recorder" else own.transcriber_command
    if list(command[1:]) != ["-m", _PACKAGES[program]]:
        raise NoSelfcheck(f"jobs.process.{program}_command is not python -m {_PACKAGES[program]}")
    environ = {name: context.environ[name] for name in _INHERITED if name in context.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *(command[0], "-m", *arguments),
            env={**environ, **_ONE_THREAD},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise NoSelfcheck(f"{command[0]}: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        raise NoSelfcheck(f"{program}: not done within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode is not None and process.returncode < 0:
        raise NoSelfcheck(f"{program}: killed by signal {-process.returncode}")
    return output.decode(errors="replace")


async def _in_container(
    context: Context, program: str, arguments: Sequence[str], timeout_s: float
) -> str:
    from offloader.backends.docker.engine import Engine, EngineError

    image = wanted_image(program, context)
    if image is None:
        raise NoSelfcheck("the plugin names the image of its release")
    engine = Engine(host=engine_address(context), environ=dict(context.environ))
    command = ["-m", *arguments]
    name = f"calls-{program}-check-{secrets.token_hex(6)}"
    models_dir = context.settings.jobs.docker.models_dir
    if not any(argument.startswith(MODELS_IN_CONTAINERS) for argument in arguments):
        models_dir = ""
    elif await aside(lambda: _unseen(models_dir, engine_address(context))):
        raise NoSelfcheck(f"{models_dir}: no directory that this user sees")
    try:
        await engine.call(lambda asked: asked.client.ping(), timeout_s=_PING_S)
        output: str = await engine.call(
            lambda asked: _contained(asked.client, name, image, command, models_dir, timeout_s),
            timeout_s=timeout_s + 15,
        )
    except EngineError as error:
        raise NoSelfcheck(f"{image}: {error}") from error
    finally:
        engine.close()
    return output


def _unseen(models_dir: str, address: str) -> bool:
    """A directory of this host that is not there: the engine would make it. Blocks."""
    on_host = models_dir.startswith("/") and address.startswith("unix:")
    return on_host and not os.path.isdir(models_dir)


def _contained(
    client: Any, name: str, image: str, command: Sequence[str], models_dir: str, timeout_s: float
) -> str:
    """Like a job: no rights, no network, read-only; removed in any case. Blocks."""
    import docker
    import requests

    host_config = client.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "size=64m"},  # nosec B108  # the container's own
        binds=[f"{models_dir}:{MODELS_IN_CONTAINERS}:ro"] if models_dir else None,
    )
    client.create_container(
        image,
        name=name,
        command=list(command),
        entrypoint=["python"],
        host_config=host_config,
        network_disabled=True,
    )
    try:
        client.start(name)
        try:
            client.wait(name, timeout=timeout_s)
        except requests.RequestException as error:
            raise docker.errors.DockerException(f"not done within {timeout_s:g} s") from error
        return bytes(client.logs(name, stdout=True, stderr=True, tail=20)).decode(errors="replace")
    finally:
        client.remove_container(name, force=True, v=True)


def models_dir_there(context: Context) -> Path:
    """Where jobs on this host look for models, by the name that they know."""
    if context.backend == "docker":
        return Path(MODELS_IN_CONTAINERS)
    own = context.settings.jobs.process.models_dir
    return Path(own or context.environ.get("MODELS_DIR") or MODELS_IN_CONTAINERS)


def _last_words(output: str) -> str:
    """For an admin: what a traceback ends with."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    text = lines[-1][:300] if lines else "it says nothing"
    if "No module named" in text:
        return f"{text}: the jobs are not installed there (pip install '.[recorder,transcriber]')"
    return text

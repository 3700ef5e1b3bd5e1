"""Makes, starts, finds and removes containers and volumes. Blocks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docker.errors import APIError, NotFound

from offloader.backends.docker.container import (
    CA_PATH,
    ContainerPlan,
    labels,
)
from offloader.backends.docker.engine import Engine
from offloader.backends.docker.observation import is_running
from offloader.backends.docker.options import (
    APP,
    APP_LABEL,
    IMAGE_LABEL,
    INSTANCE_LABEL,
    JOB_LABEL,
    RESULT_LABEL,
    SALVAGE_LABEL,
    TYPE_LABEL,
    DockerOptions,
    Reference,
)
from offloader.backends.docker.volume import put_files
from offloader.backends.own_input import input_document
from offloader.errors import BackendError, LaunchFailed, WorkloadBusy
from offloader.models import JobType


def launch(
    engine: Engine, plan: ContainerPlan, *, ca: bytes | None, options: DockerOptions
) -> None:
    """Make volume and container of a job, or the container of a salvage, and start it.

    Raises:
        LaunchFailed: nothing was started and nothing is left behind.
    """
    reference, client = plan.reference, engine.client
    fresh = not reference.salvage
    if fresh and (engine.container(reference.container) or engine.volume(reference.volume)):
        raise LaunchFailed(f"{reference.container} is there already")
    if fresh:
        client.create_volume(reference.volume, labels=labels(reference, options))
    try:
        client.create_container_from_config(dict(plan.body), reference.container)
    except APIError as error:
        if fresh:
            _remove_volume(engine, reference.volume)
        raise LaunchFailed(f"docker: {error.explanation or error}") from error
    try:
        if ca is not None:
            put_files(engine, reference.container, {CA_PATH: ca})
        _start(engine, plan)
    except BaseException as error:
        client.remove_container(reference.container, v=True, force=True)
        if fresh:
            _remove_volume(engine, reference.volume)
        if isinstance(error, APIError):
            raise LaunchFailed(f"docker: {error.explanation or error}") from error
        raise


def make_volume(engine: Engine, reference: Reference, options: DockerOptions) -> None:
    """The job's volume, where this engine has none of it.

    Raises:
        LaunchFailed: it cannot be made.
    """
    if engine.volume(reference.volume) is None:
        try:
            engine.client.create_volume(reference.volume, labels=labels(reference, options))
        except APIError as error:
            raise LaunchFailed(f"docker: {error.explanation or error}") from error


def _start(engine: Engine, plan: ContainerPlan) -> None:
    client, name = engine.client, plan.reference.container
    if not plan.told:
        client.start(name)
        return
    # What is sent before the start waits in the engine; standard input ends when we are gone, however that
    # happens, so a job never waits for an input that will not come.
    attached = client.attach_socket(name, params={"stdin": 1, "stream": 1})
    connection: socket.socket = getattr(attached, "_sock", attached)
    try:
        connection.sendall(input_document(plan.told))
        client.start(name)
        connection.shutdown(socket.SHUT_WR)
    finally:
        attached.close()
        connection.close()


def find(engine: Engine, options: DockerOptions) -> Mapping[str, Reference]:
    """Every job of this installation, by its ID: by containers, and by volumes that lost theirs."""
    filters = {
        "label": [f"{APP_LABEL}={APP}", f"{INSTANCE_LABEL}={options.docker.instance}", JOB_LABEL]
    }
    client = engine.client
    things = [
        *client.containers(all=True, filters=filters),
        *(client.volumes(filters=filters)["Volumes"] or []),
    ]
    found: dict[str, Reference] = {}
    for thing in things:
        marks = thing.get("Labels") or {}
        if SALVAGE_LABEL not in marks:
            with contextlib.suppress(KeyError, ValueError):
                found.setdefault(marks[JOB_LABEL], _reference(marks))
    return found


def next_salvage(engine: Engine, reference: Reference) -> int:
    """The number of the next attempt; containers of earlier ones are removed.

    Raises:
        WorkloadBusy: one still runs.
    """
    number = 0
    for container in containers_of(engine, reference):
        mark = container["Config"]["Labels"].get(SALVAGE_LABEL, "")
        if mark.isdigit():
            if is_running(container):
                raise WorkloadBusy(f"{reference.container}: something works on its files still")
            number = max(number, int(mark))
            engine.client.remove_container(_name(container), v=True)
    return number + 1


def remove(engine: Engine, reference: Reference) -> None:
    """Containers, salvages included, and volume of a job; of a salvage only its container. With containers go
    the nameless volumes that images of others may declare.

    Raises:
        BackendError: something of it still runs.
    """
    containers = [
        container
        for container in containers_of(engine, reference)
        if not reference.salvage or _name(container) == reference.container
    ]
    for container in containers:
        if is_running(container):
            raise BackendError(f"{reference.container}: the job still runs")
    for container in containers:
        with contextlib.suppress(NotFound):
            engine.client.remove_container(_name(container), v=True)
    if not reference.salvage:
        with contextlib.suppress(NotFound):
            engine.client.remove_volume(reference.volume)


def containers_of(engine: Engine, reference: Reference) -> Sequence[Mapping[str, Any]]:
    """Every container of the job, its salvages included, as the engine knows them."""
    filters = {"label": [f"{APP_LABEL}={APP}", f"{JOB_LABEL}={reference.job_id}"]}
    return list(_inspected(engine, engine.client.containers(all=True, filters=filters)))


def _inspected(engine: Engine, listed: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for entry in listed:
        # None while it is being removed; one with a second slash is how another container calls it.
        for name in (name for name in entry["Names"] or () if name.count("/") == 1):
            container = engine.container(name.removeprefix("/"))
            if container is not None:
                yield container


def _name(container: Mapping[str, Any]) -> str:
    """By names alone: a proxy (`engine_calls.py`) can tell whose container it is."""
    return str(container["Name"]).removeprefix("/")


def _reference(marks: Mapping[str, str]) -> Reference:
    return Reference(
        job_id=marks[JOB_LABEL],
        job_type=JobType(marks[TYPE_LABEL]),
        image=marks[IMAGE_LABEL],
        result=marks.get(RESULT_LABEL, ""),
    )


def _remove_volume(engine: Engine, name: str) -> None:
    """What a launch that failed has made; one that is in use is another's."""
    with contextlib.suppress(APIError):
        engine.client.remove_volume(name)

"""`offloader support-bundle`: what somebody who helps needs to see, in one file, without secrets."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from offloader.cli import output
from offloader.cli.doctor import context_of
from offloader.cli.doors import find_door
from offloader.cli.failures import BadUsage, CommandFailed, ServiceUnreachable
from offloader.cli.requests import ServiceClient
from offloader.doctor.examination import examine
from offloader.doctor.step import Context
from offloader.doctor.steps import all_steps
from offloader.support_bundle import Collection, Entry, default_name, write_archive
from offloader.support_bundle_host import (
    configuration,
    known_secrets,
    process_behind,
    service_log,
    versions,
)
from offloader.support_bundle_redaction import Redactor
from offloader.support_bundle_service import (
    LOGS,
    failed_jobs,
    job_log,
    metrics,
    readable_ids,
    state,
    with_details,
)

Value = TypeVar("Value")

_README: Final = """\
What this holds: versions, the configuration in force, what `offloader doctor` finds, the service's state and
metrics, the last failed jobs with what shows why, and the ends of logs.

What it does not hold: recordings, transcripts, databases, keys, tokens. Values that are secret are ***.
Ids of Mattermost that are none of the listed jobs' are written as id-XXXXXXXX: the same one here is the same
one there, and nobody can turn it back.

Made by `offloader support-bundle`. Look through it before you send it: it names hosts, addresses and paths.
"""


def support_bundle(arguments: argparse.Namespace) -> None:
    """Collect, list, ask, write.

    Raises:
        BadUsage: options of no use, or nobody to ask.
        CommandFailed: the file cannot be written, or somebody said no.
    """
    path: Path = arguments.output or Path(default_name(datetime.now(UTC)))
    if path.exists():
        raise CommandFailed(f"{path}: is there already: give another one by --output")
    if not arguments.yes and (arguments.json or not sys.stdin.isatty()):
        raise BadUsage("nobody can be asked here: --yes writes the bundle after listing it")
    if not arguments.json:
        print("collecting; `offloader doctor` takes most of the time …", flush=True)
    collection = collect(arguments)
    _list(collection, arguments)
    if not (arguments.yes or _agreed(path)):
        raise CommandFailed("nothing is written")
    try:
        size_bytes = write_archive(path, collection.entries)
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be written: {error.strerror or error}") from error
    if arguments.json:
        output.print_json(_document(path, size_bytes, collection))
    else:
        print(f"{path}: {output.size(size_bytes)}, readable by you only")


def collect(arguments: argparse.Namespace) -> Collection:
    """Everything that can be had; raises as `support_bundle`."""
    context = context_of(arguments)
    client = _client(arguments, context)
    socket = arguments.socket or context.settings.api.admin_socket
    process = process_behind(socket)
    secrets = known_secrets(context.reading, os.environ, process) | {context.token}
    lacking = Collection()
    no_jobs: list[dict[str, Any]] = []
    jobs = _had(lacking, "jobs.json", lambda: failed_jobs(client), no_jobs)
    jobs = [
        _had(lacking, f"evidence of {job['id']}", partial(with_details, client, job), job)
        for job in jobs
    ]
    redactor = Redactor(secrets, harmless=readable_ids(jobs))
    found = Collection(missing=lacking.missing)

    def document(name: str, make: Callable[[], Any]) -> None:
        made = _had(found, name, make, None)
        if made is not None:
            found.add(Entry.of_document(name, made, redactor))

    def text(name: str, make: Callable[[], str]) -> None:
        made = _had(found, name, make, None)
        if made is not None:
            found.add(Entry.of_text(name, made, redactor))

    found.add(Entry("README.txt", _README.encode()))
    document("versions.json", versions)
    document("configuration.json", lambda: configuration(context.config_path, context.reading))
    document("doctor.json", lambda: asyncio.run(examine(all_steps(), context)).document())
    document("state.json", lambda: state(client))
    text("metrics.txt", lambda: metrics(client))
    if jobs:
        document("jobs.json", lambda: jobs)
    for job in jobs[:LOGS]:
        text(f"jobs/{job['id']}.log", partial(job_log, client, job["id"]))
    text("service.log", lambda: service_log(context.reading, process)[0])
    if found.missing:
        missing = [{"name": m.name, "reason": m.reason} for m in found.missing]
        document("missing.json", lambda: missing)
    return found


def _client(arguments: argparse.Namespace, context: Context) -> ServiceClient | _Nobody:
    """A way to the service, or one that says why there is none."""
    try:
        door = find_door(
            context.settings.api,
            socket_path=arguments.socket,
            url=arguments.url,
            ca_file=arguments.ca_cert if arguments.url else None,
        )
    except CommandFailed as error:
        if isinstance(error, BadUsage):
            raise
        return _Nobody(str(error))
    return ServiceClient(door)


class _Nobody(ServiceClient):
    """No service can be asked."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def get(self, *path: str, query: Any = None) -> Any:
        raise ServiceUnreachable(self._reason)

    def stream(self, *path: str, query: Any = None, patient: bool = False) -> Any:
        raise ServiceUnreachable(self._reason)


def _had(collection: Collection, name: str, make: Callable[[], Value], default: Value) -> Value:
    """What `make` gives; where it cannot, `default`, and a line about why: the rest is worth having."""
    try:
        return make()
    except (CommandFailed, OSError, KeyError, TypeError, ValueError) as error:
        collection.lacks(name, str(error) or type(error).__name__)
        return default


def _list(collection: Collection, arguments: argparse.Namespace) -> None:
    if arguments.json:
        return
    rows = [(entry.name, output.size(entry.size_bytes)) for entry in collection.entries]
    output.print_table(("file", "size"), rows, empty="nothing")
    for missing in collection.missing:
        print(f"not there: {missing.name}: {output.shown(missing.reason)}")


def _agreed(path: Path) -> bool:
    try:
        answer = input(f"Write these into {path}? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _document(path: Path, size_bytes: int, collection: Collection) -> dict[str, Any]:
    return {
        "file": str(path),
        "size_bytes": size_bytes,
        "entries": [
            {"name": entry.name, "size_bytes": entry.size_bytes} for entry in collection.entries
        ],
        "missing": [{"name": m.name, "reason": m.reason} for m in collection.missing],
    }

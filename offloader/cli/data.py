"""`offloader data …`: what is kept of a call, a channel or a person."""

from __future__ import annotations

import argparse
from typing import Any

from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.cli.requests import ServiceClient


def find(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """List it; changes nothing."""
    _show(client.post("admin", "data", "find", body=_body(arguments)), arguments)


def delete(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Delete record, log, files and token of every job that is found."""
    document = client.post("admin", "data", "delete", body=_body(arguments))
    _show(document, arguments)
    left = [job for job in document["jobs"] if job["outcome"] in ("running", "held")]
    if left:
        raise CommandFailed(f"{_count(left)} left: running or held")


def hold(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Keep it from every sweep and deletion, or no longer."""
    action = "release" if arguments.release else "hold"
    document = client.post("admin", "data", action, body=_body(arguments))
    _show(document, arguments)
    late = [job for job in document["jobs"] if job["outcome"] == "being deleted"]
    if late:
        raise CommandFailed(f"{_count(late)} not held: being deleted already")


def _body(arguments: argparse.Namespace) -> dict[str, str]:
    wanted = {kind: getattr(arguments, kind) for kind in ("call", "channel", "user")}
    wanted["hold"] = getattr(arguments, "reason", None)
    return {name: value for name, value in wanted.items() if value}


def _show(document: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        output.print_json(document)
        return
    rows = [
        (
            job["id"],
            job["type"],
            output.moment(job["start_at"]),
            "running" if job["state"] != "finished" else job["files"],
            output.size(job["size_bytes"]) if job["size_bytes"] is not None else None,
            job["hold"] or None,
            job["outcome"],
        )
        for job in document["jobs"]
    ]
    columns = ("job", "type", "started", "files", "size", "held", "outcome")
    output.print_table(columns, rows, empty="nothing is kept of it")
    for job in document["unsearched"]:
        print(f"note: not looked into: {job['id']}: {output.shown(job['reason'])}")
    if document["records_only"]:
        print(
            f"note: of {_count([None] * document['records_only'])} only record and log are left, "
            "which name nobody"
        )


def _count(jobs: list[Any]) -> str:
    return "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"

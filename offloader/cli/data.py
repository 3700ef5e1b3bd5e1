"""`offloader data …`: what is kept of a call, a channel or a person."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from offloader.cli import output
from offloader.cli.failures import BadUsage, CommandFailed
from offloader.cli.jobs import owner
from offloader.cli.requests import ServiceClient

_WHERE: Final = {
    "post_id": "there it is the ID of a call's post (post_id): --call finds it",
    "recording_id": "there it is a recording's ID (recording_id)",
    "transcription_id": "there it is a transcription's ID (transcription_id)",
    "call_id": "there it is the channel's ID (call_id): --channel finds it",
}
_OF_ONE: Final = ("recording_id", "transcription_id")


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
    """Keep it from every sweep and deletion, or no longer.

    Raises:
        BadUsage: a reason to hold no longer.
    """
    if arguments.release and arguments.reason is not None:
        raise BadUsage("--reason: is for a hold, not for --release")
    action = "release" if arguments.release else "hold"
    document = client.post("admin", "data", action, body=_body(arguments))
    _show(document, arguments)
    late = [job for job in document["jobs"] if job["outcome"] == "being deleted"]
    if late:
        raise CommandFailed(f"{_count(late)} not held: being deleted already")


def _body(arguments: argparse.Namespace) -> dict[str, str]:
    wanted = {kind: getattr(arguments, kind) for kind in ("call", "channel", "user")}
    wanted["hold"] = getattr(arguments, "reason", None)
    return {name: value for name, value in wanted.items() if value is not None}


def _show(document: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        output.print_json(document)
        return
    rows = [
        (
            job["id"],
            job["type"],
            owner(job),
            output.moment(job["start_at"]),
            _files(job),
            output.size(job["size_bytes"]) if job["size_bytes"] is not None else None,
            job["hold"] or None,
            document.get("matched"),
            job["outcome"],
        )
        for job in document["jobs"]
    ]
    columns = (
        *("job", "type", "client", "started"),
        *("files", "size", "held", "matched", "outcome"),
    )
    output.print_table(columns, rows, empty="nothing is kept of it")
    for other in document.get("left_out", ()):
        print(f"note: {_count([None] * other['jobs'])} not in this list: {_why(document, other)}")
    for job in document["unsearched"]:
        print(f"note: not looked into: {job['id']}: {output.shown(job['reason'])}")
    if document["records_only"]:
        print(
            f"note: of {_count([None] * document['records_only'])} only record and log are left, "
            "which name nobody"
        )


def _files(job: Mapping[str, Any]) -> str:
    if job["state"] != "finished":
        return "running"
    return "to be deleted" if job.get("deletion_at") else str(job["files"])


def _why(document: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if other["matched"] == "post_id" and document["matched"] in _OF_ONE:
        post = next(job["call"] for job in document["jobs"] if job["call"])
        return f"of the same call, which --call {output.shown(post)} finds whole"
    return _WHERE[other["matched"]]


def _count(jobs: list[Any]) -> str:
    return "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"

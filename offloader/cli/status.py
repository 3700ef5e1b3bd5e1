"""`offloader status`, `drain`, `undrain`: what is going on, and may the service be restarted."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any, Final

from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.cli.requests import ServiceClient

_LOOK_EVERY_S: Final = 1.0


def status(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Calls in progress, results that wait, and whether a restart would hurt anybody."""
    document = client.get("admin", "status")
    if arguments.json:
        output.print_json(document)
    else:
        _print_status(document)
    if arguments.safe and not document["safe_to_restart"]:
        raise CommandFailed(f"not safe to restart: {document['reason']}")


def drain(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Refuse new jobs; with `--wait`, until a restart hurts nobody.

    Raises:
        CommandFailed: the time of `--timeout` is over; the service goes on draining.
    """
    document = client.post("admin", "drain")
    until_s = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    told = None
    while arguments.wait and document["jobs"]:
        line = _waiting_line(document)
        if not arguments.json and line != told:
            print(line, flush=True)
            told = line
        if until_s is not None and time.monotonic() >= until_s:
            raise CommandFailed(
                f"still {len(document['jobs'])} jobs after {arguments.timeout:g} s; the service goes on "
                "draining: wait again, or take new jobs again by `offloader undrain`"
            )
        time.sleep(_LOOK_EVERY_S)
        document = client.get("admin", "status")
    if arguments.json:
        output.print_json(document)
    elif document["jobs"]:
        print(f"draining: new jobs are refused; {_waiting_line(document)}")
    else:
        print("drained: new jobs are refused and none is running; `offloader undrain` ends it")


def undrain(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Take new jobs again."""
    document = client.post("admin", "undrain")
    if arguments.json:
        output.print_json(document)
    else:
        print("new jobs are taken again")


def _print_status(document: Mapping[str, Any]) -> None:
    safe = "yes" if document["safe_to_restart"] else f"no: {document['reason']}"
    outbox = document["unpublished"]
    waiting = f"{outbox['waiting']} waiting"
    if outbox["waiting"]:
        waiting += f", the oldest for {output.lasting(outbox['oldest_age_s'])}"
    if outbox["given_up"]:
        waiting += f"; {outbox['given_up']} given up (offloader jobs list, republish)"
    output.print_fields(
        {
            "version": document["version"],
            "backend": document["backend"],
            "calls in progress": f"{document['calls_in_progress']} of {document['max_calls']}",
            "unpublished results": waiting,
            "takes new jobs": "no: it is draining" if document["draining"] else "yes",
            "safe to restart": safe,
        }
    )
    if document["jobs"]:
        print()
        rows = [
            (
                *(
                    job["id"],
                    job["type"],
                    job["state"],
                    "after its call" if job["post_call"] else "",
                ),
                output.moment(job["deadline_at"]),
            )
            for job in document["jobs"]
        ]
        output.print_table(("job", "type", "state", "", "ends at the latest"), rows, empty="")


def _waiting_line(document: Mapping[str, Any]) -> str:
    count = len(document["jobs"])
    latest = max(job["deadline_at"] for job in document["jobs"])
    jobs = "job is" if count == 1 else "jobs are"
    return f"{count} {jobs} running, at the latest until {output.moment(latest)}"

"""`offloader jobs verify`: is what jobs have kept still what they wrote?

Files are read through the service, as `jobs artifacts` does: so it works for every backend whose files that
command shows, those on other hosts and in copies included, and all bytes come this way.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from foundation.file_manifest import MOST_BYTES
from offloader.cli import output
from offloader.cli.failures import BadUsage, CommandFailed, Refused
from offloader.cli.requests import ServiceClient
from offloader.job_manifest import Found, compare

_PAGE: Final = 100


def verify(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """One job, or all that have ended and left something.

    Raises:
        BadUsage: neither a job nor `--all`, or both.
        CommandFailed: something is not as it was written; the first mismatch is named.
    """
    if (arguments.id is None) != arguments.all:
        raise BadUsage("jobs verify: name a JOB, or give --all")
    jobs = _all(client) if arguments.all else [_one(client, arguments.id)]
    verdicts: list[tuple[str, Found]] = []
    for job in jobs:
        if job["state"] != "finished":
            if not arguments.all:
                raise CommandFailed(f"job {job['id']} has not ended: its files are still written")
            continue
        found = _found(client, job["id"])
        # Killed before it could write one; there will be one when it is published.
        open_still = found.missing and job["unpublished"]
        if found.files and not (open_still and arguments.all):
            verdicts.append((job["id"], found))
    bad = [(job_id, found) for job_id, found in verdicts if found.problem]
    if arguments.json:
        output.print_json({"jobs": [{"id": job_id, **asdict(found)} for job_id, found in verdicts]})
    else:
        rows = [(job_id, found.files, found.problem or "good") for job_id, found in verdicts]
        output.print_table(("job", "files", "verdict"), rows, empty="no files are kept")
    if bad:
        job_id, first = bad[0]
        raise CommandFailed(f"{len(bad)} of {len(verdicts)} jobs: {job_id}: {first.problem}")
    if not arguments.all and verdicts and not arguments.json:
        print(f"SHA-256 of the manifest's last line: {verdicts[0][1].sha256}")


def _one(client: ServiceClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get("jobs", job_id, query={"details": "1"})
    return job


def _all(client: ServiceClient) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        query = {"state": "finished", "before": cursor, "limit": str(_PAGE)}
        page = client.get("jobs", query=query)
        yield from page["jobs"]
        cursor = page["next"]
        if cursor is None or not page["jobs"]:
            return


def _found(client: ServiceClient, job_id: str) -> Found:
    try:
        document = client.get("jobs", job_id, "artifacts")
        names = [file["name"] for file in document["artifacts"]]
        return compare(
            names,
            read=lambda name: b"".join(_chunks(client, job_id, name, most_bytes=MOST_BYTES)),
            digest=lambda name: _digest(client, job_id, name),
        )
    except Refused as error:
        return Found(problem=str(error), files=1)


def _digest(client: ServiceClient, job_id: str, name: str) -> tuple[int, str]:
    size_bytes, digest = 0, hashlib.sha256()
    for chunk in _chunks(client, job_id, name):
        size_bytes += len(chunk)
        digest.update(chunk)
    return size_bytes, digest.hexdigest()


def _chunks(
    client: ServiceClient, job_id: str, name: str, *, most_bytes: int | None = None
) -> Iterator[bytes]:
    """The file; no more than `most_bytes` of it, for whoever keeps it in memory."""
    left = most_bytes
    with client.stream("jobs", job_id, "artifacts", name) as chunks:
        for chunk in chunks:
            if left is not None:
                chunk, left = chunk[:left], left - len(chunk[:left])
            yield chunk

"""`offloader jobs …`: look at jobs, stop them, read what they left, publish it."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from offloader.cli import output
from offloader.cli.failures import BadUsage, CommandFailed
from offloader.cli.requests import ServiceClient
from offloader.setting_values import parse_retention

_PAGE: Final = 100
_COLUMNS: Final = (
    *("id", "type", "client", "state", "ended by", "exit", "created", "lasted", "result"),
)
_TOKEN_LIMIT_BYTES: Final = 4096
_OPTIONS_LIMIT_BYTES: Final = 64 * 1024


def list_jobs(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Newest first; as many as asked for, over as many pages as that takes."""
    left: int = arguments.limit
    cursor: str | None = None
    jobs: list[dict[str, Any]] = []
    while left > 0:
        query = {
            "type": arguments.type,
            "state": arguments.state,
            "since": _since(arguments.since, datetime.now(UTC)),
            "before": cursor,
            "limit": str(min(left, _PAGE)),
        }
        page = client.get("jobs", query=query)
        jobs += page["jobs"]
        left -= len(page["jobs"])
        cursor = page["next"]
        if cursor is None or not page["jobs"]:
            break
    if arguments.json:
        output.print_json({"jobs": jobs, "more": cursor is not None})
        return
    output.print_table(_COLUMNS, map(_row, jobs), empty="no jobs")
    if cursor is not None:
        print(f"… and older ones: --limit {arguments.limit * 10} shows more")


def show(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Everything about one job but its log."""
    job = client.get("jobs", arguments.id, query={"details": "1"})
    if arguments.json:
        output.print_json(job)
        return
    publication = job.get("publication") or {}
    again = job.get("retranscription") or {}
    failure = job.get("failure") or {}
    output.print_fields(
        {
            "job": job["id"],
            "type": job["type"],
            "client": owner(job),
            "state": job["state"],
            "ended by": job["stop_reason"],
            "exit code": job["exit_code"],
            "failed at": failure.get("stage"),
            "because": failure.get("cause"),
            "what happened": job["detail"],
            "next step": job["next_step"],
            "created": output.moment(job["start_at"]),
            "to end by": None if "stop_at" in job else output.moment(job["deadline_at"]),
            "ended": output.moment(job.get("stop_at")),
            "runner": job["runner"],
            "result": _result(job),
            "deletion": _deletion(job),
            "next attempt": output.moment(publication.get("next_at")),
            "last attempt": publication.get("detail"),
            "transcribed again": again.get("state"),
            "its files": again.get("artifacts"),
            "what became of it": again.get("detail"),
            "site": job["input_data"].get("site_url"),
            "channel": job["input_data"].get("call_id"),
            "post": job["input_data"].get("post_id"),
        }
    )
    if lines := job.get("last_log_lines"):
        print("last log lines:")
        for line in lines:
            print(f"  {output.shown(line)}")


def logs(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """The job's log as it is, or on and on until the job has ended."""
    query = {"follow": "1"} if arguments.follow else None
    with client.stream(
        "jobs", arguments.id, "logs", query=query, patient=arguments.follow
    ) as chunks:
        if arguments.json:
            text = b"".join(chunks).decode(errors="replace")
            output.print_json({"id": arguments.id, "lines": text.splitlines()})
            return
        for chunk in chunks:
            output.write_bytes(chunk)


def stop(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Ask a job to leave its call and finish."""
    job = client.post("jobs", arguments.id, "stop")
    if arguments.json:
        output.print_json(job)
    elif job["state"] == "finished":
        print(f"job {job['id']} has ended")
    else:
        print(f"job {job['id']} is told to stop: it finishes its file and uploads it")


def artifacts(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Which files a job left; with names, fetch them."""
    if arguments.name:
        _fetch(client, arguments)
        return
    document = client.get("jobs", arguments.id, "artifacts")
    if arguments.json:
        output.print_json(document)
        return
    rows = [(file["name"], output.size(file["size_bytes"])) for file in document["artifacts"]]
    output.print_table(("file", "size"), rows, empty="no files: what it made is published")


def republish(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Try now to publish what a job could not, with the newest known token or the given one."""
    body = {"auth_token": _token(arguments.token_file)} if arguments.token_file else None
    job = client.post("jobs", arguments.id, "republish", body=body)
    if arguments.json:
        output.print_json(job)
    else:
        print(f"job {job['id']} is tried again within seconds; `jobs show` tells how it went")


def retranscribe(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Transcribe what a job kept once more, with whatever differs from the job's own settings."""
    if arguments.token_file and not arguments.publish:
        raise BadUsage("--token-file: is for --publish alone")
    words = arguments.vocabulary
    wish = {
        "model": arguments.model,
        "language": arguments.language,
        "engine": arguments.engine,
        "vocabulary": words and [word.strip() for word in words.split(",") if word.strip()],
        "engine_options": arguments.engine_options and _options(arguments.engine_options),
        "publish": arguments.publish or None,
        "auth_token": arguments.token_file and _token(arguments.token_file),
    }
    body = {name: value for name, value in wish.items() if value is not None}
    job = client.post("jobs", arguments.id, "retranscribe", body=body)
    if arguments.json:
        output.print_json(job)
        return
    folder = job["retranscription"]["artifacts"]
    print(f"job {job['id']} is transcribed again; `jobs show` tells how it went, its files will be")
    print(f"  {folder}transcript.vtt, .txt, .json, .srt and .md (`jobs artifacts` fetches them)")


def _row(job: Mapping[str, Any]) -> tuple[Any, ...]:
    lasted_ms = job["stop_at"] - job["start_at"] if "stop_at" in job else None
    lasted = None if lasted_ms is None else output.lasting(lasted_ms / 1000)
    created = output.moment(job["start_at"])
    return (
        *(job["id"], job["type"], owner(job)),
        *(job["state"], job["stop_reason"], job["exit_code"]),
        *(created, lasted, "; ".join(filter(None, [_result(job), _fate(job)])) or "-"),
    )


def owner(job: Mapping[str, Any]) -> str | None:
    """Whose it is; None: the running service is of an older release, which does not say."""
    client_id: str | None = job.get("client_id")
    return "(admin)" if client_id == "" else client_id


def _fate(job: Mapping[str, Any]) -> str:
    return "on hold" if job.get("hold") else "to be deleted" if job.get("deletion") else ""


def _deletion(job: Mapping[str, Any]) -> str:
    """In words; empty: nobody holds it or wants it deleted, or an older release is running."""
    if reason := job.get("hold"):
        return f"on hold: exempt from every deletion ({reason})"
    deletion = job.get("deletion")
    if not deletion:
        return ""
    return f"to be deleted {deletion['when']}; asked for {output.moment(deletion['requested_at'])}"


def _result(job: Mapping[str, Any]) -> str:
    publication = job.get("publication")
    if publication:
        return f"{publication['state']}, {publication['attempts']} attempts"
    return "unpublished" if job["unpublished"] else ""


def _fetch(client: ServiceClient, arguments: argparse.Namespace) -> None:
    if arguments.output is not None and not arguments.output.is_dir():
        raise BadUsage(f"--output {arguments.output}: should be a directory")
    fetched = []
    for name in arguments.name:
        target = (arguments.output or Path()) / Path(name).name
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise CommandFailed(f"{target}: exists already: move it or use --output") from error
        except OSError as error:
            raise CommandFailed(f"{target}: cannot be written: {error.strerror}") from error
        complete = False
        try:
            with (
                os.fdopen(descriptor, "wb") as file,
                client.stream("jobs", arguments.id, "artifacts", name) as chunks,
            ):
                for chunk in chunks:
                    file.write(chunk)
            complete = True
        finally:
            if not complete:
                target.unlink(missing_ok=True)
        fetched.append({"name": name, "path": str(target), "size_bytes": target.stat().st_size})
    if arguments.json:
        output.print_json({"fetched": fetched})
        return
    for item in fetched:
        print(f"{item['path']}  {output.size(int(item['size_bytes']))}")


def _token(path: Path) -> str:
    """From a file or standard input: arguments can be read by everybody on the host."""
    try:
        data = sys.stdin.buffer.read(_TOKEN_LIMIT_BYTES) if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"--token-file {path}: cannot be read: {error.strerror}") from error
    token = data.decode(errors="replace").strip()
    if not re.fullmatch(r"[!-~]{1,1024}", token):
        raise CommandFailed(f"--token-file {path}: should hold one token and nothing else")
    return token


def _options(path: Path) -> dict[str, Any]:
    """From a file or standard input, for they hold keys."""
    try:
        data = (
            sys.stdin.buffer.read(_OPTIONS_LIMIT_BYTES) if str(path) == "-" else path.read_bytes()
        )
        document = json.loads(data)
    except OSError as error:
        raise CommandFailed(f"--engine-options {path}: cannot be read: {error.strerror}") from error
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CommandFailed(f"--engine-options {path}: should hold one JSON object")
    return document


def _since(text: str | None, now: datetime) -> str | None:
    """`2h` means two hours ago; anything else is for the service to read."""
    if text is None:
        return None
    try:
        age = parse_retention(text)
    except ValueError:
        return text
    return (now - (age or timedelta(0))).isoformat()

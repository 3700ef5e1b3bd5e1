"""`offloader clients …`: who may use the service."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from pathlib import Path
from typing import Any, Final

from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.cli.requests import ServiceClient

_KEY_LIMIT_BYTES: Final = 4096


def list_clients(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """The registered clients."""
    document = client.get("admin", "clients")
    if arguments.json:
        output.print_json(document)
        return
    rows = [(entry["clientID"], entry["live_jobs"]) for entry in document["clients"]]
    output.print_table(("client", "running jobs"), rows, empty="no clients are registered")


def add(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Register a client, with a new random key or the given one."""
    _change(client, arguments, "add", "is registered")


def rotate(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Give a client another key; the old one and its sessions end at once."""
    _change(client, arguments, "rotate", "has a new key; the old one has ended")


def revoke(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Forget a client; its jobs go on."""
    document = client.post("admin", "clients", "revoke", body={"clientID": arguments.client_id})
    if arguments.json:
        output.print_json(document)
        return
    print(f"client {output.shown(arguments.client_id)} is forgotten; its running jobs go on")
    if document["may_come_back"]:
        print(
            "note: api.security.allow_self_registration is on: its next request registers it again; "
            "switch that off, or use `clients rotate` to lock it out"
        )


def adopt(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Give a client the jobs that earlier registrations of its name left."""
    document = client.post("admin", "clients", "adopt", body={"clientID": arguments.client_id})
    if arguments.json:
        output.print_json(document)
        return
    count = document["jobs"]
    jobs = "1 job" if count == 1 else f"{count} jobs"
    print(f"client {output.shown(arguments.client_id)} has {jobs} of earlier registrations now")


def _change(client: ServiceClient, arguments: argparse.Namespace, action: str, done: str) -> None:
    given = _given_key(arguments.key_file) if arguments.key_file else None
    key = given or secrets.token_urlsafe(32)
    body = {"clientID": arguments.client_id, "authKey": key}
    document: dict[str, Any] = client.post("admin", "clients", action, body=body)
    if arguments.json:
        output.print_json(document | ({} if given else {"authKey": key}))
        return
    print(f"client {output.shown(arguments.client_id)} {done}")
    if given is None:
        print(f"its key, shown this once: {key}")


def _given_key(path: Path) -> str:
    """From a file or standard input: arguments can be read by everybody on the host."""
    try:
        data = sys.stdin.buffer.read(_KEY_LIMIT_BYTES) if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"--key-file {path}: cannot be read: {error.strerror}") from error
    key = data.decode(errors="replace").strip()
    if not re.fullmatch(r"[!-~]{32,1024}", key):
        raise CommandFailed(
            f"--key-file {path}: should hold one key of at least 32 visible ASCII characters"
        )
    return key

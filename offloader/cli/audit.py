"""`offloader audit …`: is the record of who did what still what was written?"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

from offloader.audit_chain import verify as verify_chain
from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.settings import load_settings


def verify(arguments: argparse.Namespace) -> None:
    """Verify the chain of `audit.file` or of the file that is named.

    Raises:
        CommandFailed: a line is wrong, it cannot be read, or there is no audit.
    """
    path: Path | None = arguments.file
    if path is None:
        path = load_settings(arguments.config, os.environ).audit.path
    if path is None:
        raise CommandFailed("audit.file is empty: nothing is recorded; name a FILE to verify one")
    try:
        found = verify_chain(path.absolute())
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be read: {error.strerror or error}") from error
    if arguments.json:
        output.print_json(dataclasses.asdict(found))
    if found.broken:
        raise CommandFailed(f"the audit was changed: {found.broken}")
    if arguments.json:
        return
    files = "1 file" if found.files == 1 else f"{found.files} files"
    print(f"{path}: good: lines {found.first_seq} to {found.last_seq} in {files}")
    print(f"SHA-256 of the last one: {found.digest}")
    if found.unfinished:
        print(
            "note: behind it a line has no end: it is being written now, or was when a process ended"
        )

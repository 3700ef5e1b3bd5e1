"""`offloader store …`: make a backup of the database, restore one, look whether it is whole."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from offloader.audit_chain import verify as verify_audit
from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.settings import Settings, default_state_dir, load_settings
from offloader.store import backup as backups
from offloader.store.database import embedded_file, server_as_it_is
from offloader.store.examine import Examined, examine, examine_file
from offloader.store.key_place import VARIABLE, KeyPlace
from offloader.store.migrate import HEAD
from offloader.store.postgresql import shown as shown_url
from offloader.store.sqlite_file import key_file_of


def backup(arguments: argparse.Namespace) -> None:
    """Write FILE while the service runs or not; say what else is needed to restore it.

    Raises:
        CommandFailed: the key file is to be in it, and there is none.
    """
    settings = load_settings(arguments.config, os.environ)
    key = _key_place(settings)
    if arguments.with_key and (key.in_environment or not key.file.exists()):
        place = f"environment {VARIABLE}" if key.in_environment else f"no {key.file}"
        raise CommandFailed(
            f"--with-key: the key is not in a file ({place}): leave the option out, and keep the key yourself"
        )
    target: Path = arguments.file.absolute()
    with_key = key if arguments.with_key else None
    manifest = asyncio.run(backups.take(settings.data_source, target, key=with_key))
    size_bytes = target.stat().st_size
    needs = "" if with_key else _needed_key(key)
    if arguments.json:
        output.print_json(
            {
                "file": str(target),
                "size_bytes": size_bytes,
                **dataclasses.asdict(manifest),
                "with_key": with_key is not None,
                "needs": needs,
            }
        )
        return
    print(f"{target}: {output.size(size_bytes)}, schema {manifest.schema or 'none'}")
    if with_key is not None:
        print("the key is in it: whoever has this file can read the stored tokens")
    else:
        print(
            f"the key is not in it; keep it elsewhere, stored tokens are lost without it: {needs}"
        )


def restore(arguments: argparse.Namespace) -> None:
    """Put FILE in the place of the database, which is kept aside."""
    settings = load_settings(arguments.config, os.environ)
    key = _key_place(settings)
    done = asyncio.run(backups.restore(settings.data_source, arguments.file.absolute(), key=key))
    found = asyncio.run(_examined(settings, key))
    if arguments.json:
        output.print_json(
            {
                **dataclasses.asdict(done),
                "secrets": found.secrets,
                "unreadable": found.unreadable,
            }
        )
        return
    print(f"{_shown(settings)}: restored, schema {done.schema or 'none'}")
    if done.replaced:
        print(f"what was there is kept as {done.replaced}: remove it when all is well")
    if done.key == "restored":
        print(f"the key of the backup is now {key.file}")
    if found.unreadable:
        print(
            f"warning: {found.unreadable} of {found.secrets} stored secrets cannot be opened by the key here "
            f"({_needed_key(key)}): what is not published yet waits for the next call of its site"
        )


def check(arguments: argparse.Namespace) -> None:
    """Look the database over, or the backup FILE. Changes nothing; the service may run.

    Raises:
        CommandFailed: there is a problem.
    """
    settings = load_settings(arguments.config, os.environ)
    key = _key_place(settings)
    if arguments.file is not None:
        place = str(arguments.file)
        found = backups.examine_backup(arguments.file.absolute(), key=key)
        problems = list(found.problems)
    else:
        place = _shown(settings)
        found = asyncio.run(_examined(settings, key))
        problems = [*found.problems, *_audit_problems(settings)]
    if arguments.json:
        document: dict[str, Any] = {"store": place, "known": HEAD, **dataclasses.asdict(found)}
        output.print_json({**document, "problems": problems})
    else:
        for text in problems:
            print(f"error: {text}")
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CommandFailed(f"{place}: {count}")
    if not arguments.json:
        print(f"{place}: good: schema {found.schema}, {found.secrets} stored secrets can be opened")
        if found.schema != HEAD:
            print(f"note: the next start of the service brings its schema to {HEAD}")


async def _examined(settings: Settings, key: KeyPlace) -> Examined:
    file = embedded_file(settings.data_source)
    if file is not None:
        return await asyncio.to_thread(examine_file, file, key)
    async with (
        server_as_it_is(settings.data_source) as database,
        database.read() as connection,
    ):
        return await connection.run_sync(examine, key)


def _audit_problems(settings: Settings) -> Iterator[str]:
    """The audit lies beside the store and goes its own way: a restored database takes nothing of it."""
    path = settings.audit.path
    if path is None or not path.exists():
        return
    try:
        if broken := verify_audit(path).broken:
            yield f"the audit was changed: {broken}"
    except OSError as error:
        yield f"{path}: cannot be read: {error.strerror or error}"


def _key_place(settings: Settings) -> KeyPlace:
    file = embedded_file(settings.data_source)
    beside = key_file_of(file) if file else default_state_dir(os.environ) / "offloader.key"
    return KeyPlace(os.environ, beside)


def _needed_key(key: KeyPlace) -> str:
    return f"environment {VARIABLE}" if key.in_environment else str(key.file)


def _shown(settings: Settings) -> str:
    file = embedded_file(settings.data_source)
    if file is not None:
        return str(file)
    try:
        return shown_url(make_url(settings.data_source))
    except (ArgumentError, ValueError):
        return "store.data_source"  # opening it says what is wrong

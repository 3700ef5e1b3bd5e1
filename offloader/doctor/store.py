"""Step `store`: can the database be reached and written, is it whole, of which schema, in which place."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.machine import existing, mount_of, of_another_user, owner_of, size, user_name
from offloader.doctor.step import Context, Step, aside
from offloader.settings import SWEPT
from offloader.store import sqlite_file
from offloader.store.key_place import VARIABLE
from offloader.store.migrate import HEAD

_WHAT: Final = "store.data_source"
_LITTLE_BYTES: Final = 256 << 20
_TOO_LITTLE_BYTES: Final = 16 << 20
_SHORTEST_KEY: Final = 32
_BUSY_S: Final = 3.0


async def look(context: Context) -> Sequence[Finding]:
    """SQLite as a file, PostgreSQL by a connection, and the key of the jobs' tokens."""
    source = context.settings.data_source
    scheme = source.partition("://")[0]
    if "://" in source and not scheme.startswith("sqlite"):
        from offloader.doctor.store_server import look_at_server

        found = await look_at_server(source)
        shared = True
    else:
        path = sqlite_file.file_of(source.rpartition("///")[2] if "://" in source else source)
        found = await aside(lambda: list(_file(path, context)))
        shared = False
    return [*found, *_key(context, shared=shared)]


def _file(path: Path, context: Context) -> Iterator[Finding]:
    yield from _place(path, context)
    directory = existing(path.parent)
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        owner = owner_of(directory)
        if of_another_user(directory):
            why = f"{directory} is {owner}'s: sudo -u {owner} offloader doctor --only store"
            yield skipped("store_other_user", _WHAT, why)
            return
        yield failure(
            "store_unwritable",
            _WHAT,
            f"{directory}: owned by {owner}, not writable for {user_name()}",
            cause="SQLite needs to write into the directory, not only into the file",
            fix=(f"sudo install -d -m 700 -o calls-offloader {path.parent}",),
        )
        return
    if not os.path.exists(path):
        yield note(
            "store_not_there_yet",
            _WHAT,
            f"{path}: no such file",
            cause="the service makes it at its first start; one that runs already has another one",
            fix=("offloader config show | grep store.data_source",),
        )
        return
    yield from _content(path)
    if context.settings.jobs.api_type in ("kubernetes", "celery"):
        yield note(
            "store_one_replica",
            _WHAT,
            "SQLite",
            cause="one replica of the service only: more need PostgreSQL",
            fix=('store.data_source = "postgresql://USER:PASSWORD@HOST/DATABASE"',),
        )


def _place(path: Path, context: Context) -> Iterator[Finding]:
    if any(swept in path.parents for swept in SWEPT):
        yield warning(
            "store_swept",
            _WHAT,
            str(path),
            cause="the system empties this place from time to time: clients and jobs are forgotten",
            fix=(
                "sudo systemctl stop calls-offloader",
                "sudo install -d -m 700 -o calls-offloader /var/lib/calls-offloader",
                f"sudo mv {shlex.quote(str(path))}* /var/lib/calls-offloader/   # -wal, -shm, .key, too",
                f'store.data_source = "/var/lib/calls-offloader/{path.name}"',
            ),
        )
    mount = mount_of(path, root=context.root)
    if mount is not None and mount.remote:
        yield failure(
            "store_remote_disk",
            _WHAT,
            f"{mount.place}: {mount.kind}",
            cause="SQLite's log cannot be kept on a network file system: it breaks",
            fix=("a local directory, or PostgreSQL: store.data_source = postgresql://…",),
        )
    free_bytes = os.statvfs(existing(path)).f_bavail * os.statvfs(existing(path)).f_frsize
    told = {"free_bytes": free_bytes}
    if free_bytes < _LITTLE_BYTES:
        make = failure if free_bytes < _TOO_LITTLE_BYTES else warning
        yield make(
            "store_disk_low",
            _WHAT,
            f"{size(free_bytes)} free",
            cause="when it is full no job is admitted and no end of a job is stored",
            fix=(f"df -h {existing(path)}",),
            data=told,
        )
    else:
        yield ok("store_disk", "disk of the database", f"{size(free_bytes)} free", data=told)


def _content(path: Path) -> Iterator[Finding]:
    began_s = time.monotonic()
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as connection:
            whole = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            step = _schema(connection)
    except sqlite3.Error as error:
        if not sqlite_file.is_damage(error):
            yield failure(
                "store_unusable",
                _WHAT,
                f"{path}: {sqlite_file.explained(error)}",
                cause="the service cannot open it either, or another process holds it",
                fix=(f"ls -l {path.parent}", f"fuser -v {path}"),
            )
            return
        whole, step = str(error), None
    if whole != "ok":
        yield failure(
            "store_damaged",
            _WHAT,
            f"{path}: {whole}",
            cause="the service keeps it aside at its next start and begins anew; plugins register again",
            fix=(
                "systemctl stop calls-offloader",
                f"restore your backup to {path}, and remove {path.name}-wal and {path.name}-shm",
            ),
        )
        return
    took_s = time.monotonic() - began_s
    yield schema_finding(step, f"SQLite {path}, {size(path.stat().st_size)}", took_s=took_s)


def schema_finding(step: str | None, shown: str, *, took_s: float) -> Finding:
    """What the recorded step of the schema means to this release; None: there is none."""
    data = {"schema": step, "newest": HEAD, "took_s": round(took_s, 4)}
    if step is not None and step.isdigit() and int(step) > int(HEAD):
        return failure(
            "store_later_schema",
            _WHAT,
            f"{shown}: schema {step}, this release knows {HEAD}",
            cause="a later release has used it: this one refuses to start",
            fix=(
                "start that release again, or offloader store restore FILE of before its upgrade",
            ),
            data=data,
        )
    if step != HEAD:
        return note(
            "store_old_schema",
            _WHAT,
            f"{shown}: schema {step or 'none'}",
            cause=f"the next start brings it to {HEAD}; there is no way back but a backup",
            fix=("offloader store backup FILE",),
            data=data,
        )
    return ok("store_good", _WHAT, f"{shown}: whole, schema {step}", data=data)


def _schema(connection: sqlite3.Connection) -> str | None:
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return None if row is None else str(row[0])


def _key(context: Context, *, shared: bool) -> Iterator[Finding]:
    given = context.environ.get(VARIABLE, "")
    if given and len(given) < _SHORTEST_KEY:
        yield failure(
            "store_key_short",
            VARIABLE,
            f"{len(given)} characters",
            cause=f"it should have at least {_SHORTEST_KEY}: the service does not start",
            fix=("openssl rand -base64 32",),
        )
    if given:
        return
    if shared:
        yield warning(
            "store_key_own",
            VARIABLE,
            "not in this environment",
            cause="replicas without a common key cannot read each other's tokens: results wait",
            fix=(f"{VARIABLE}=$(openssl rand -base64 32), the same for every replica and worker",),
        )
        return
    source = context.settings.data_source
    if "://" in source:
        return
    key_file = sqlite_file.key_file_of(sqlite_file.file_of(source))
    try:
        mode = stat.S_IMODE(key_file.stat().st_mode)
    except OSError:
        return  # made at the first start, or out of this user's sight
    if mode & 0o077:
        yield warning(
            "store_key_readable",
            "key of the jobs' tokens",
            f"{key_file}: mode {mode:04o}",
            cause="others on this host can read the key under which tokens are stored",
            fix=(f"chmod 600 {key_file}",),
        )


STORE: Final = Step("store", "Database", look, timeout_s=20)

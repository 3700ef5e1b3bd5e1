"""`--write`: measured values into the configuration file, whose comments stay; a copy is kept."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offloader.settings import read_settings

_NEW_MODE: Final = 0o644
"""The service's user has to read a file that root makes; measured values are no secrets."""


class CannotWrite(Exception):
    """The file cannot be changed; the text says why."""


def changed(path: Path, values: Mapping[str, Any]) -> tuple[str, str]:
    """The file's text now, and with `values` (dotted key to value); a missing file is empty.

    What the file says already stays as it is written, so a second time changes nothing.

    Raises:
        CannotWrite: it cannot be read, or is no TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        before = _text(path)
        document: Any = tomlkit.parse(before)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise CannotWrite(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    present = tomllib.loads(before)
    for key, value in values.items():
        if _found(present, key) != value:
            _set(document, key.split("."), value)
    return before, tomlkit.dumps(document)


def diff(path: Path, before: str, after: str) -> str:
    """Unified; empty: nothing changes."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        fromfile=str(path),
        tofile=f"{path} (measured)",
    )
    return "".join(lines)


def write(path: Path, before: str, after: str, environ: Mapping[str, str]) -> Path | None:
    """Replace the file; the copy of the former one as `NAME.bak`, None where there was none.

    Owner and mode stay. Nothing is written that the service would refuse, or over what somebody else has
    written meanwhile.

    Raises:
        CannotWrite: no right, no room, changed meanwhile, or the values are refused.
    """
    try:
        if _text(path) != before:
            raise CannotWrite(f"{path}: somebody has changed it meanwhile: try again")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}") from error
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after.encode())
            file.flush()
            os.fsync(file.fileno())
        if problems := read_settings(fresh, environ).problems:
            text = str(problems[0]).replace(str(fresh), str(path))
            raise CannotWrite(f"not written, the service would refuse it: {text}")
        backup = _keep(path)
        if backup is None:
            fresh.chmod(_NEW_MODE)
        else:
            shutil.copymode(path, fresh)
            status = path.stat()
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(fresh, status.st_uid, status.st_gid)
        fresh.replace(path)
        return backup
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()


def _keep(path: Path) -> Path | None:
    if not path.exists():
        return None
    backup = path.with_name(f"{path.name}.bak")
    # Nobody else may read it at any moment: there are secrets in it.
    os.close(os.open(backup, os.O_CREAT | os.O_WRONLY, 0o600))
    shutil.copy2(path, backup)
    return backup


def _text(path: Path) -> str:
    """With its line ends as they are; empty: there is none. Raises OSError, UnicodeDecodeError."""
    return path.read_bytes().decode() if path.exists() else ""


def _found(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _set(table: Any, parts: list[str], value: Any) -> None:
    """Into the table that is there, else into a new one at the end."""
    import tomlkit

    for number, part in enumerate(parts[:-1]):
        if part not in table:
            table[part] = tomlkit.table()
            if number == 0:
                table[part].comment("by `offloader doctor --write`")
        table = table[part]
    table[parts[-1]] = value

"""What the job service tells a job of ours: one file that its user alone can read, else the environment.

The token and everything else that a client sent then stand neither in `/proc/*/environ` nor in what an engine
tells about its containers (docs/job-contract.md 1). Imports next to nothing: `jobs.container` does, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

INPUT_VARIABLE: Final = "JOB_INPUT_FILE"
_MOST_BYTES: Final = 1 << 20
_PROCESS_WIDE: Final = re.compile(
    r"(HTTP|HTTPS|NO|ALL)_PROXY|LOG_LEVEL|AWS_[A-Z0-9_]+|OTEL_[A-Z0-9_]+"
)
"""What libraries, and programs that a job starts, look for in the process's own environment. Clients can set
none of them but LOG_LEVEL."""


class InputError(ValueError):
    """The file cannot be read or holds something else; the message names it and nothing of its content."""


def take_input(environ: MutableMapping[str, str]) -> Mapping[str, str]:
    """The job's variables: those of `environ`, and over them those of the file that JOB_INPUT_FILE names.

    The file is removed where that can be done: what was read is not needed on a disk any more. `environ` gets
    of it what libraries look for there, and never the token. Blocks.

    Raises:
        InputError: there should be one, and it is of no use.
    """
    text = environ.get(INPUT_VARIABLE, "")
    if not text:
        return environ
    path = Path(text)
    variables = read_input(path)
    with suppress(OSError):  # a mounted Secret goes with its Job
        path.unlink()
    environ.update({n: value for n, value in variables.items() if _PROCESS_WIDE.fullmatch(n)})
    return {**environ, **variables}


def read_input(path: Path) -> dict[str, str]:
    """What the file holds. Blocks.

    Raises:
        InputError: it is of no use.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{INPUT_VARIABLE}={path}: cannot be read: {error.strerror}") from None
    variables = parse_input(content) if len(content) <= _MOST_BYTES else None
    if variables is None:
        raise InputError(f"{INPUT_VARIABLE}={path}: should hold a JSON object of texts")
    return variables


def write_input(path: Path, variables: Mapping[str, str]) -> None:
    """Put it where `take_input` looks, readable for this user alone. Blocks. Raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(dict(variables), file, ensure_ascii=False)


def parse_input(document: bytes) -> dict[str, str] | None:
    """Variables and their texts; None for anything but a JSON object of texts."""
    try:
        variables = json.loads(document)
    except (ValueError, RecursionError):
        return None
    if not isinstance(variables, dict):
        return None
    return variables if all(isinstance(text, str) for text in variables.values()) else None

"""The entry of our images: `python -m jobs.container recorder|transcriber [salvage DIR]`.

When the job service says so (JOB_SECRETS=stdin), secrets come through standard input, as one JSON object of
variables: AUTH_TOKEN goes into the file that AUTH_TOKEN_FILE names, on a tmpfs, the others into the
environment of this very process. So neither the container's description nor its volume ever holds them.
Under any other service the job finds its environment as that service made it (docs/job-contract.md 1).
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final

_PROGRAMS: Final = ("recorder", "transcriber")
_USAGE: Final = "usage: python -m jobs.container recorder|transcriber [salvage DIRECTORY]\n"
_WAIT_S: Final = 30.0
"""The service sends secrets before it starts the container; so long only the slowest host needs."""
_MOST_BYTES: Final = 1 << 20


class NoSecrets(Exception):
    """They did not come, or not in their form; the message says which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the job's exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in _PROGRAMS:
        sys.stderr.write(_USAGE)
        return 2
    if os.environ.pop("JOB_SECRETS", "") == "stdin":
        try:
            take_secrets(receive(sys.stdin.fileno(), wait_s=_WAIT_S), os.environ)
        except NoSecrets as error:
            sys.stderr.write(f"the job's secrets did not arrive: {error}\n")
            return 1
    _close_standard_input()
    if given[0] == "recorder":
        from jobs.recorder.__main__ import main as run
    else:
        from jobs.transcriber.__main__ import main as run
    return run(given[1:])


def receive(descriptor: int, *, wait_s: float) -> bytes:
    """Everything up to the end of the stream. Blocks.

    Raises:
        NoSecrets: it does not end in time, or is too long.
    """
    received = bytearray()
    give_up_s = time.monotonic() + wait_s
    while True:
        left_s = max(give_up_s - time.monotonic(), 0.0)
        if not select.select([descriptor], [], [], left_s)[0]:
            raise NoSecrets(f"standard input did not end within {wait_s:g} s")
        part = os.read(descriptor, 65536)
        if not part:
            return bytes(received)
        received += part
        if len(received) > _MOST_BYTES:
            raise NoSecrets("there are too many of them")


def take_secrets(document: bytes, environ: MutableMapping[str, str]) -> None:
    """Put them where the job looks for them. Blocks.

    Raises:
        NoSecrets: not a JSON object of texts, or the token's file cannot be written.
    """
    try:
        secrets = json.loads(document)
    except ValueError:
        raise NoSecrets("standard input held no JSON object") from None
    if not isinstance(secrets, dict) or not all(isinstance(text, str) for text in secrets.values()):
        raise NoSecrets("standard input held no JSON object of texts")
    token = secrets.pop("AUTH_TOKEN", None)
    environ.update(secrets)
    if token is None:
        return
    path = Path(environ.get("AUTH_TOKEN_FILE", ""))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(token)
    except OSError as error:
        raise NoSecrets(f"AUTH_TOKEN_FILE={path}: {error.strerror}") from error


def _close_standard_input() -> None:
    """Jobs are promised that it is /dev/null."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())

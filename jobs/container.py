"""The entry of our images: `python -m jobs.container recorder|transcriber [salvage DIR]`.

When the job service says so (JOB_SECRETS=stdin), what the job is told comes through standard input, as one
JSON object of variables, and goes into the file that JOB_INPUT_FILE names, on a tmpfs. It is nowhere in the
container's description, in its volume or below `/proc`. A service of an earlier release names no such file;
then AUTH_TOKEN goes into the one that AUTH_TOKEN_FILE names, and the others into this process's environment.
Under any other service the job finds its environment as that service made it (docs/job-contract.md 1).

The job runs in a child of this process. When something kills that child, this process, which has imported
next to nothing, finishes the job from what it left on disk: at once, and under any service.
"""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from foundation.tracebacks import hide_texts_of_uncaught, traceback_text
from jobs.job_input import INPUT_VARIABLE, InputError, parse_input, read_input, write_input

_ID: Final = re.compile(r"[a-z0-9]{26}")
_PROGRAMS: Final = ("recorder", "transcriber")
_USAGE: Final = "usage: python -m jobs.container recorder|transcriber [salvage DIRECTORY]\n"
_WAIT_S: Final = 30.0
"""The service sends secrets before it starts the container; so long only the slowest host needs."""
_MOST_BYTES: Final = 1 << 20
_BY_SIGNAL: Final = 128
"""Added to a signal's number it is an exit code."""
_AWAITED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
"""By the parent: the first two are passed on to the job."""
CRASHED_VARIABLE: Final = "JOB_CRASHED"
"""Set for `salvage` when the job was killed just now: the people in the call should know."""


class NoSecrets(Exception):
    """They did not come, or not in their form; the message says which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the job's exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in _PROGRAMS:
        sys.stderr.write(_USAGE)
        return 2
    hide_texts_of_uncaught()
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold speech and the token
    told: Mapping[str, str] = {}
    if os.environ.pop("JOB_SECRETS", "") == "stdin":
        try:
            told = take_secrets(receive(sys.stdin.fileno(), wait_s=_WAIT_S), os.environ)
        except NoSecrets as error:
            sys.stderr.write(f"the job's secrets did not arrive: {error}\n")
            return 1
    _close_standard_input()
    program, arguments = given[0], given[1:]
    if arguments:
        return _run(program, arguments)
    return Parent(program, told).run()


class Parent:
    """Runs the job, and `salvage` when the job is killed. `run` once, in the main thread."""

    def __init__(self, program: str, told: Mapping[str, str] | None = None) -> None:
        """`told`: for the file that each of them finds anew; none: they have it otherwise."""
        self._program = program
        self._told = told or {}
        self._asked = False

    def run(self) -> int:
        """Returns the job's exit code; 128 + n when signal n ended it, whatever became of its result."""
        # Blocked and waited for: a handler could be late, where a signal comes just before a blocking call.
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        known = {**_mounted(), **self._told}
        code = self._wait(self._start([]))
        directory = _directory(self._program, known)
        # Who was asked to end and is killed had its grace; the service finishes that one.
        if code > _BY_SIGNAL and not self._asked and (directory / "job.json").exists():
            sys.stderr.write(f"the job was ended by signal {code - _BY_SIGNAL}: finishing it\n")
            os.environ[CRASHED_VARIABLE] = "1"
            if self._told:
                with suppress(NoSecrets):  # `salvage` says what is missing
                    _put(self._told, os.environ)  # the job has removed its own
            self._wait(self._start(["salvage", str(directory)]))
        return code

    def _start(self, arguments: list[str]) -> int:
        """In a fork: this process has one thread and no state, and nothing is imported twice."""
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
            os._exit(_exit_code_of(self._program, arguments))
        return child

    def _wait(self, child: int) -> int:
        """Until `child` has ended; as the container's first process this one reaps orphans, too."""
        while True:
            number = signal.sigwait(_AWAITED)
            if number != signal.SIGCHLD:
                self._asked = True
                os.kill(child, number)  # not reaped yet, so the number is still its own
                continue
            # One signal may stand for several ends.
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                if pid == child:
                    if os.WIFSIGNALED(status):
                        return _BY_SIGNAL + os.WTERMSIG(status)
                    return os.waitstatus_to_exitcode(status)


def _exit_code_of(program: str, arguments: list[str]) -> int:
    """Of the child: as the interpreter itself would end."""
    try:
        return _run(program, arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - nobody else would tell of it
        sys.stderr.write(f"{traceback_text(error)}\n")
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _run(program: str, arguments: list[str]) -> int:
    if program == "recorder":
        from jobs.recorder.__main__ import main as run
    else:
        from jobs.transcriber.__main__ import main as run
    return run(arguments)


def _directory(program: str, known: Mapping[str, str]) -> Path:
    """Where the job keeps its files (docs/job-contract.md 4). `known`: of what it is told."""
    variable = "RECORDING_ID" if program == "recorder" else "TRANSCRIPTION_ID"
    name = known.get(variable) or os.environ.get(variable, "")
    return Path(os.environ.get("DATA_DIR") or "/data") / (name if _ID.fullmatch(name) else "")


def _mounted() -> Mapping[str, str]:
    """What the job is told by a file that is there from the beginning; a bad one the job itself names."""
    try:
        return read_input(Path(os.environ[INPUT_VARIABLE])) if INPUT_VARIABLE in os.environ else {}
    except InputError:
        return {}


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


def take_secrets(document: bytes, environ: MutableMapping[str, str]) -> Mapping[str, str]:
    """Put them where the job looks for them. What is to be put there again for whoever finishes it. Blocks.

    Raises:
        NoSecrets: not a JSON object of texts, or the file cannot be written.
    """
    told = parse_input(document)
    if told is None:
        raise NoSecrets("standard input held no JSON object of texts")
    if INPUT_VARIABLE in environ:
        _put(told, environ)
        return told
    token = told.pop("AUTH_TOKEN", None)
    environ.update(told)
    if token is not None:
        path = Path(environ.get("AUTH_TOKEN_FILE", ""))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(token)
        except OSError as error:
            raise NoSecrets(f"AUTH_TOKEN_FILE={path}: {error.strerror}") from error
    return {}


def _put(told: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Raises NoSecrets: the file cannot be written."""
    path = Path(environ[INPUT_VARIABLE])
    try:
        write_input(path, told)
    except OSError as error:
        raise NoSecrets(f"{INPUT_VARIABLE}={path}: {error.strerror}") from error


def _close_standard_input() -> None:
    """Jobs are promised that it is /dev/null."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())

"""What a command may fail with, and the exit codes of all commands.

0  done
1  refused or failed; one sentence on standard error says why and what to do
2  bad usage
3  the service cannot be reached
"""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
BAD_USAGE: Final = 2
UNREACHABLE: Final = 3


class CommandFailed(Exception):
    """The text is for a person: what is wrong and what to do."""

    exit_code = FAILED


class Refused(CommandFailed):
    """The service answered with an error."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


class BadUsage(CommandFailed):
    """The arguments do not go together."""

    exit_code = BAD_USAGE


class ServiceUnreachable(CommandFailed):
    """Nobody answers there, or not in time."""

    exit_code = UNREACHABLE

"""What a log tells of an error that nobody foresaw: its kind and where it came from.

The text of an error may hold what it stumbled over: a token, a name, words that were said. It is told only of
errors of our own kinds, whose texts are written for logs, and of the operating system's, by its number. What
hangs on an error besides (notes, arguments, local variables) is never told. Imports next to nothing, as
`jobs.container` does.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

_OURS: Final = frozenset(
    {"callclient", "clientauth", "foundation", "jobs", "offloader", "rtc", "sfu", "testbed"}
)
"""Packages whose errors have texts without secrets, speech and names."""
_MOST_FRAMES: Final = 40
_MOST_ERRORS: Final = 30
"""Of chains and groups, all together."""


def traceback_text(error: BaseException) -> str:
    """As the interpreter writes it, causes and members of groups included, but for the errors' own texts."""
    return "\n".join(_lines(error, set()))


def render(
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None],
) -> str:
    """`traceback_text` for structlog's `ExceptionRenderer`."""
    return traceback_text(exc_info[1])


def summary(error: BaseException) -> str:
    """One line: its kind, and its text where that can hold nothing of anybody."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    text = _harmless_text(error)
    return f"{name}: {text}" if text else name


def hide_texts_of_uncaught() -> None:
    """What ends this process or one of its threads, or comes from a destructor, is told in the same way, on
    standard error. Hooks that somebody else has put there stay."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda _kind, error, _trace: _write(traceback_text(error))
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _ignored


def _lines(error: BaseException, seen: set[int], *, indent: str = "") -> Iterator[str]:
    seen.add(id(error))
    before, link = error.__cause__, "The above exception was the direct cause of the following one:"
    if before is None and not error.__suppress_context__:
        before, link = error.__context__, "While it was handled, another one occurred:"
    if before is not None and id(before) not in seen and len(seen) < _MOST_ERRORS:
        yield from _lines(before, seen, indent=indent)
        yield from ("", f"{indent}{link}", "")
    if error.__traceback__ is not None:
        yield f"{indent}Traceback (most recent call last):"
        for entry in traceback.format_tb(error.__traceback__, limit=-_MOST_FRAMES):
            yield from (f"{indent}{line}" for line in entry.splitlines())
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions, 1):
            if id(member) not in seen and len(seen) < _MOST_ERRORS:
                yield f"{indent}  --- {number} of {len(error.exceptions)}"
                yield from _lines(member, seen, indent=f"{indent}  ")
    yield f"{indent}{summary(error)}"


def _harmless_text(error: BaseException) -> str:
    if type(error).__module__.partition(".")[0] in _OURS:
        return _said(error)
    if (
        type(error).__module__ == "av.error"
    ):  # FFmpeg's number in words; its text names the file, too
        return str(getattr(error, "strerror", "") or "")
    if not isinstance(error, OSError):
        return ""
    if type(error).__module__ == "ssl":
        return str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or "")
    if type(error).__module__ == "socket":  # names that mean nothing have numbers of their own
        return str(error.strerror or "")
    if isinstance(error.errno, int):
        return f"[Errno {error.errno}] {os.strerror(error.errno)}"
    return ""


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever its text is made by must not hide the error
        return ""


def _thread_ended(arguments: Any) -> None:
    if arguments.exc_type is not SystemExit and arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread is not None else "unknown"
        _write(f"Exception in thread {name}:\n{traceback_text(arguments.exc_value)}")


def _ignored(unraisable: Any) -> None:
    if unraisable.exc_value is not None:
        _write(f"Exception ignored:\n{traceback_text(unraisable.exc_value)}")


def _write(text: str) -> None:
    # None: a process without standard error, or one that is about to end.
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

"""What took how long, as spans of a trace: the port. Nothing is kept or imported unless somebody asks.

Whoever does something that an admin may want to see in a trace calls `step`; it is a child of the step around
it. Without a collector all of this is one lookup of a context variable. `foundation.otlp` sends real spans.

No attribute holds a name, a word that was said, a secret or a URL: numbers, IDs, states and the names of
exception types.
"""

from __future__ import annotations

import re
from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

Attributes = Mapping[str, str | int | float | bool]

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_or_none(text: object) -> str:
    """`text` if it is a `traceparent` (W3C Trace Context, version 00), else empty."""
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else ""


class Span(Protocol):
    """Something that has begun. No method blocks or raises."""

    @property
    def traceparent(self) -> str:
        """By which another process makes children of it; empty when nothing is traced."""

    def child(
        self, name: str, attributes: Attributes | None = None, *, start_ns: int | None = None
    ) -> Span:
        """Something within it, which has begun now, or at `start_ns` since the epoch."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes; numbers, IDs, states."""

    def failed(self, reason: str) -> None:
        """It came to nothing. `reason` is the name of an exception type, or of a state."""

    def end(self, *, at_ns: int | None = None) -> None:
        """It is over, now or since `at_ns` since the epoch. The first end counts."""


class Tracing(Protocol):
    """Where spans go. One per process."""

    @property
    def dropped(self) -> int:
        """Spans that did not arrive so far."""

    def begin(
        self,
        name: str,
        *,
        traceparent: str = "",
        links: Sequence[str] = (),
        start_ns: int | None = None,
        serves: bool = False,
        attributes: Attributes | None = None,
    ) -> Span:
        """A span whose parent is in another process, or that has none.

        `traceparent`, `links`: as `Span.traceparent` gives them; what is none is left out. `serves`: it
        answers a request.
        """

    def close(self, *, limit_s: float) -> None:
        """Send what is left, for so long at most; what is not sent then is dropped and counted. Blocks."""


class NoSpan:
    """Nothing is traced."""

    traceparent: Final = ""

    def child(
        self, name: str, attributes: Attributes | None = None, *, start_ns: int | None = None
    ) -> Span:
        return self

    def note(self, attributes: Attributes) -> None:
        return

    def failed(self, reason: str) -> None:
        return

    def end(self, *, at_ns: int | None = None) -> None:
        return


NO_SPAN: Final[Span] = NoSpan()


class NoTracing:
    """There is no collector."""

    dropped: Final = 0

    def begin(
        self,
        name: str,
        *,
        traceparent: str = "",
        links: Sequence[str] = (),
        start_ns: int | None = None,
        serves: bool = False,
        attributes: Attributes | None = None,
    ) -> Span:
        return NO_SPAN

    def close(self, *, limit_s: float) -> None:
        return


_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current_span() -> Span:
    """The step around the caller; of a task, the one that it was made in."""
    return _current.get()


@contextmanager
def step(name: str, attributes: Attributes | None = None) -> Iterator[Span]:
    """A child of the current span while the block runs; an exception makes it failed and goes on."""
    with within(_current.get().child(name, attributes)) as span:
        yield span


@contextmanager
def within(span: Span) -> Iterator[Span]:
    """`span` is the current one while the block runs, and over with it."""
    token = _current.set(span)
    try:
        yield span
    except CancelledError:
        span.note({"cancelled": True})
        raise
    except BaseException as error:
        span.failed(type(error).__name__)
        status = getattr(error, "status", None)
        if isinstance(status, int):
            span.note({"http.response.status_code": status})
        raise
    finally:
        _current.reset(token)
        span.end()

"""Who turned out to send the request that is being answered: for whoever keeps a record of it.

The HTTP door sets an empty `Caller` where one is kept; authentication and registration fill it in.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class Caller:
    """What is known so far."""

    client_id: str = ""
    admin: bool = False
    claimed: str = ""
    """A registered client whose key was wrong. A name that nobody has is not kept: it may be anything,
    even a key in the wrong field."""
    subject: str = ""
    """The client that was registered or forgotten."""
    registered: bool = False
    """This request has registered `subject`."""


CALLER: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
"""Of this request, shared by all its tasks; None: nobody keeps a record."""


def caller() -> Caller:
    """The present one, or one that nobody reads."""
    return CALLER.get() or Caller()

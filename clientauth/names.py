"""What a new client may be called: its ID becomes a label, a field of log lines, a cell of tables.

Whoever is registered by another name, by an earlier release, keeps it.
"""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 256

WRONG_NAME: Final = (
    f"client id should be 1 to {_LONGEST} printable characters, with no space at either end"
)


def may_be_named(client_id: str) -> bool:
    """Whether a client may register by this ID; `WRONG_NAME` says what is wanted.

    Printable is what Unicode calls so and the space (`str.isprintable`): no control characters, no line ends,
    nothing that turns the direction of writing, no lone surrogates.
    """
    return (
        0 < len(client_id) <= _LONGEST
        and client_id.isprintable()
        and client_id.strip() == client_id
    )

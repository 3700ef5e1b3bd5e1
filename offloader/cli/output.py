"""What commands print: aligned columns for people, JSON for programs.

Names that clients chose, and log lines, never reach a terminal with control characters in them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_CONTROL: Final = bytes(b for b in range(32) if b not in b"\n\t") + b"\x7f"


def print_json(document: Any) -> None:
    """One document, indented."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True, default=_plain) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Columns as wide as they need to be; `empty` when there are no rows."""
    lines = [[shown(cell) for cell in row] for row in rows]
    if not lines:
        print(empty)
        return
    lines.insert(0, [column.upper() for column in columns])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_fields(fields: Mapping[str, Any]) -> None:
    """Name and value on a line each, values aligned; those without a value are left out."""
    given = {name: shown(value) for name, value in fields.items() if value not in (None, "")}
    width = max((len(name) for name in given), default=0)
    for name, value in given.items():
        print(f"{name + ':':{width + 1}}  {value}")


def shown(value: Any) -> str:
    """A value in a line for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(c if c.isprintable() else "?" for c in str(value))


def write_bytes(chunk: bytes) -> None:
    """Give out a part of a log; a terminal does not get its control characters."""
    if sys.stdout.isatty():
        chunk = chunk.translate(None, _CONTROL)
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def moment(epoch_ms: int | None) -> str | None:
    """Local time with its offset: `2026-11-21 15:05:10 +01:00`."""
    if epoch_ms is None:
        return None
    local = datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} {local.isoformat()[-6:]}"


def lasting(seconds: float | None) -> str | None:
    """`45 s`, `12 min`, `3 h 20 min`, `5 d`: as exact as somebody wants to know."""
    if seconds is None:
        return None
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d"


def size(size_bytes: int) -> str:
    """`17 B`, `1.5 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            break
    return f"{amount:.1f} {unit}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)

"""The settings of the audit: `[audit]`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from offloader.setting_reader import Reader


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where, and how long."""

    path: Path | None = None
    """None: nothing is recorded."""
    max_bytes: int = 32 << 20
    retention: timedelta | None = None
    """None: for ever."""
    wanted: bool = False
    """Somebody asked for the file; otherwise a place that cannot be written is only a warning."""


def read_audit(reader: Reader) -> AuditSettings:
    """`audit.*`."""
    path = reader["audit.file"]
    return AuditSettings(
        path=Path(path).absolute() if path else None,
        max_bytes=reader.size("audit.max_size", least=64 << 10),
        retention=reader.retention("audit.retention"),
        wanted=reader.given("audit.file"),
    )


def settings_digest(settings: Any) -> str:
    """SHA-256 of frozen groups of settings, the same for the same ones; secrets are left out of it."""
    text = json.dumps(_plain(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = [field for field in dataclasses.fields(value) if field.repr]
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(map(str, value))
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value

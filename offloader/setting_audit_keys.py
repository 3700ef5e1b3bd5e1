"""The keys `audit.*`: see `setting_keys.py`, whose table they are part of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key

AUDIT_KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "audit.file": Key(
            "str",
            None,
            "AUDIT_FILE",
            "Where it is recorded who did what (docs/audit.md): JSON lines, each with the hash of the one "
            "before. Empty: nowhere. The default lies beside the SQLite file, else in the state directory.",
        ),
        "audit.max_size": Key(
            "size",
            "32MiB",
            "AUDIT_MAXSIZE",
            "Size at which the file is put aside and a new one begun; every day (UTC) as well.",
        ),
        "audit.retention": Key(
            "str",
            "365d",
            "AUDIT_RETENTION",
            "Age at which files put aside are deleted, which the audit says: 90d, 365d; 0 = never.",
        ),
    }
)
